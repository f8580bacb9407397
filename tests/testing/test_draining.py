"""Drain: what a runner would do, on one connection, in one transaction that is never committed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, assert_type

import psycopg
import pydantic
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from jobrunner import App, Backoff, Cancel, Context, Event, Job, Reject, Retry, Saga, Snooze
from jobrunner.errors import ConfigError, InvalidArguments, OutOfBounds
from jobrunner.testing import Drained, assert_enqueued, drain
from jobrunner.testing.connections import opened
from tests.conftest import Connect, Connection
from tests.testing.shop import ORDER, OTHER, OrderPaid, Shop

Async = psycopg.AsyncConnection[tuple[Any, ...]]


TABLES = (
    "jobs", "finished_jobs", "attempts", "job_links", "job_progress", "job_results", "tasks", "runners", "outbox", "events",
    "subscriptions", "cursors", "replays",
)  # fmt: skip


class Noted(Event, name="noted", key="about"):
    about: str
    n: int = 0


@pytest.fixture
def conn(jobrunner_conn: Connection) -> Connection:
    jobrunner_conn.execute("create table ledger (order_id uuid, amount numeric)")
    jobrunner_conn.execute("create table log (n int)")
    return jobrunner_conn


@pytest.fixture
def aconn(conn: Connection, jobrunner_aconn: Async) -> Async:
    return jobrunner_aconn


@pytest.fixture
def app() -> App:
    return App("shop")


def column(conn: Connection, statement: str) -> list[Any]:
    return [row[0] for row in conn.execute(statement.encode()).fetchall()]


def test_everything_that_follows_from_a_call_has_run(conn: Connection) -> None:
    shop = Shop()
    shop.pay(conn)

    drained = drain(conn, shop.app)

    assert_type(drained, Drained)
    assert drained == Drained(succeeded=4)
    assert repr(drained) == "Drained(succeeded=4)"
    assert sorted(run.task for run in drained.runs) == ["shop.audit", "shop.audit", "shop.post_ledger", "shop.ship"]
    assert shop.seen == [("order.paid", 1), ("ship", Decimal(5)), ("order.shipped", 2)]
    assert column(conn, "select amount from ledger") == [Decimal(5)]
    assert column(conn, "select state from jobrunner.jobs") == ["scheduled"]
    assert column(conn, "select finished_at >= started_at from jobrunner.finished_jobs") == [True] * 4
    assert drain(conn, shop.app) == Drained()


async def test_everything_that_follows_has_run_in_an_event_loop(conn: Connection, aconn: Async) -> None:
    shop = Shop()
    await shop.pay_async(aconn)

    assert_type(await drain(aconn, shop.app), Drained)

    assert shop.seen == [("order.paid", 1), ("ship", Decimal(5)), ("order.shipped", 2)]
    assert column(conn, "select amount from ledger") == [Decimal(5)]
    assert await drain(aconn, shop.app, until="10m") == Drained(succeeded=1)
    assert shop.seen[-1] == ("receipt", ORDER)


def test_a_rollback_leaves_nothing(jobrunner_dsn: str) -> None:
    with opened(jobrunner_dsn) as conn:
        conn.execute("create table ledger (order_id uuid, amount numeric)")
        shop = Shop()
        shop.pay(conn)
        assert drain(conn, shop.app, until="1h") == Drained(succeeded=5)

    with psycopg.connect(jobrunner_dsn) as other:
        left = {table: column(other, f"select count(*) from jobrunner.{table}") for table in TABLES}
        assert left == {table: [0] for table in TABLES}
        assert column(other, "select to_regclass('ledger') is null") == [True]


def test_a_saga_compensates_when_its_time_is_over(jobrunner_dsn: str) -> None:
    """In two transactions at once: the second has the saga's subscription under a name of its own."""

    class State(pydantic.BaseModel):
        paid: bool = False

    with ExitStack() as stack:
        first, second = (stack.enter_context(opened(jobrunner_dsn)) for _ in range(2))
        for conn, about in ((first, "a"), (second, "b")):
            conn.execute("set lock_timeout = '1s'")
            app, undone = App("shop"), list[str]()
            payment = app.saga("payment", state=State)

            @app.task
            def release(ctx: Context, order: str, undone: list[str] = undone) -> None:
                undone.append(order)

            @payment.starts(Noted)
            def begin(saga: Saga[State], event: Noted, release: Any = release) -> None:
                saga.compensations.append(release.job(event.about))
                saga.timeout("15m")

            @payment.on_timeout
            def too_late(saga: Saga[State]) -> None:
                saga.compensate("nobody paid")

            app.publish(conn, Noted(about=about))
            assert drain(conn, app, until="14m") == Drained(succeeded=1)
            assert column(conn, "select status from jobrunner.sagas") == ["running"]
            drain(conn, app, until="15m")
            assert column(conn, "select status from jobrunner.sagas") == ["compensated"]
            assert undone == [about]


