"""A runner in this process on a real PostgreSQL: what it takes, in which order, how runs end, and how it starts and stops."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import psycopg
import pytest

from jobrunner import App, Backoff, Cancel, Context, Job, Reject, Retry, Runner, Snooze
from jobrunner.errors import (
    DatabaseUnavailable,
    OutOfBounds,
    ReadOnlyServer,
    SchemaMissing,
    SchemaTooNew,
    SchemaTooOld,
    StaleLease,
)
from tests.conftest import Connect, Connection
from tests.support import eventually
from tests.worker.rig import Events, backend, one, state, terminate, within

FAST: dict[str, Any] = {"lease": "3s", "poll": "100ms", "grace": "2s"}

pytestmark = pytest.mark.pg16


@pytest.fixture
def app() -> App:
    return App("shop")


def asleep(runner: Runner) -> Any:
    """Waits until an enqueue is sure to wake *runner*."""
    return eventually(runner._claimer.resting.is_set, what="a sleeping runner")


# ------------------------------------------------------------------------------------------------ what it takes


async def test_unknown_tasks_and_newer_versions_wait_are_parked_and_run_when_a_runner_knows_them(
    app: App, dsn: str, conn: Connection
) -> None:
    @app.task
    async def known(ctx: Context) -> None: ...

    newer = App("shop")

    @newer.task(name="shop.known", version=2)
    async def known_too(ctx: Context) -> None: ...

    @newer.task(name="other.task")
    async def other(ctx: Context) -> None: ...

    strange = [app.enqueue(conn, Job("other.task")), app.enqueue(conn, Job("shop.known", version=2))]
    mine = app.enqueue(conn, known.job())

    async with Runner(app, dsn, **FAST) as runner:
        await eventually(lambda: state(conn, mine) == "succeeded")
        runner._keeping.crowded()
        await eventually(lambda: [state(conn, each) for each in strange] == ["blocked"] * 2, what="the parking")
        assert one(conn, "select array_agg(distinct blocked_on) from jobrunner.jobs") == ["task"]

        async with Runner(newer, dsn, **FAST):
            await eventually(lambda: [state(conn, each) for each in strange] == ["succeeded"] * 2, what="the unparking")

    assert one(conn, "select sum(attempt) from jobrunner.finished_jobs") == 3


async def test_only_the_queues_that_it_was_given_are_taken(app: App, dsn: str, conn: Connection) -> None:
    @app.task
    async def t(ctx: Context) -> None: ...

    left = app.enqueue(conn, t.job(), queue="b")
    done = [app.enqueue(conn, t.job(), queue=queue) for queue in ("a", "c")]

    async with Runner(app, dsn, queues=["a", "c"], **FAST):
        await eventually(lambda: [state(conn, each) for each in done] == ["succeeded"] * 2)
    assert state(conn, left) == "ready"

    async with Runner(app, dsn, **FAST) as runner:
        await runner.wait_idle(5)
    assert state(conn, left) == "succeeded"


async def test_larger_priorities_run_first_but_nobody_starves_and_equals_run_in_order(
    app: App, dsn: str, conn: Connection
) -> None:
    ran: list[tuple[int, int]] = []

    @app.task
    def t(ctx: Context, n: int, p: int) -> None:
        ran.append((p, n))

    # Fewer than make a task quick: what is claimed ahead starts behind what is claimed to start at once.
    app.enqueue_many(conn, [t.job(n=n, p=p).using(priority=p) for n in range(15) for p in (-5, 7)])
    async with Runner(app, dsn, slots=1, **FAST) as runner:
        await runner.wait_idle(10)

    assert sum(p == 7 for p, _ in ran[:16]) >= 11, ran
    assert (-5, 0) in ran[:16]
    for priority in (-5, 7):
        assert [n for p, n in ran if p == priority] == list(range(15))


async def test_jobs_of_a_key_run_one_at_a_time_in_order_through_retries(app: App, dsn: str, conn: Connection) -> None:
    ran: dict[str, list[int]] = {"a": [], "b": []}
    now: set[str] = set()
    overlaps: list[str] = []

    @app.task(retry=Backoff(base="1ms"))
    async def t(ctx: Context, n: int) -> Retry | None:
        assert ctx.key is not None
        if ctx.key in now:
            overlaps.append(ctx.key)
        now.add(ctx.key)
        await asyncio.sleep(0)
        now.discard(ctx.key)
        if n % 5 == 0 and ctx.failures == 0:
            return Retry()
        ran[ctx.key].append(n)
        return None

    with conn.transaction():
        app.enqueue_many(conn, [t.job(n=n).using(key=key) for n in range(15) for key in "ab"])

    async with Runner(app, dsn, **FAST) as runner:
        await runner.wait_idle(15)

    assert not overlaps
    assert ran == {"a": list(range(15)), "b": list(range(15))}


async def test_what_is_prefetched_is_never_keyed_or_once_crashed_and_goes_back_when_it_cannot_start(
    app: App, dsn: str, conn: Connection
) -> None:
    go = asyncio.Event()

    @app.task
    async def quick(ctx: Context) -> None: ...

    @app.task
    async def long(ctx: Context) -> None:
        await go.wait()

    app.enqueue_many(conn, [quick.job()] * 40)
    async with Runner(app, dsn, slots=1, **FAST) as runner:
        await runner.wait_idle(5)
        assert runner._slots.quick_tasks == {"shop.quick"}
        events = Events(runner.telemetry)
        held = app.enqueue(conn, long.job())
        await eventually(lambda: held in runner._slots.running, what="the long run")
        with conn.transaction():
            plain = app.enqueue_many(conn, [quick.job()] * 5)
            keyed = app.enqueue(conn, quick.job(), key="k")
            crashed = app.enqueue(conn, quick.job())
            conn.execute("update jobrunner.jobs set crashes = 1 where id = %s", [crashed])
        await eventually(lambda: len(runner._slots.buffered()) == 5, what="the prefetch")
        assert {job.id for job in runner._slots.buffered()} == set(plain)

        [settled, *_] = await events.wait_for("jobs.settled", deadline=6)
        assert settled == {"handed_back": 5}, "no run of its own, for who counts runs"
        handed = conn.execute("select job_id, outcome, reason from jobrunner.attempts order by 1").fetchall()
        assert handed == [(each, "handed_back", "not started") for each in plain]
        assert [state(conn, each) for each in (held, keyed, crashed)] == ["running", "ready", "ready"]
        go.set()
        await runner.wait_idle(5)

    assert one(conn, "select count(*), max(failures) from jobrunner.finished_jobs") == (48, 0)


async def test_a_paused_queue_stops_and_resumes_at_once(app: App, dsn: str, conn: Connection) -> None:
    @app.task
    async def t(ctx: Context) -> None: ...

    async with Runner(app, dsn, lease="3s", poll="30s") as runner:
        await eventually(lambda: runner._ears.listening, what="ears")
        conn.execute("select jobrunner.op_pause('default')")
        waiting = app.enqueue(conn, t.job())
        elsewhere = app.enqueue(conn, t.job(), queue="other")
        await eventually(lambda: state(conn, elsewhere) == "succeeded", what="the other queue")
        assert state(conn, waiting) == "ready"

        began = time.monotonic()
        conn.execute("select jobrunner.op_resume('default')")
        await eventually(lambda: state(conn, waiting) == "succeeded", what="the resumed queue")
        assert time.monotonic() - began < 5


# ------------------------------------------------------------------------------------------------ how runs end


async def test_a_job_that_fails_is_tried_as_often_as_its_task_says_and_then_dead(
    app: App, dsn: str, conn: Connection
) -> None:
    at: list[float] = []

    @app.task(retry=Backoff(attempts=3, base="40ms", factor=2, jitter="none"))
    async def fail(ctx: Context, secret: str) -> None:
        at.append(time.monotonic())
        raise ValueError(f"attempt {ctx.attempt} of {ctx.max_attempts}, {ctx.failures} failed\0")

    job_id = app.enqueue(conn, fail.job(secret="hunter2"))
    async with Runner(app, dsn, lease="3s", poll="30s") as runner:
        await eventually(lambda: state(conn, job_id) == "dead", what="its death")
        assert runner.telemetry.counts["job.failed"] == 3

    assert at[1] - at[0] >= 0.04 and at[2] - at[1] >= 0.08
    row = one(conn, "select attempt, failures, reason, error, runner_id from jobrunner.jobs")
    assert row == (3, 3, "exhausted", "ValueError: attempt 3 of 3, 2 failed", None)
    tried = conn.execute(
        "select attempt, outcome, error_type, message, traceback from jobrunner.attempts order by 1"
    ).fetchall()
    assert [each[:4] for each in tried] == [
        (n, "failed", "ValueError", f"attempt {n} of 3, {n - 1} failed") for n in (1, 2, 3)
    ]
    assert all("in fail" in each[4] and "hunter2" not in each[4] for each in tried)


async def test_a_snooze_spends_nothing_and_answers_end_a_job(app: App, dsn: str, conn: Connection) -> None:
    @app.task
    async def t(ctx: Context, how: str) -> Any:
        if how == "snooze" and ctx.attempt < 4:
            return Snooze(0)
        return {"cancel": Cancel("moot"), "reject": Reject("bad card"), "value": {"total": 3}}.get(how)

    ids = [app.enqueue(conn, t.job(how=how), max_attempts=1) for how in ("snooze", "cancel", "reject", "value")]
    async with Runner(app, dsn, lease="3s", poll="30s") as runner:
        await runner.wait_idle(10)

    rows = conn.execute(
        "select id, state, attempt, failures, reason, result from jobrunner.v_job order by id"
    ).fetchall()
    assert rows == [
        (ids[0], "succeeded", 4, 0, None, None),
        (ids[1], "cancelled", 1, 0, "moot", None),
        (ids[2], "dead", 1, 0, "bad card", None),
        (ids[3], "succeeded", 1, 0, None, {"total": 3}),
    ]


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_person_can_cancel_a_job_that_runs(kind: str, app: App, dsn: str, conn: Connection) -> None:
    told = threading.Event()

    if kind == "async":

        @app.task(name="shop.t")
        async def t(ctx: Context) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                if ctx.cancelled:
                    told.set()
    else:

        @app.task(name="shop.t")
        def s(ctx: Context) -> None:
            while not ctx.cancelled:
                told.wait(0.002)
            told.set()

    job_id = app.enqueue(conn, Job("shop.t"))
    async with Runner(app, dsn, **FAST) as runner:
        await eventually(lambda: job_id in runner._slots.running, what="its start")
        assert (
            one(conn, "select result from jobrunner.op_cancel(array[%s]::bigint[], 'ann', 'not wanted')", job_id)
            == "requested"
        )
        await eventually(lambda: state(conn, job_id) == "cancelled", what="the cancel")
        await eventually(told.is_set, what="the handler's notice")

    assert one(conn, "select failures, attempt from jobrunner.finished_jobs") == (0, 1)


async def test_a_timeout_is_a_failure(app: App, dsn: str, conn: Connection) -> None:
    @app.task(timeout="20ms")
    async def slow(ctx: Context) -> None:
        await asyncio.Event().wait()

    app.enqueue(conn, slow.job(), max_attempts=1)
    async with Runner(app, dsn, **FAST) as runner:
        await runner.wait_idle(5)

    assert one(conn, "select state, failures, reason from jobrunner.jobs") == ("dead", 1, "exhausted")
    assert one(conn, "select outcome, error_type from jobrunner.attempts") == ("timeout", "TimeoutError")


async def test_a_sync_handler_past_its_timeout_is_refused_its_later_transactions(
    app: App, dsn: str, conn: Connection
) -> None:
    conn.execute("create table seen (n int)")
    go = threading.Event()
    refused: list[BaseException] = []

    @app.task(timeout="500ms")
    def slow(ctx: Context) -> None:
        with ctx.transaction(final=False) as tx:
            tx.execute("insert into seen values (1)")
        go.wait(10)
        try:
            with ctx.transaction() as tx:
                tx.execute("insert into seen values (2)")
        except StaleLease as error:
            refused.append(error)
            raise

    job_id = app.enqueue(conn, slow.job(), max_attempts=1)
    async with Runner(app, dsn, **FAST) as runner:
        events = Events(runner.telemetry)
        await eventually(lambda: state(conn, job_id) == "dead", what="the timeout")
        go.set()
        await events.wait_for("job.late_error")

    assert len(refused) == 1
    assert one(conn, "select n from seen") == 1
    assert state(conn, job_id) == "dead"


async def test_a_result_or_error_that_cannot_be_stored_costs_nobody_else_anything(
    app: App, dsn: str, conn: Connection
) -> None:
    @app.task(retry=Backoff(attempts=1))
    async def t(ctx: Context, n: int) -> Any:
        if n == 3:
            raise ValueError("\0\ud800" * 5000)
        return {4: "\0", 5: object(), 6: float("inf"), 7: 10**400}.get(n, n)

    app.enqueue_many(conn, [t.job(n=n) for n in range(20)])
    async with Runner(app, dsn, **FAST) as runner:
        await runner.wait_idle(10)

    assert one(conn, "select count(*) from jobrunner.finished_jobs where attempt = 1") == 19
    assert one(conn, "select state, error from jobrunner.jobs")[0] == "dead"
    assert one(conn, "select count(*) from jobrunner.job_results") == 16


# ------------------------------------------------------------------------------------------------ progress


async def test_progress_is_seen_while_the_job_runs_and_its_last_word_at_the_end(
    app: App, dsn: str, conn: Connection
) -> None:
    go, go_too = asyncio.Event(), threading.Event()

    @app.task
    async def loop(ctx: Context) -> None:
        for n in range(100):
            ctx.progress(n, total=200, message="half\0way")
        await go.wait()
        ctx.progress(200, failed=3, message="x" * 100_000)

    @app.task
    def thread(ctx: Context) -> None:
        for n in range(100):
            ctx.progress(n, total=200, message="half\ud800way")
        go_too.wait(10)
        ctx.progress(200, failed=3)

    app.enqueue_many(conn, [loop.job(), thread.job()])
    columns = """select count(*) from jobrunner.v_job
                 where state = 'running' and total = 200 and processed = 99 and message ~ '^half'"""
    async with Runner(app, dsn, **FAST) as runner:
        await eventually(lambda: one(conn, columns) == 2, what="progress")
        go.set()
        go_too.set()
        await runner.wait_idle(5)

    rows = conn.execute("select total, processed, failed from jobrunner.job_progress").fetchall()
    assert rows == [(200, 200, 3)] * 2


@pytest.mark.parametrize("wrong", [{"processed": -1}, {"total": 2**63}, {"failed": "x"}, {"processed": 1.5}])
async def test_progress_that_cannot_be_stored_fails_the_job_that_said_it_and_no_other(
    wrong: dict[str, Any], app: App, dsn: str, conn: Connection
) -> None:
    raised: list[BaseException] = []

    @app.task(retry=Backoff(attempts=1))
    async def bad(ctx: Context) -> None:
        try:
            ctx.progress(**wrong)
        except OutOfBounds as error:
            raised.append(error)
            raise

    @app.task
    async def good(ctx: Context) -> None:
        ctx.progress(7)

    app.enqueue_many(conn, [bad.job(), good.job()])
    async with Runner(app, dsn, **FAST) as runner:
        await runner.wait_idle(5)

    assert len(raised) == 1
    assert one(conn, "select processed from jobrunner.job_progress") == 7


# ------------------------------------------------------------------------------------------------ ctx.transaction


async def test_leaving_a_final_transaction_commits_the_rows_and_the_end_in_one(
    app: App, dsn: str, conn: Connection
) -> None:
    conn.execute("create table ledger (job bigint)")
    left, go = asyncio.Event(), asyncio.Event()

    @app.task
    async def loop(ctx: Context) -> None:
        async with ctx.transaction() as tx:
            await tx.execute("insert into ledger values (%s)", [ctx.job_id])
            assert one(conn, "select count(*) from ledger") == 0
        left.set()
        await go.wait()

    @app.task
    def thread(ctx: Context) -> None:
        with ctx.transaction() as tx:
            tx.execute("insert into ledger values (%s)", [ctx.job_id])

    job_id = app.enqueue(conn, loop.job())
    async with Runner(app, dsn, **FAST) as runner:
        await within(5, left.wait())
        assert (state(conn, job_id), one(conn, "select job from ledger")) == ("succeeded", job_id)
        go.set()
        app.enqueue(conn, thread.job())
        await runner.wait_idle(5)

    assert one(conn, "select count(*) from ledger") == 2
    assert one(conn, "select count(*), max(attempt) from jobrunner.finished_jobs") == (2, 1)


async def test_a_transaction_that_does_not_end_the_job_may_be_left_many_times(
    app: App, dsn: str, conn: Connection
) -> None:
    conn.execute("create table ledger (n int)")

    @app.task(retry=Backoff(attempts=2, base="1ms"))
    async def batches(ctx: Context) -> None:
        for n in range(3):
            async with ctx.transaction(final=False) as tx:
                await tx.execute("insert into ledger values (%s)", [n])
        if ctx.failures == 0:
            raise ValueError("half-way")

    app.enqueue(conn, batches.job())
    async with Runner(app, dsn, **FAST) as runner:
        await runner.wait_idle(5)

    assert one(conn, "select count(*) from ledger") == 6
    assert one(conn, "select state, attempt, failures from jobrunner.finished_jobs") == ("succeeded", 2, 1)


async def test_a_final_transaction_can_be_left_once_and_what_follows_changes_nothing(
    app: App, dsn: str, conn: Connection
) -> None:
    conn.execute("create table ledger (n int)")

    @app.task
    async def twice(ctx: Context) -> None:
        async with ctx.transaction() as tx:
            await tx.execute("insert into ledger values (1)")
        async with ctx.transaction() as tx:
            await tx.execute("insert into ledger values (2)")

    app.enqueue(conn, twice.job())
    async with Runner(app, dsn, **FAST) as runner:
        await runner.wait_idle(5)
        assert runner.telemetry.counts["job.late_error"] == 1

    assert one(conn, "select n from ledger") == 1
    assert one(conn, "select state, failures from jobrunner.finished_jobs") == ("succeeded", 0)
    assert one(conn, "select count(*) from jobrunner.attempts") == 0


async def test_an_exception_inside_a_transaction_rolls_it_back_and_fails_the_job(
    app: App, dsn: str, conn: Connection
) -> None:
    conn.execute("create table ledger (n int primary key)")

    @app.task(retry=Backoff(attempts=2, base="1ms"))
    async def t(ctx: Context, n: int) -> None:
        async with ctx.transaction() as tx:
            await tx.execute("insert into ledger values (%s)", [ctx.attempt])
            if n == 1:
                await tx.execute("insert into ledger values (%s)", [ctx.attempt])
            raise ValueError

    app.enqueue_many(conn, [t.job(n=0), t.job(n=1)])
    async with Runner(app, dsn, **FAST) as runner:
        await runner.wait_idle(5)

    assert one(conn, "select count(*) from ledger") == 0
    assert one(conn, "select count(*) from jobrunner.jobs where state = 'dead' and failures = 2") == 2


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_a_transaction_may_have_a_higher_isolation_level(
    level: str, app: App, dsn: str, conn: Connection
) -> None:
    seen: list[str] = []

    @app.task
    async def t(ctx: Context) -> None:
        async with ctx.transaction() as tx:
            row = await (await tx.execute("show transaction_isolation")).fetchone()
            assert row is not None
            seen.append(row[0])

    app.enqueue(conn, t.job(), key="k")
    conn.execute(f"alter database {conn.info.dbname} set default_transaction_isolation = '{level}'".encode())
    async with Runner(app, dsn, **FAST) as runner:
        await runner.wait_idle(5)
        assert not runner.telemetry.counts["loop.failed"]

    assert seen == [level]
    assert one(conn, "select state from jobrunner.finished_jobs") == "succeeded"


async def test_a_transaction_of_a_stale_attempt_is_refused_and_rolled_back(
    app: App, dsn: str, conn: Connection
) -> None:
    conn.execute("create table ledger (n int)")
    entered, go = asyncio.Event(), asyncio.Event()
    raised: list[BaseException] = []

    @app.task
    async def t(ctx: Context) -> None:
        try:
            async with ctx.transaction() as tx:
                await tx.execute("insert into ledger values (%s)", [ctx.attempt])
                entered.set()
                await go.wait()
        except StaleLease as error:
            raised.append(error)
            raise

    job_id = app.enqueue(conn, t.job())
    async with Runner(app, dsn, **FAST) as runner:
        events = Events(runner.telemetry)
        await within(5, entered.wait())
        conn.execute("update jobrunner.jobs set attempt = 2, runner_id = 5 where id = %s", [job_id])
        go.set()
        (facts,) = await events.wait_for("jobs.stale")

    assert facts["ids"] == [job_id]
    assert len(raised) == 1
    assert one(conn, "select count(*) from ledger") == 0
    assert one(conn, "select state, attempt, failures, runner_id from jobrunner.jobs") == ("running", 2, 0, 5)


# ------------------------------------------------------------------------------------------------ the clock and the table


async def test_a_scheduled_job_runs_when_it_is_due_and_not_a_poll_later(app: App, dsn: str, conn: Connection) -> None:
    at: list[float] = []

    @app.task
    async def t(ctx: Context) -> None:
        at.append(time.time())

    async with Runner(app, dsn, lease="3s", poll="30s") as runner:
        await asleep(runner)
        app.enqueue_many(conn, [t.job().using(delay="300ms"), t.job().using(delay="600ms")])
        app.enqueue(conn, t.job())  # what makes it look; a distant job must not make it forget the near one
        await eventually(lambda: len(at) == 3, what="the due jobs")

    due = [row[0].timestamp() for row in conn.execute("select run_at from jobrunner.finished_jobs order by run_at")]
    late = [ran - should for ran, should in zip(sorted(at), due, strict=True)]
    assert all(0 <= each < 2 for each in late[1:]), late


async def test_a_commit_wakes_a_sleeping_runner_long_before_its_poll(app: App, dsn: str, conn: Connection) -> None:
    ran = asyncio.Event()

    @app.task
    async def t(ctx: Context) -> None:
        ran.set()

    async with Runner(app, dsn, lease="3s", poll="30s") as runner:
        events = Events(runner.telemetry)
        await events.wait_for("listener.up")
        for _ in range(3):
            await asleep(runner)
            ran.clear()
            app.enqueue(conn, t.job())
            await within(5, ran.wait())
            await runner.wait_idle(5)


async def test_without_notifications_the_poll_finds_jobs(
    app: App, dsn: str, conn: Connection, bare_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = asyncio.Event()

    @app.task
    async def t(ctx: Context) -> None:
        ran.set()

    monkeypatch.setenv("JOBRUNNER_LISTEN_DSN", bare_dsn)  # notifications never cross databases
    async with Runner(app, dsn, lease="3s", poll="400ms") as runner:
        for _ in range(3):
            await asleep(runner)
            ran.clear()
            began = time.monotonic()
            app.enqueue(conn, t.job())
            await within(5, ran.wait())
            assert time.monotonic() - began < 3
            await runner.wait_idle(5)


async def test_an_idle_runner_sends_few_statements(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @app.task
    async def t(ctx: Context) -> None: ...

    sent: list[str] = []
    for cursor in (psycopg.AsyncCursor, psycopg.Cursor):
        execute: Any = cursor.execute

        def counted(self: Any, query: Any, *args: Any, _execute: Any = execute, **kwargs: Any) -> Any:
            sent.append(str(query))
            return _execute(self, query, *args, **kwargs)

        monkeypatch.setattr(cursor, "execute", counted)

    async with Runner(app, dsn) as runner:
        await Events(runner.telemetry).wait_for("listener.up")
        await asleep(runner)
        polls = len(sent)
        began = time.monotonic()
        await eventually(lambda: sum("tick_v1" in each for each in sent[polls:]) >= 4, what="four polls")
        seconds = time.monotonic() - began

    assert len(sent) - polls <= 3 * seconds + 3, sent[polls:]


async def test_a_time_that_a_person_wrote_in_an_old_transaction_is_not_missed(
    app: App, dsn: str, conn: Connection, connect: Connect
) -> None:
    """`now()` is the start of a transaction: by its commit the runner may have looked beyond that instant."""

    @app.task
    async def t(ctx: Context) -> None: ...

    person = connect(autocommit=False)
    job_id = app.enqueue(conn, t.job(), delay="1h")
    async with Runner(app, dsn, **FAST) as runner:
        began = one(person, "select now()")
        await eventually(lambda: runner._claimer._floors.due > began, what="a floor beyond it")
        person.execute("update jobrunner.jobs set run_at = now() where id = %s", [job_id])
        person.commit()
        await eventually(lambda: state(conn, job_id) == "succeeded", what="its run")


@pytest.mark.parametrize("fail", [False, True], ids=["success", "failure of a keyed job"])
async def test_a_row_that_a_person_holds_is_settled_when_he_lets_it_go(
    fail: bool, app: App, dsn: str, conn: Connection, connect: Connect
) -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    @app.task
    async def t(ctx: Context, fail: bool = False) -> None:
        if ctx.attempt == 1:
            entered.set()
            await go.wait()
        if fail and ctx.attempt == 1:
            raise ValueError

    @app.task
    async def other(ctx: Context) -> None: ...

    held = app.enqueue(conn, t.job(fail=fail), key="k" if fail else None)
    async with Runner(app, dsn, **FAST) as runner:
        await within(5, entered.wait())
        person = connect(autocommit=False)
        person.execute("select from jobrunner.jobs where id = %s for update", [held])
        go.set()
        free = app.enqueue(conn, other.job())
        await eventually(lambda: state(conn, free) == "succeeded", what="the other job")
        assert state(conn, held) == "running"
        person.rollback()
        await eventually(lambda: state(conn, held) in ("succeeded", "scheduled"), what="its settlement")
        assert not runner.telemetry.counts["jobs.stale"]


async def test_jobs_are_settled_although_a_partition_of_the_history_was_dropped(
    app: App, dsn: str, conn: Connection
) -> None:
    @app.task
    async def t(ctx: Context) -> None:
        async with ctx.transaction():
            pass

    async with Runner(app, dsn, **FAST) as runner:
        for _ in range(2):
            day = one(conn, "select to_char(now() at time zone 'utc', 'YYYYMMDD')")
            conn.execute(f"drop table jobrunner.finished_jobs_p{day}")
            app.enqueue(conn, t.job())
            app.enqueue(conn, t.job(), key="k")
            await runner.wait_idle(5)
            assert one(conn, "select count(*) from jobrunner.finished_jobs") == 2
        assert not runner.telemetry.counts["loop.failed"]


# ------------------------------------------------------------------------------------------------ start and stop


async def test_a_runner_names_what_is_wrong_with_the_database_before_it_writes_anything(
    app: App, dsn: str, conn: Connection, bare_dsn: str
) -> None:
    app.task(name="shop.t")(lambda ctx: None)

    with pytest.raises(SchemaMissing, match="jobrunner migrate"):
        await Runner(app, bare_dsn).start()
    with pytest.raises(DatabaseUnavailable, match=r"cannot use the database at .*nowhere"):
        await Runner(app, "host=/nowhere dbname=x connect_timeout=2").start()
    for version, error in ((0, SchemaTooOld), (99, SchemaTooNew)):
        conn.execute(
            "update jobrunner.settings set value = %s::text::jsonb where starts_with(name, 'schema_')", [str(version)]
        )
        with pytest.raises(error):
            await Runner(app, dsn).start()
    conn.execute(f"alter database {conn.info.dbname} set default_transaction_read_only = on".encode())
    with pytest.raises(ReadOnlyServer):
        await Runner(app, dsn).start()

    assert one(conn, "select count(*) from jobrunner.runners") == 0
    sessions = "select count(*) from pg_stat_activity where datname = current_database()"
    await eventually(lambda: one(conn, sessions) == 1, what="no session left behind")  # a backend ends after its client


async def test_a_good_bye_is_said_again_where_the_session_had_died_unnoticed(
    app: App, direct_dsn: str, conn: Connection
) -> None:
    """Not through a pooler, where sessions belong to nobody."""
    app.task(name="shop.t")(lambda ctx: None)
    runner = Runner(app, direct_dsn, **{**FAST, "lease": "60s"})  # no scan of it needs that session for a while
    async with runner:
        await within(5, runner._claimer.resting.wait())
        await eventually(lambda: backend(conn, "settle") is not None)
        terminate(conn, "settle")
        await eventually(lambda: backend(conn, "settle") is None)

    assert runner.telemetry.counts["runner.stopped"] == 0  # nothing was left to give back
    assert one(conn, "select ended from jobrunner.runners where id = %s", runner.runner_id) == "stopped"


async def test_a_stop_hands_back_what_has_not_started_and_spends_nothing(app: App, dsn: str, conn: Connection) -> None:
    go = asyncio.Event()

    @app.task
    async def quick(ctx: Context) -> None: ...

    @app.task
    async def long(ctx: Context) -> None:
        await go.wait()

    app.enqueue_many(conn, [quick.job()] * 40)
    async with Runner(app, dsn, slots=1, **FAST) as runner:
        await runner.wait_idle(5)
        held = app.enqueue(conn, long.job())
        await eventually(lambda: held in runner._slots.running, what="the long run")
        app.enqueue_many(conn, [quick.job()] * 5)
        await eventually(lambda: len(runner._slots.buffered()) == 5, what="the prefetch")
        stopping = asyncio.create_task(runner.stop())
        await eventually(lambda: not runner._slots.buffered(), what="the handing back")
        app.enqueue(conn, quick.job())
        go.set()
        await within(5, stopping)
        assert runner.telemetry.counts["runner.stopped"] == 0, "nothing was left to give back by force"

    assert state(conn, held) == "succeeded"
    ready = conn.execute("select state, failures, crashes, runner_id from jobrunner.jobs").fetchall()
    assert ready == [("ready", 0, 0, None)] * 6
    assert one(conn, "select state, busy from jobrunner.v_runner") == ("stopped", 0)


async def test_at_the_end_of_the_grace_runs_are_cancelled_and_handed_back(app: App, dsn: str, conn: Connection) -> None:
    told: list[bool] = []
    go = threading.Event()

    @app.task
    async def loop(ctx: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            told.append(ctx.cancelled)

    @app.task
    def thread(ctx: Context) -> None:
        go.wait(10)
        told.append(ctx.cancelled)

    ids = [app.enqueue(conn, task.job()) for task in (loop, thread)]
    runner = Runner(app, dsn, lease="3s", poll="100ms", grace=0)
    async with runner:
        await eventually(lambda: len(runner._slots.running) == 2, what="the runs")
        began = time.monotonic()
    assert time.monotonic() - began < 4
    go.set()

    assert [state(conn, each) for each in ids] == ["ready"] * 2
    assert one(conn, "select max(failures) from jobrunner.jobs") == 0
    await eventually(lambda: told == [True, True], what="both told")


async def test_stop_twice_is_once_and_leaves_no_session_behind(app: App, dsn: str, conn: Connection) -> None:
    app.task(name="shop.t")(lambda ctx: None)
    runner = Runner(app, dsn, **FAST)
    await runner.start()
    await runner.stop()
    await runner.stop()

    await eventually(
        lambda: one(conn, "select count(*) from pg_stat_activity where datname = current_database()") == 1,
        what="no session",
    )
    assert not [task for task in asyncio.all_tasks() if "jobrunner/worker" in repr(task)]


async def test_wait_idle_waits_for_what_is_due_and_gives_up_at_its_timeout(
    app: App, dsn: str, conn: Connection
) -> None:
    go = asyncio.Event()

    @app.task
    async def t(ctx: Context) -> None:
        await go.wait()

    job_id = app.enqueue(conn, t.job())
    app.enqueue(conn, t.job(), delay="1h")
    app.enqueue(conn, Job("other.task"))
    async with Runner(app, dsn, **FAST) as runner:
        with pytest.raises(TimeoutError):
            await runner.wait_idle("50ms")
        go.set()
        await runner.wait_idle("5s")
        assert state(conn, job_id) == "succeeded"


async def test_a_transaction_into_many_new_queues_is_found_at_once(app: App, dsn: str, conn: Connection) -> None:
    """A look finds one new queue in each gap between those it knows: it must go on looking, and not rest in between."""

    @app.task
    async def touch(ctx: Context) -> None: ...

    async with Runner(app, dsn, lease="30s", poll="20s") as runner:
        await asleep(runner)
        with conn.transaction():
            for n in range(30):
                app.enqueue(conn, touch.job(), queue=f"new{n}")
        await runner.wait_idle(10)


async def test_more_queues_than_one_claim_asks_are_all_asked_before_it_rests(
    app: App, dsn: str, conn: Connection
) -> None:
    @app.task
    async def touch(ctx: Context) -> None: ...

    async with Runner(app, dsn, lease="30s", poll="20s") as runner:
        with conn.transaction():
            for n in range(200):
                app.enqueue(conn, touch.job(), queue=f"q{n:03}")
        await runner.wait_idle(10)
        assert len(runner._claimer.queues) == 200
        for n in (7, 100, 199):
            await asleep(runner)
            app.enqueue(conn, touch.job(), queue=f"q{n:03}")
            await runner.wait_idle(5)


async def test_a_reader_of_an_old_day_keeps_retention_from_nothing_else(
    app: App, dsn: str, conn: Connection, connect: Connect
) -> None:
    @app.task
    async def touch(ctx: Context) -> None: ...

    def days() -> set[str]:
        return {
            row[0] for row in conn.execute("select relname from pg_class where relname ~ '^finished_jobs_p[0-9]{8}$'")
        }

    recent = days()
    conn.execute("select jobrunner.make_partitions(now() - interval '30 days', 0)")
    old = days() - recent
    conn.execute(
        "insert into jobrunner.runners (id, lost_at, ended) values (1, now() - interval '2 days', 'stopped'), (2, now(), 'stopped')"
    )
    reader = connect(autocommit=False)
    reader.execute("select count(*) from jobrunner.finished_jobs").fetchone()

    async with Runner(app, dsn, **FAST) as runner:
        await eventually(
            lambda: conn.execute("select array_agg(id) from jobrunner.runners where id in (1, 2)").fetchone() == ([2],),
            what="the old tombstone gone",
        )
        await Events(runner.telemetry).wait_for("loop.failed")
        reader.rollback()
        await runner._keeping._retain()

    assert old
    assert not old & days()


async def test_the_log_names_a_job_that_fails_and_one_that_dies(
    app: App, dsn: str, conn: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(retry=Backoff(attempts=2, base="1ms", jitter="none"))
    async def burn(ctx: Context) -> None:
        raise ValueError("no fuel")

    with caplog.at_level("INFO", "jobrunner"):
        job_id = app.enqueue(conn, burn.job())
        async with Runner(app, dsn, **FAST) as runner:
            await runner.wait_idle(5)
            await eventually(lambda: state(conn, job_id) == "dead", what="its death")

    told = [
        (record.levelname, record.getMessage()) for record in caplog.records if "of shop.burn" in record.getMessage()
    ]
    assert told == [
        ("INFO", f"job {job_id} of shop.burn failed (1 of 2), tried again: ValueError: no fuel"),
        ("WARNING", f"job {job_id} of shop.burn is dead (exhausted): ValueError: no fuel"),
    ]


async def test_that_a_runner_hears_is_seen_before_its_next_beat(app: App, dsn: str, conn: Connection) -> None:
    @app.task
    async def touch(ctx: Context) -> None: ...

    async with Runner(app, dsn):  # beats every 5 s
        await eventually(
            lambda: one(conn, "select bool_and(listening) from jobrunner.runners"),
            deadline=3,
            what="a listening runner",
        )
