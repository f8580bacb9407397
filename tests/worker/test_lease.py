"""What holds when connections, leases or the runner's own standing are lost: nothing is stuck, nothing counts twice."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import pytest

from jobrunner import App, Backoff, Context, Runner
from jobrunner.errors import MissingPrivilege
from tests.conftest import Connect, Connection
from tests.support import eventually
from tests.worker.rig import Events, backend, one, state, terminate, within

FAST: dict[str, Any] = {"lease": "3s", "poll": "100ms", "grace": "2s"}

pytestmark = pytest.mark.pg16


@pytest.fixture
def app() -> App:
    return App("shop")


async def test_a_claim_whose_answer_was_lost_is_given_back_and_leaves_nothing_stuck(
    app: App, dsn: str, conn: Connection, connect: Connect
) -> None:
    ran: list[int] = []

    @app.task
    async def t(ctx: Context, n: int) -> None:
        ran.append(n)

    async with Runner(app, dsn, **FAST) as runner:
        events = Events(runner.telemetry)
        first = runner.runner_id
        # The claim commits and its answer is thrown away: what a connection that breaks at the wrong moment does.
        lose = connect()
        app.enqueue(lose, t.job(n=1), queue="elsewhere", delay="1h")
        with lose.transaction():
            lose.execute(
                "update jobrunner.jobs set state = 'running', attempt = 1, runner_id = %s, started_at = now()", [first]
            )
        terminate(conn, "claim")
        (renewed,) = await events.wait_for("runner.renewed")
        assert (renewed["old"], renewed["runner"]) == (first, runner.runner_id)
        assert runner.runner_id != first

        app.enqueue(conn, t.job(n=2))
        await eventually(lambda: sorted(ran) == [1, 2], what="both jobs")

    assert one(conn, "select max(attempt), max(crashes), max(failures) from jobrunner.finished_jobs") == (2, 0, 0)


async def test_what_an_old_id_still_holds_comes_back_with_the_renewal_and_not_with_the_next_scan(
    app: App, dsn: str, conn: Connection
) -> None:
    """A scan trusts its own heartbeat after half a lease: after an outage that broke every connection, 30 s here."""

    @app.task
    async def t(ctx: Context) -> None:
        """Claimed, and in nobody's hands."""

    async with Runner(app, dsn, **{**FAST, "lease": "60s"}) as runner:
        job_id = app.enqueue(conn, t.job(), delay="1h")
        conn.execute(
            "update jobrunner.jobs set state = 'running', attempt = 1, runner_id = %s, started_at = now()",
            [runner.runner_id],
        )
        terminate(conn, "claim")

        await eventually(lambda: state(conn, job_id) == "succeeded", 5, "its run")
    assert one(conn, "select attempt, crashes, failures from jobrunner.finished_jobs") == (2, 0, 0)


async def test_a_claim_that_is_cut_off_under_way_loses_nothing(
    app: App, dsn: str, conn: Connection, connect: Connect, blocked: Any
) -> None:
    ran: list[int] = []

    @app.task
    async def t(ctx: Context, n: int) -> None:
        ran.append(n)

    async with Runner(app, dsn, **FAST) as runner:
        events = Events(runner.telemetry)
        pid = await eventually(lambda: backend(conn, "claim"), what="the claim's session")
        holder = connect(autocommit=False)
        holder.execute("lock table jobrunner.unique_keys in access exclusive mode")  # every claim reads it
        app.enqueue(conn, t.job(n=1))
        await asyncio.to_thread(blocked, pid)
        terminate(conn, "claim")
        holder.rollback()
        await events.wait_for("runner.renewed")
        await eventually(lambda: ran == [1], what="the job")