def test_two_open_transactions_do_not_wait_for_each_other(jobrunner_dsn: str) -> None:
    """The same service in both: its subscriptions, its streams, its keys."""

    def service() -> tuple[Shop, list[int]]:
        shop, sizes = Shop(), list[int]()

        @shop.app.stream(OrderPaid)
        def totals(ctx: Context, events: list[OrderPaid]) -> None:
            sizes.append(len(events))

        return shop, sizes

    with ExitStack() as stack:
        first, second = (stack.enter_context(opened(jobrunner_dsn)) for _ in range(2))
        for conn in (first, second):
            conn.execute("set lock_timeout = '1s'")
            conn.execute("create temp table ledger (order_id uuid, amount numeric)")
        for _ in range(2):
            for conn in (first, second):
                shop, sizes = service()
                shop.pay(conn)
                assert drain(conn, shop.app) == Drained(succeeded=5)
                assert shop.seen[1:] == [("ship", Decimal(5)), shop.seen[-1]]
                assert sizes == [1]


def test_subscriptions_get_what_was_published_before_the_first_drain(conn: Connection, app: App) -> None:
    """Also those of a second service, whose first drain comes when the events are in the log already."""
    mail, seen = App("mail"), list[str]()

    @app.on(Noted)
    def first(ctx: Context, event: Noted) -> None:
        seen.append(f"first {event.n}")

    @mail.on(Noted, ordered=True)
    def second(ctx: Context, event: Noted) -> None:
        seen.append(f"second {event.n}")

    @mail.stream(Noted)
    def third(ctx: Context, events: list[Noted]) -> None:
        seen.append(f"third {[event.n for event in events]}")

    app.publish_many(conn, [Noted(about="a", n=1), Noted(about="a", n=2)])
    assert drain(conn, app) == Drained(succeeded=2)
    app.publish(conn, Noted(about="a", n=3))
    assert drain(conn, mail) == Drained(succeeded=4)
    assert drain(conn, app, mail) == Drained(succeeded=1)

    assert [one for one in seen if one.startswith("first")] == ["first 1", "first 2", "first 3"]
    assert [one for one in seen if one.startswith("second")] == ["second 1", "second 2", "second 3"]
    assert [one for one in seen if one.startswith("third")] == ["third [1, 2, 3]"]


def test_only_one_that_starts_at_the_beginning_gets_the_log(dsn: str, connect: Connect, app: App) -> None:
    seen: list[str] = []
    with connect() as before:
        app.publish_many(before, [Noted(about="a", n=n) for n in range(3)])
        before.execute("select * from jobrunner.sequence_v1(100)")

    @app.on(Noted, ordered=True, start="beginning")
    def all_of_it(ctx: Context, event: Noted) -> None:
        seen.append(f"all {event.n}")

    @app.on(Noted)
    def from_now_on(ctx: Context, event: Noted) -> None:
        seen.append(f"new {event.n}")

    with opened(dsn) as conn:
        app.publish(conn, Noted(about="a", n=3))
        assert drain(conn, app) == Drained(succeeded=5)

    assert sorted(seen) == ["all 0", "all 1", "all 2", "all 3", "new 3"]
    assert [one for one in seen if one.startswith("all")] == ["all 0", "all 1", "all 2", "all 3"]


