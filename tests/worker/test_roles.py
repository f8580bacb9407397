"""Services whose logins have a role each, and no table: one only enqueues and publishes, one only runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege
from pydantic import BaseModel

from jobrunner import App, Backoff, Context, Event, Job, Runner, Saga
from jobrunner.errors import MissingPrivilege
from jobrunner.store import history
from jobrunner.worker.link import connect as session
from tests.conftest import Connection, Login
from tests.support import eventually
from tests.worker.rig import one, state

FAST: dict[str, Any] = {"lease": "3s", "poll": "100ms", "grace": "2s"}

pytestmark = pytest.mark.pg16


class Paid(Event, name="order.paid", key="order"):
    order: str


class Refused(Event, name="order.refused", key="order"):
    order: str


class State(BaseModel):
    order: str


@pytest.fixture
def enqueuer(login: Login) -> Iterator[Connection]:
    with psycopg.connect(login("enqueue"), autocommit=True) as conn:
        yield conn


async def test_a_service_that_only_enqueues_writes_jobs_and_events_and_sees_none(
    login: Login, enqueuer: Connection, conn: Connection
) -> None:
    app = App("shop")

    @app.task
    def send(ctx: Context, n: int) -> None: ...

    app.publishes(Paid)

    job = app.enqueue(enqueuer, send.job(n=1), key="k", unique_key="u", subject="order:1", delay="1m")
    assert app.enqueue(enqueuer, send.job(n=2), unique_key="u") == job
    many = app.enqueue_many(enqueuer, [send.job(n=n) for n in range(3)])
    app.publish(enqueuer, Paid(order="1"))
    assert len(app.publish_many(enqueuer, [Paid(order="1")] * 2)) == 2
    async with await psycopg.AsyncConnection.connect(login("enqueue")) as aconn:
        many.append(await app.enqueue(aconn, Job("other.task")))
        await app.publish(aconn, Paid(order="2"))
        await aconn.commit()

    assert one(conn, "select count(*) from jobrunner.jobs") == 5
    assert one(conn, "select count(*) from jobrunner.outbox") == 4
    for tried in (
        "select from jobrunner.jobs",
        "select from jobrunner.v_job",
        f"select jobrunner.why({job})",
        f"select * from jobrunner.op_cancel(array[{job}])",
    ):
        with pytest.raises(InsufficientPrivilege):
            enqueuer.execute(tried.encode())
    assert {state(conn, each or 0) for each in many} == {"ready"}
    with pytest.raises(MissingPrivilege, match="may not use function schema_version; grant it the role that may"):
        await Runner(app, login("enqueue"), **FAST).start()


async def test_a_runner_that_owns_nothing_does_all_that_runners_do(  # (long because: all of it is one life)
    login: Login, enqueuer: Connection, conn: Connection
) -> None:
    app = App("shop")
    runner_dsn = login("runner")
    conn.execute("create table ledger (what text)")
    conn.execute("grant insert, select on ledger to public")
    broken: set[str] = {"dies"}

    @app.task(retry=Backoff(attempts=1))
    def t(ctx: Context, how: str) -> str | None:
        if how in broken:
            raise ValueError(how)
        ctx.progress(total=2, processed=1, message=how)
        if how == "in place":
            with ctx.transaction() as tx:
                assert app.inbox(tx, "m1", consumer="shop")
                assert not app.inbox(tx, "m1", consumer="shop")
                app.enqueue(tx, t.job(how="child"))
                app.publish(tx, Paid(order="7"))
                tx.execute("insert into ledger values ('in place')")
        return how

    @app.task
    async def a(ctx: Context) -> None:
        async with ctx.transaction() as tx:
            await tx.execute("insert into ledger values ('async')")

    @app.on(Paid, ordered=True)
    def post(ctx: Context, event: Paid) -> None:
        with ctx.transaction() as tx:
            tx.execute("insert into ledger values ('posted ' || %s)", [event.order])
            assert [each.key for each in app.events(tx, key=event.order, types="order.*")] == [event.order]

    @app.on(Paid, name="shop.late", start="beginning")
    def late(ctx: Context, event: Paid) -> None: ...

    @app.stream("order.*")
    def totals(ctx: Context, events: list[dict[str, Any]]) -> None:
        with ctx.transaction() as tx:
            tx.cursor().executemany("insert into ledger values ('total ' || %s)", [[each["order"]] for each in events])

    order = app.saga("order", state=State)

    @order.starts(Paid)
    def began(saga: Saga[State], event: Paid) -> None:
        saga.state.order = event.order
        saga.compensate_with(t.job(how="undone"))
        saga.timeout("1h")

    order.on(Refused)(lambda saga, event: saga.compensate("refused"))
    order.on_timeout(lambda saga: saga.compensate("timed out"))

    async with Runner(app, runner_dsn, **FAST) as runner, Runner(app, runner_dsn, **FAST):
        hows = ["plain", "in place", "dies"]
        made = {how: app.enqueue(enqueuer, t.job(how=how), key="k" if how == "plain" else None) for how in hows}
        app.enqueue(enqueuer, a.job())
        app.enqueue(enqueuer, t.job(how="later"), delay="200ms")
        await eventually(lambda: one(conn, "select count(*) from jobrunner.sagas") == 1, what="the saga")
        app.publish(enqueuer, Refused(order="7"))
        await eventually(
            lambda: one(conn, "select status from jobrunner.sagas") == "compensated", what="the compensation"
        )
        await eventually(
            lambda: one(conn, "select count(*) from ledger where what like 'total %%'") == 2, what="the stream"
        )
        await runner.wait_idle(10)
        await eventually(lambda: _succeeded(conn, "later"), what="the promotion")

        strange = app.enqueue(enqueuer, Job("other.task"))
        await runner._keeping._park_unknown()
        assert state(conn, strange) == "blocked"
        await runner._keeping._retain()

    ended = {how: state(conn, job) for how, job in made.items()}
    assert ended == {"plain": "succeeded", "in place": "succeeded", "dies": "dead"}
    assert all(_succeeded(conn, how) for how in ("child", "undone"))
    assert sorted(what for (what,) in conn.execute("select what from ledger").fetchall()) == [
        "async", "in place", "posted 7", "total 7", "total 7",
    ]  # fmt: skip
    assert one(conn, "select message from jobrunner.job_progress where job_id = %s", made["plain"]) == "plain"
    assert one(conn, "select array_agg(distinct ended) from jobrunner.runners") == ["stopped"]


def _succeeded(conn: Connection, how: str) -> bool:
    found = conn.execute("select from jobrunner.finished_jobs where args ->> 'how' = %s and state = 'succeeded'", [how])
    return found.fetchone() is not None


async def test_the_jobs_of_a_runner_that_is_gone_are_given_back_by_one_that_owns_nothing(
    login: Login, conn: Connection
) -> None:
    app = App("shop")
    app.task(name="shop.t")(lambda ctx: None)
    with psycopg.connect(login("runner"), autocommit=True) as gone:
        gone.execute(
            "select jobrunner.register_v1(1, '0 s', 1, 'shop', 'h', 1, '1', null, '[]'), jobrunner.enqueue('shop.t')"
        )
        gone.execute("select jobrunner.claim_v1(1, 1, '{default}', '{0}', '{0}', '{shop.t}', '{1}')")

    async with Runner(app, login("runner"), **FAST):
        await eventually(lambda: one(conn, "select count(*) from jobrunner.finished_jobs") == 1, what="the rescue")

    assert one(conn, "select attempt, crashes from jobrunner.finished_jobs") == (2, 1)


@pytest.mark.parametrize("table", ["finished_jobs", "events"])
async def test_a_runner_that_owns_nothing_drops_old_days_and_waits_for_no_reader(
    login: Login, conn: Connection, dsn: str, table: history.Table
) -> None:
    conn.execute("select jobrunner.make_partitions('2020-01-01Z', 1)")
    conn.execute(
        """insert into jobrunner.finished_jobs
           select 7, d, d, d, d, null, 1, 0, 1, 0, 1, 0, 'succeeded', 'default', 'shop.t', null, '{}', '{}', null, null
           from (select '2020-01-01 12:00Z'::timestamptz) x (d)"""
    )
    conn.execute("insert into jobrunner.job_results values (7, '1'), (8, '1')")
    drop = history.drop_history if table == "finished_jobs" else history.drop_log
    async with await session(login("runner"), "retention") as runner:
        first, second = await history.old_partitions(runner, table)
        assert (first.ours, first.attached) == (False, True)
        with psycopg.connect(dsn) as reader:
            reader.execute(f"select from jobrunner.{table}".encode())
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await drop(runner, first)

        await drop(runner, first)
        assert await history.old_partitions(runner, table) == [second]

    async with await session(dsn, "retention") as owner:
        [left] = await history.old_partitions(owner, table)
        assert left.ours
        await drop(owner, left)
        assert await history.old_partitions(owner, table) == []
    kept = {7, 8} if table == "events" else {8}
    assert {job for (job,) in conn.execute("select job_id from jobrunner.job_results").fetchall()} == kept