async def test_a_runner_that_was_declared_lost_goes_on_under_a_new_id_with_what_it_holds(
    app: App, dsn: str, conn: Connection
) -> None:
    conn.execute("create table ledger (n int)")
    go = asyncio.Event()

    @app.task
    async def long(ctx: Context) -> None:
        await go.wait()
        async with ctx.transaction() as tx:
            await tx.execute("insert into ledger values (1)")

    job_id = app.enqueue(conn, long.job())
    async with Runner(app, dsn, **FAST) as runner:
        events = Events(runner.telemetry)
        await eventually(lambda: job_id in runner._slots.running, what="the run")
        # In one transaction with the lock that keeps a rescue away: it is the beat that must find out.
        with conn.transaction():
            conn.execute("select from jobrunner.jobs where id = %s for key share", [job_id])
            conn.execute("update jobrunner.runners set lost_at = now(), ended = 'lost'")
        await events.wait_for("runner.renewed")
        go.set()
        await runner.wait_idle(10)
        app.enqueue(conn, long.job())
        await runner.wait_idle(10)

    assert one(conn, "select count(*) from ledger") == 2
    assert one(conn, "select count(*), max(attempt), max(crashes) from jobrunner.finished_jobs") == (2, 1, 0)


async def test_a_run_whose_job_was_given_to_another_is_stopped_and_its_end_refused(
    app: App, dsn: str, conn: Connection
) -> None:
    conn.execute("create table ledger (attempt int)")
    cancelled: list[int] = []

    @app.task
    async def long(ctx: Context) -> None:
        if ctx.attempt == 1:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(ctx.attempt)
        async with ctx.transaction() as tx:
            await tx.execute("insert into ledger values (%s)", [ctx.attempt])

    job_id = app.enqueue(conn, long.job())
    async with Runner(app, dsn, **FAST) as runner:
        await eventually(lambda: job_id in runner._slots.running, what="the run")
        with conn.transaction():
            conn.execute("update jobrunner.runners set lost_at = now(), ended = 'lost'")
            conn.execute("select jobrunner.give_back_v1(10)")
        await eventually(lambda: state(conn, job_id) == "succeeded", what="the second attempt")
        await eventually(lambda: cancelled == [1], what="the first one's end")

    assert one(conn, "select attempt from ledger") == 2
    assert one(conn, "select attempt, crashes, failures from jobrunner.finished_jobs") == (2, 1, 0)


async def test_a_transaction_that_is_left_during_a_renewal_is_not_refused(
    app: App, dsn: str, conn: Connection, connect: Connect, blocked: Any
) -> None:
    """The new id is known here before the job is held by it."""
    conn.execute("create table ledger (n int)")
    entered, go = asyncio.Event(), asyncio.Event()

    @app.task
    async def t(ctx: Context) -> None:
        async with ctx.transaction(final=False) as tx:
            entered.set()
            await go.wait()
            await tx.execute("insert into ledger values (%s)", [ctx.attempt])

    job_id = app.enqueue(conn, t.job())
    async with Runner(app, dsn, **FAST) as runner:
        events = Events(runner.telemetry)
        await within(5, entered.wait())
        holder = connect(autocommit=False)
        holder.execute("lock table jobrunner.runners in share row exclusive mode")  # no renewal gets through
        terminate(conn, "claim")
        await eventually(lambda: "renewing" in runner._gate.reasons, what="the renewal")
        await asyncio.to_thread(blocked, await eventually(lambda: backend(conn, "claim"), what="its session"))
        go.set()
        await eventually(lambda: one(conn, "select count(*) from ledger") == 1, what="the commit")
        holder.rollback()
        await events.wait_for("runner.renewed")
        await eventually(lambda: state(conn, job_id) == "succeeded", what="the end")
        assert not runner.telemetry.counts["job.failed"]

    assert one(conn, "select attempt, failures from jobrunner.finished_jobs") == (1, 0)