def test_a_subscription_that_is_declared_differently_in_the_database_is_refused(dsn: str, connect: Connect) -> None:
    spec = Jsonb({"types": ["order.paid"], "queue": "slow"})
    connect().execute("select jobrunner.subscribe_v1('shop.hear', 'shop', %s, null)", [spec])
    app = App("shop")

    @app.on("noted")
    def hear(ctx: Context, event: dict[str, Any]) -> None: ...

    with (
        opened(dsn) as conn,
        pytest.raises(ConfigError, match=r"^subscription shop\.hear is in this database .* queue is slow"),
    ):
        drain(conn, app)


def test_an_ordered_subscription_waits_for_what_fails(conn: Connection, app: App) -> None:
    seen: list[tuple[str, int]] = []

    @app.on(Noted, ordered=True, retry=Backoff(base="1m"))
    def hear(ctx: Context, event: Noted) -> None:
        if (event.about, event.n, ctx.failures) == ("a", 1, 0):
            raise TimeoutError
        seen.append((event.about, event.n))

    app.publish_many(conn, [Noted(about=about, n=n) for n in range(3) for about in "ab"])

    assert drain(conn, app, raises=False) == Drained(succeeded=4, failed=1)
    assert seen == [("a", 0), ("b", 0), ("b", 1), ("b", 2)]
    assert drain(conn, app, until="1m") == Drained(succeeded=2)
    assert seen[4:] == [("a", 1), ("a", 2)]


def test_time_passes_in_its_order_up_to_the_end_that_was_asked_for(conn: Connection, app: App) -> None:
    tries: list[str] = []

    @app.task(retry=Backoff(attempts=4, base="10s", factor=2))
    def fail(ctx: Context) -> None:
        tries.append("fail")
        raise ZeroDivisionError

    @app.task
    def note(ctx: Context, what: str) -> None:
        tries.append(what)

    app.enqueue(conn, fail.job())
    app.enqueue(conn, note.job("at 15 s"), delay="15s")
    app.enqueue(conn, note.job("in a day"), run_at=datetime.now(UTC) + timedelta(days=1))

    assert drain(conn, app, raises=False) == Drained(failed=1)
    assert drain(conn, app, raises=False, until=timedelta(seconds=9)) == Drained()
    assert drain(conn, app, raises=False, until="35s") == Drained(succeeded=1, failed=2)
    assert tries == ["fail", "fail", "at 15 s", "fail"]
    assert drain(conn, app, raises=False, until=datetime.now(UTC) + timedelta(hours=1)) == Drained(dead=1)
    assert tries == ["fail", "fail", "at 15 s", "fail", "fail"]
    assert drain(conn, app, until="2d") == Drained(succeeded=1)
    with pytest.raises(OutOfBounds, match="a time zone"):
        drain(conn, app, until=datetime(2026, 1, 1))  # noqa: DTZ001


def test_what_a_handler_puts_off_counts_from_the_clock_of_the_drain(conn: Connection, app: App) -> None:
    @app.task
    def tick(ctx: Context) -> Snooze | None:
        if ctx.attempt == 1:
            return Snooze("5m")
        with ctx.transaction() as tx:
            app.enqueue(tx, tick.job(), delay="5m")
        return None

    app.enqueue(conn, tick.job())

    assert drain(conn, app, until="1h") == Drained(succeeded=6, snoozed=7)


def test_a_job_that_never_ends_is_an_error_of_one_sentence(conn: Connection, app: App) -> None:
    @app.task
    def again(ctx: Context) -> None:
        with ctx.transaction() as tx:
            app.enqueue(tx, again.job())

    app.enqueue(conn, again.job())

    with pytest.raises(AssertionError, match=r"within 20 runs, the last of shop\.again"):
        drain(conn, app, limit=20)


