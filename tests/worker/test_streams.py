"""Streams with real runners: batches in order, the cursor in the handler's own transaction, failures, and a person's hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from jobrunner import App, Backoff, Context, Event, Reject, Runner
from jobrunner.errors import ConfigError, OutOfBounds
from tests.conftest import Connection
from tests.support import eventually
from tests.worker.rig import one, terminate

FAST: dict[str, Any] = {"lease": "3s", "poll": "100ms", "grace": "2s"}

pytestmark = pytest.mark.pg16


class Counted(Event, name="counted", key="who"):
    who: str = "a"
    n: int


@pytest.fixture
def app() -> App:
    return App("shop")


def _cursor(conn: Connection) -> int:
    return int(one(conn, "select position from jobrunner.cursors"))


async def test_batches_come_in_order_one_at_a_time_and_each_event_counts_once(
    app: App, dsn: str, conn: Connection
) -> None:
    conn.execute("create table seen (id bigint generated always as identity, n int, batch int)")
    running = most = 0

    @app.stream(Counted, batch=10)
    def note(ctx: Context, events: list[Counted]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        assert [one.position for one in ctx.envelopes] == sorted(one.position for one in ctx.envelopes)
        try:
            with ctx.transaction() as tx:
                rows = [(event.n, len(events)) for event in events]
                tx.cursor().executemany("insert into seen (n, batch) values (%s, %s)", rows)
        finally:
            running -= 1

    async with Runner(app, dsn, **FAST) as runner, Runner(app, dsn, **FAST):
        for first in range(0, 300, 37):
            app.publish_many(conn, [Counted(n=n) for n in range(first, min(first + 37, 300))])
            conn.execute("select jobrunner.publish('other', '{}')")
            await asyncio.sleep(0)
        await runner.wait_idle(20)
        await eventually(lambda: _cursor(conn) >= 300, what="the cursor")

    assert [row[0] for row in conn.execute("select n from seen order by id").fetchall()] == list(range(300))
    assert most == 1
    assert one(conn, "select max(batch) from seen") <= 10


async def test_a_handler_without_a_transaction_moves_the_cursor_when_it_returns(
    app: App, dsn: str, conn: Connection
) -> None:
    got: list[dict[str, Any]] = []

    @app.stream("#", batch=3, start="beginning")
    async def note(ctx: Context, events: list[dict[str, Any]]) -> int:
        got.extend(events)
        return len(events)

    app.publish_many(conn, [Counted(n=n) for n in range(7)])
    async with Runner(app, dsn, **FAST) as runner:
        await runner.wait_idle(10)

    assert [event["n"] for event in got] == list(range(7))
    assert _cursor(conn) == 7


async def test_a_batch_that_fails_is_tried_again_and_nothing_of_it_counts_before(
    app: App, dsn: str, conn: Connection
) -> None:
    conn.execute("create table seen (n int)")
    tries: list[int] = []

    @app.stream(Counted, retry=Backoff(base="1ms"))
    async def note(ctx: Context, events: list[Counted]) -> None:
        tries.append(len(events))
        async with ctx.transaction() as tx:
            for event in events:
                await tx.execute("insert into seen values (%s)", [event.n])
            if len(tries) < 3:
                raise RuntimeError("not yet")

    async with Runner(app, dsn, **FAST) as runner:
        app.publish_many(conn, [Counted(n=n) for n in range(5)])
        await eventually(lambda: one(conn, "select count(*) from seen") == 5, what="the third try")
        await runner.wait_idle(10)

    assert len(tries) >= 3
    assert _cursor(conn) == 5


async def test_a_dead_batch_pauses_the_stream_and_a_person_lets_it_pass_over_the_event(
    app: App, dsn: str, conn: Connection
) -> None:
    conn.execute("create table seen (n int)")

    @app.stream(Counted, batch=4)
    def note(ctx: Context, events: list[Counted]) -> Reject | None:
        if any(event.n == 6 for event in events):
            return Reject("six")
        with ctx.transaction() as tx:
            tx.cursor().executemany("insert into seen values (%s)", [[event.n] for event in events])
        return None

    async with Runner(app, dsn, **FAST) as runner:
        app.publish_many(conn, [Counted(n=n) for n in range(1, 13)])
        await runner.wait_idle(10)
        assert one(conn, "select paused_by from jobrunner.subscriptions") == "on_dead"
        assert _cursor(conn) == 4

        assert one(conn, "select jobrunner.op_skip('shop.note', 6, 'ann', 'poison')") == "skipped"
        conn.execute("select jobrunner.op_resume_subscription('shop.note', 'ann')")
        await eventually(lambda: _cursor(conn) >= 12, what="the end")

    assert [row[0] for row in conn.execute("select n from seen order by n").fetchall()] == [
        1,
        2,
        3,
        4,
        5,
        7,
        8,
        9,
        10,
        11,
        12,
    ]
    assert one(conn, "select skips from jobrunner.cursors") == []


async def test_a_person_who_moves_the_cursor_wins_over_the_batch_under_way(
    app: App, dsn: str, conn: Connection
) -> None:
    """The rewind is committed while a handler works: what it did must not count, and everything is read again."""
    conn.execute("create table seen (n int)")
    began, may_end = asyncio.Event(), asyncio.Event()

    @app.stream(Counted, retry=Backoff(base="1ms"))
    async def note(ctx: Context, events: list[Counted]) -> None:
        began.set()
        await may_end.wait()
        async with ctx.transaction() as tx:
            for event in events:
                await tx.execute("insert into seen values (%s)", [event.n])

    async with Runner(app, dsn, **FAST) as runner:
        may_end.set()
        app.publish_many(conn, [Counted(n=n) for n in (1, 2)])
        await eventually(lambda: one(conn, "select count(*) from seen") == 2, what="the first batch")
        may_end.clear()
        began.clear()
        app.publish(conn, Counted(n=3))
        await began.wait()
        await asyncio.to_thread(conn.execute, "select jobrunner.op_replay('shop.note', 0, _actor => 'ann')")
        may_end.set()
        await eventually(lambda: one(conn, "select count(*) from seen") == 5, what="all of them again")
        await runner.wait_idle(10)

    rows = [row[0] for row in conn.execute("select n from seen order by n").fetchall()]
    assert rows == [1, 1, 2, 2, 3]


async def test_a_crash_between_the_work_and_its_settlement_counts_nothing_twice(
    app: App, dsn: str, conn: Connection
) -> None:
    """The commit of the handler's transaction moves the cursor and ends the job: whatever the runner loses later, it stands."""
    conn.execute("create table seen (n int)")

    @app.stream(Counted, batch=5)
    async def note(ctx: Context, events: list[Counted]) -> None:
        async with ctx.transaction() as tx:
            for event in events:
                await tx.execute("insert into seen values (%s)", [event.n])
        await asyncio.to_thread(_blow)

    blows = 0

    def _blow() -> None:
        nonlocal blows
        with psycopg.connect(dsn, autocommit=True) as other:
            terminate(other, ("claim", "settle")[blows % 2])
        blows += 1

    async with Runner(app, dsn, **FAST) as runner:
        app.publish_many(conn, [Counted(n=n) for n in range(30)])
        await eventually(lambda: _cursor(conn) == 30, deadline=20, what="the end")
        await runner.wait_idle(20)

    assert sorted(row[0] for row in conn.execute("select n from seen").fetchall()) == list(range(30))
    assert blows >= 6