async def test_a_runner_without_a_heartbeat_stops_claiming_and_cancels_what_may_not_go_on(
    app: App, dsn: str, conn: Connection, connect: Connect
) -> None:
    told: list[str] = []
    go = asyncio.Event()

    @app.task
    async def careful(ctx: Context) -> None:
        try:
            await go.wait()
        except asyncio.CancelledError:
            told.append(f"careful {ctx.cancelled}")
            raise

    @app.task(on_lease_uncertain="continue")
    async def bold(ctx: Context) -> None:
        await go.wait()
        told.append(f"bold {ctx.cancelled}")

    first = [app.enqueue(conn, each.job()) for each in (careful, bold)]
    async with Runner(app, dsn, **FAST) as runner:
        events = Events(runner.telemetry)
        await eventually(lambda: len(runner._slots.running) == 2, what="the runs")
        holder = connect(autocommit=False)
        holder.execute("lock table jobrunner.runners in share row exclusive mode")  # no beat gets through
        try:
            (facts,) = await events.wait_for("runner.uncertain", deadline=5)
            assert facts["silent_seconds"] < 3, "before the lease has run out"
            await eventually(lambda: told == ["careful True"], what="the cancel")
            later = app.enqueue(conn, bold.job())
            await eventually(lambda: state(conn, first[0]) == "ready", what="the handing back")
            assert state(conn, later) == "ready"
        finally:
            holder.rollback()
        go.set()
        await eventually(lambda: [state(conn, each) for each in (*first, later)] == ["succeeded"] * 3, what="the ends")

    assert sorted(told) == ["bold False"] * 2 + ["careful True"]
    assert one(conn, "select max(failures) from jobrunner.finished_jobs") == 0


async def test_an_event_loop_that_is_blocked_for_longer_than_the_lease_does_not_look_dead(
    app: App, dsn: str, conn: Connection
) -> None:
    ran: list[int] = []

    @app.task
    async def block(ctx: Context) -> None:
        ran.append(ctx.attempt)
        time.sleep(1.6)  # noqa: ASYNC251  the mistake that this is about

    job_id = app.enqueue(conn, block.job())
    other = App("shop")
    other.tasks["shop.other"] = App("x").task(block.function)
    rescuer = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(_watch(other, dsn, conn, job_id))))
    async with Runner(app, dsn, lease="1s", poll="100ms") as runner:
        await eventually(lambda: state(conn, job_id) == "succeeded", what="its end")
        assert not runner.telemetry.counts["runner.renewed"]
    rescued = await rescuer

    assert rescued == 0
    assert ran == [1]
    assert one(conn, "select attempt, crashes from jobrunner.finished_jobs where id = %s", job_id) == (1, 0)


async def _watch(app: App, dsn: str, conn: Connection, job_id: int) -> int:
    """A second runner, on a loop that nobody blocks, that would rescue; how many it did."""
    async with Runner(app, dsn, lease="1s", poll="100ms") as runner:
        await eventually(lambda: state(conn, job_id) == "succeeded", what="its end")
        return runner.telemetry.counts["jobs.rescued"]


async def test_the_jobs_of_a_runner_that_died_are_run_by_another(app: App, dsn: str, conn: Connection) -> None:
    @app.task
    async def t(ctx: Context) -> None: ...

    dead = 99
    conn.execute("select jobrunner.register_v1(%s, '1 s', 1, 'shop', 'h', 1, '1', null, '[]')", [dead])
    ids = [app.enqueue(conn, t.job(), key=key) for key in (None, "k", "k")]
    conn.execute("select jobrunner.seat_v1(10)")
    conn.execute(
        "update jobrunner.jobs set state = 'running', attempt = 1, runner_id = %s, started_at = now() where state = 'ready'",
        [dead],
    )

    async with Runner(app, dsn, lease="1s", poll="100ms") as runner:
        await eventually(lambda: [state(conn, each) for each in ids] == ["succeeded"] * 3, what="the rescue")
        assert runner.telemetry.counts["jobs.rescued"] == 2

    rows = conn.execute("select id, attempt, crashes, failures from jobrunner.finished_jobs order by id").fetchall()
    assert rows == [(ids[0], 2, 1, 0), (ids[1], 2, 1, 0), (ids[2], 1, 0, 0)]