def test_the_first_exception_is_raised_and_the_job_is_as_after_a_failure(conn: Connection, app: App) -> None:
    @app.task
    def fail(ctx: Context) -> None:
        conn.execute("insert into log values (1)")
        raise ZeroDivisionError("oh")

    @app.task
    def broken(ctx: Context) -> None:
        conn.execute("insert into log values (1 / 0)")

    app.enqueue(conn, fail.job())
    app.enqueue(conn, broken.job())

    with pytest.raises(ZeroDivisionError, match="oh"):
        drain(conn, app)
    with pytest.raises(psycopg.errors.DivisionByZero):
        drain(conn, app)

    assert column(conn, "select error from jobrunner.jobs order by id")[0] == "ZeroDivisionError: oh"
    assert column(conn, "select state || failures from jobrunner.jobs") == ["scheduled1", "scheduled1"]
    assert column(conn, "select n from log") == []


def test_a_handler_that_swallows_an_error_of_sql_ends_as_it_says(conn: Connection, app: App) -> None:
    """On a connection of its own that would be lost; the test's transaction goes on."""

    @app.task
    def swallow(ctx: Context) -> None:
        with suppress(psycopg.errors.DivisionByZero):
            conn.execute("insert into log values (1 / 0)")

    app.enqueue(conn, swallow.job())

    assert drain(conn, app) == Drained(succeeded=1)
    assert column(conn, "select n from log") == []


def test_what_a_transaction_has_committed_outlives_a_failure(conn: Connection, app: App) -> None:
    @app.task(retry=Backoff(base="1s"))
    def in_steps(ctx: Context) -> None:
        with ctx.transaction(final=False) as tx:
            tx.execute("insert into log values (%s)", [ctx.attempt])
        with suppress(KeyError), ctx.transaction(final=False) as tx:
            tx.execute("insert into log values (99)")
            raise KeyError
        if ctx.attempt == 1:
            raise ZeroDivisionError

    app.enqueue(conn, in_steps.job())

    assert drain(conn, app, raises=False, until="1s") == Drained(failed=1, succeeded=1)
    assert column(conn, "select n from log order by n") == [1, 2]


def test_a_job_that_ended_in_its_transaction_has_succeeded_whatever_comes_later(conn: Connection, app: App) -> None:
    @app.task
    def late(ctx: Context) -> None:
        with ctx.transaction() as tx:
            tx.execute("insert into log values (1)")
        raise ZeroDivisionError

    app.enqueue(conn, late.job(), key="k")
    with pytest.raises(ZeroDivisionError):
        drain(conn, app)

    assert column(conn, "select state from jobrunner.finished_jobs") == ["succeeded"]
    assert column(conn, "select n from log") == [1]


def test_every_answer_ends_a_run_as_in_production(conn: Connection, app: App) -> None:
    answers = [None, 7, Retry("1m", "soon"), Snooze("1m", "later"), Cancel("not wanted"), Reject("never")]

    @app.task
    def answer(ctx: Context, n: int) -> Any:
        ctx.progress(n, total=10)
        return answers[n] if ctx.attempt == 1 else None

    app.enqueue_many(conn, [answer.job(n) for n in range(6)])

    drained = drain(conn, app)
    assert drained == Drained(succeeded=2, failed=1, snoozed=1, cancelled=1, dead=1)
    assert [(run.ended, run.reason, run.result) for run in drained.runs] == [
        ("succeeded", None, None),
        ("succeeded", None, 7),
        ("failed", "soon", None),
        ("snoozed", "later", None),
        ("cancelled", "not wanted", None),
        ("dead", "never", None),
    ]
    assert column(conn, "select processed from jobrunner.v_job order by id") == [0, 1, 2, 3, 4, 5]
    assert column(conn, "select result from jobrunner.v_job where result is not null") == [7]
    assert column(conn, "select type from jobrunner.outbox union all select type from jobrunner.events") == [
        "jobrunner.job.dead"
    ]
    assert drain(conn, app, until="1m") == Drained(succeeded=2)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, pytest.fail.Exception])