async def test_an_event_that_is_too_new_makes_the_stream_wait_and_spends_nothing(
    app: App, dsn: str, conn: Connection
) -> None:
    @app.stream(Counted)
    async def note(ctx: Context, events: list[Counted]) -> None: ...

    async with Runner(app, dsn, **FAST):
        conn.execute("""select jobrunner.publish('counted', '{"n": 1}', 2::smallint)""")
        await eventually(
            lambda: conn.execute("select from jobrunner.attempts where outcome = 'too_new'").fetchall(), what="a look"
        )

    assert one(conn, "select max(failures) from jobrunner.jobs") == 0
    assert _cursor(conn) == 0


async def test_a_stream_that_is_woken_for_nothing_moves_on(
    app: App, dsn: str, conn: Connection, wait_until: Callable[..., Any]
) -> None:
    @app.stream(Counted, match={"tenant": "a"})
    async def note(ctx: Context, events: list[Counted]) -> None:
        raise AssertionError("nothing is for it")

    async with Runner(app, dsn, **FAST) as runner:
        app.publish_many(conn, [Counted(n=n) for n in range(3)])
        await runner.wait_idle(10)
        assert _cursor(conn) == 3


def test_what_cannot_be_a_stream_is_refused(app: App) -> None:
    with pytest.raises(OutOfBounds, match="batch"):
        app.stream(Counted, batch=0)(lambda ctx, events: None)
    with pytest.raises(ConfigError, match="must take the context"):
        app.stream(Counted)(lambda ctx: None)  # type: ignore[arg-type, misc]