@pytest.mark.parametrize("purpose", ["settle", "heartbeat", "listen", "handler"])
async def test_a_connection_that_is_lost_comes_back_and_no_work_is_lost(
    purpose: str, app: App, dsn: str, conn: Connection
) -> None:
    conn.execute("create table ledger (n int)")

    @app.task(retry=Backoff(base="1ms"))
    async def t(ctx: Context) -> int:
        async with ctx.transaction(final=False) as tx:
            await tx.execute("insert into ledger values (1)")
        return 1

    def another(pid: int | None) -> bool:
        return backend(conn, purpose) not in (None, pid)

    async with Runner(app, dsn, **FAST) as runner:
        for _ in range(3):
            app.enqueue_many(conn, [t.job()] * 10)
            pid = await eventually(lambda: backend(conn, purpose), what=purpose)
            terminate(conn, purpose)
            await runner.wait_idle(10)
            if purpose != "handler":  # that one comes back when it is needed
                await eventually(partial(another, pid), what=f"another {purpose}")
        assert not runner.telemetry.counts["runner.renewed"]

    assert one(conn, "select count(*) from jobrunner.finished_jobs") == 30
    assert one(conn, "select count(*) from jobrunner.jobs") == 0


async def test_a_handler_is_not_lent_a_connection_that_has_died_in_the_pool(
    app: App, dsn: str, conn: Connection
) -> None:
    @app.task
    async def loop(ctx: Context) -> None:
        async with ctx.transaction():
            pass

    @app.task
    def thread(ctx: Context) -> None:
        with ctx.transaction():
            pass

    async with Runner(app, dsn, **FAST) as runner:
        for _ in range(2):
            app.enqueue_many(conn, [loop.job(), thread.job()])
            await runner.wait_idle(10)
            conn.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'jobrunner handler'"
            )
        assert not runner.telemetry.counts["job.failed"]


async def test_a_stop_ends_although_the_database_is_gone(
    app: App, dsn: str, conn: Connection, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrunner.worker.stopping._LAST_WORDS", 0.2)

    @app.task
    async def hold(ctx: Context) -> None:
        await asyncio.Event().wait()

    job_id = app.enqueue(conn, hold.job())
    runner = Runner(app, dsn, lease="3s", poll="100ms", grace=0)
    await runner.start()
    await eventually(lambda: job_id in runner._slots.running, what="the run")
    admin, name = connect(dbname="postgres"), conn.info.dbname
    admin.execute(f"alter database {name} allow_connections false".encode())
    try:
        for purpose in ("claim", "settle", "heartbeat"):
            terminate(conn, purpose)
        await eventually(lambda: "renewing" in runner._gate.reasons, what="the loss")
        await within(10, runner.stop())
    finally:
        admin.execute(f"alter database {name} allow_connections true".encode())
    assert not [task for task in asyncio.all_tasks() if "jobrunner/worker" in repr(task)]


async def test_a_privilege_that_is_taken_away_ends_the_runner_with_a_sentence(
    app: App, dsn: str, conn: Connection
) -> None:
    app.task(name="shop.t")(lambda ctx: None)
    role = f"runner_{conn.info.dbname}"

    def run(statement: str) -> None:
        conn.execute(statement.encode())

    run(f"create role {role} login")
    try:
        run(f"grant usage on schema jobrunner to {role}")
        run(f"grant execute on all functions in schema jobrunner to {role}")
        runner = Runner(app, dsn.replace("user=postgres", f"user={role}"), **FAST)
        await runner.start()
        run(f"revoke execute on function jobrunner.tick_v1 from {role}")
        assert runner._ended is not None
        await within(5, runner._ended.wait())
        with pytest.raises(MissingPrivilege, match="may not use function tick_v1; grant it"):
            await runner.__aexit__(None, None, None)
    finally:
        run(f"drop owned by {role}")
        run(f"drop role {role}")