def test_what_is_no_exception_is_always_raised(conn: Connection, app: App, raised: type[BaseException]) -> None:
    @app.task
    def stop(ctx: Context) -> None:
        raise raised

    app.enqueue(conn, stop.job())
    with pytest.raises(raised):
        drain(conn, app, raises=False)


def test_arguments_that_do_not_fit_are_raised_too(conn: Connection, app: App) -> None:
    @app.task
    def count(ctx: Context, n: int) -> None: ...

    for _ in range(2):
        app.enqueue(conn, Job("shop.count", {"n": "many"}))

    with pytest.raises(InvalidArguments, match="n: Input should be a valid integer"):
        drain(conn, app)
    assert drain(conn, app, raises=False) == Drained(dead=1)


def test_an_async_handler_has_its_timeout(conn: Connection, app: App) -> None:
    @app.task(timeout="20ms")
    async def hang(ctx: Context) -> None:
        await asyncio.Event().wait()

    app.enqueue(conn, hang.job())
    with pytest.raises(TimeoutError, match="still running after 20ms"):
        drain(conn, app)


def test_an_async_handler_writes_through_a_sync_connection(conn: Connection, app: App) -> None:
    @app.task
    async def write(ctx: Context, n: int) -> None:
        async with ctx.transaction(final=False) as tx:
            await tx.execute("insert into log values (%s)", [n])
        async with ctx.transaction() as tx:
            async with tx.cursor() as cursor:
                await cursor.executemany("insert into log values (%s)", [[n + 1], [n + 2]])
            await app.enqueue(tx, write.job(n + 3)) if n < 30 else None

    app.enqueue(conn, write.job(0))

    assert drain(conn, app) == Drained(succeeded=11)
    assert column(conn, "select n from log order by n") == list(range(33))


async def test_a_sync_handler_writes_through_an_async_connection(conn: Connection, aconn: Async, app: App) -> None:
    @app.task
    def write(ctx: Context, n: int) -> None:
        with ctx.transaction() as tx:
            tx.execute("insert into log values (%s)", [n])

    @app.task
    async def fail(ctx: Context) -> None:
        async with ctx.transaction() as tx:
            await tx.execute("insert into log values (1 / 0)")

    await app.enqueue_many(aconn, [write.job(n) for n in range(7)])
    assert await drain(aconn, app) == Drained(succeeded=7)
    await app.enqueue(aconn, fail.job())
    with pytest.raises(psycopg.errors.DivisionByZero):
        await drain(aconn, app)

    found = await (await aconn.execute("select n from log order by n")).fetchall()
    assert [n for (n,) in found] == list(range(7))


async def test_a_sync_drain_says_why_it_cannot_run_async_handlers_in_an_event_loop(conn: Connection, app: App) -> None:
    @app.task
    async def hello(ctx: Context) -> None: ...

    app.enqueue(conn, hello.job())
    with pytest.raises(ConfigError, match="await drain"):
        drain(conn, app)


def test_a_stream_gets_its_batches_and_moves_its_cursor(conn: Connection, app: App) -> None:
    batches: list[list[int]] = []

    @app.stream(Noted, batch=3, retry=Backoff(base="1s"))
    def fold(ctx: Context, events: list[Noted]) -> None:
        batches.append([event.n for event in events])
        with ctx.transaction() as tx:
            tx.execute("insert into log values (%s)", [len(events)])
            if len(batches) == 1:
                raise TimeoutError

    app.publish_many(conn, [Noted(about="a", n=n) for n in range(5)])

    assert drain(conn, app, raises=False, until="1s") == Drained(failed=1, succeeded=2)
    assert batches == [[0, 1, 2], [0, 1, 2], [3, 4]]
    assert column(conn, "select n from log") == [3, 2]


def test_a_replay_that_a_person_asks_for_is_walked(conn: Connection, app: App) -> None:
    seen: list[tuple[int, bool]] = []

    @app.on(Noted)
    def hear(ctx: Context, event: Noted) -> None:
        seen.append((event.n, ctx.envelope.replay))

    app.publish_many(conn, [Noted(about="a", n=n) for n in range(2)])
    drain(conn, app)
    conn.execute("select jobrunner.op_replay('shop.hear', 0)")

    assert drain(conn, app) == Drained(succeeded=2)
    assert seen == [(0, False), (1, False), (0, True), (1, True)]


def test_the_test_goes_on_as_if_no_handler_had_run(conn: Connection, app: App) -> None:
    """What a handler's transaction sets ends with it in production; here the transaction goes on."""
    conn.execute("set local idle_in_transaction_session_timeout = '7min'")

    @app.task
    def write(ctx: Context) -> None:
        with ctx.transaction() as tx:
            app.publish(tx, Noted(about="inside"))

    app.enqueue(conn, write.job())
    drain(conn, app)
    app.publish(conn, Noted(about="outside"))
    drain(conn, app)

    caused: dict[str, bool] = dict(
        conn.execute("select key, cause_job_id is not null from jobrunner.events").fetchall()
    )
    assert caused == {"inside": True, "outside": False}
    assert column(conn, "select current_setting('idle_in_transaction_session_timeout')") == ["7min"]


def test_the_connection_of_the_test_keeps_its_own_ways(jobrunner_dsn: str, app: App) -> None:
    notices: list[str | None] = []
    rows: list[Any] = []

    @app.task
    def look(ctx: Context) -> None:
        with ctx.transaction() as tx:
            rows.append(tx.execute("select 1 as one").fetchone())
            tx.execute("do $$ begin raise notice 'hello'; end $$")

    with psycopg.connect(jobrunner_dsn, row_factory=dict_row, prepare_threshold=0) as conn:
        conn.add_notice_handler(lambda said: notices.append(said.message_primary))
        for _ in range(3):
            app.enqueue(conn, look.job())
            assert drain(conn, app) == Drained(succeeded=1)
            assert conn.execute("select 1 as one").fetchone() == {"one": 1}
        conn.rollback()
    assert rows == [(1,)] * 3
    assert notices == ["hello"] * 3


def test_a_connection_in_autocommit_is_refused(jobrunner_dsn: str, app: App) -> None:
    with psycopg.connect(jobrunner_dsn, autocommit=True) as conn:
        with pytest.raises(ConfigError, match="is in autocommit and in no transaction"):
            drain(conn, app)
        with conn.transaction(force_rollback=True):
            assert drain(conn, app) == Drained()
        with pytest.raises(ConfigError, match="needs an app"):
            drain(conn)


def test_what_others_have_in_hand_is_passed_over(conn: Connection, jobrunner_dsn: str) -> None:
    shop = Shop()
    with psycopg.connect(jobrunner_dsn) as other:
        job = shop.app.enqueue(other, shop.send_receipt.job(order_id=OTHER))
        other.commit()
        other.execute("select from jobrunner.jobs where id = %s for update", [job])
        try:
            assert drain(conn, shop.app) == Drained()
        finally:
            other.execute("delete from jobrunner.jobs where id = %s", [job])
            other.commit()


def test_a_handler_sees_what_the_test_has_set_up(conn: Connection, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in the test's own thread: patches, thread-locals and open savepoints are there."""
    here, seen = threading.get_ident(), list[bool]()

    @app.task
    def look(ctx: Context) -> None:
        seen.append(threading.get_ident() == here)

    with conn.transaction():
        app.enqueue(conn, look.job())
        assert drain(conn, app) == Drained(succeeded=1)
    assert seen == [True]
    assert [one.state for one in assert_enqueued(look)] == ["succeeded"]


@pytest.fixture(autouse=True)
def _nothing_is_left_in_the_shared_database(jobrunner_dsn: str) -> Iterator[None]:
    yield
    with psycopg.connect(jobrunner_dsn) as other:
        assert column(other, "select count(*) from jobrunner.v_job") == [0]
