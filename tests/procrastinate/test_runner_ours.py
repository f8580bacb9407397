"""What jobrunner's runner brings to procrastinate's tasks, and how they come into an app of jobrunner's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import procrastinate
import psycopg
import pytest
from procrastinate import RetryDecision, jobs
from procrastinate.job_context import AbortReason
from procrastinate.tasks import ConfigureTaskOptions

from jobrunner.errors import ConfigError
from jobrunner.ops.cli.run import load_app
from jobrunner.policy.models import Job
from jobrunner.procrastinate import JobrunnerConnector
from jobrunner.worker.app import App
from jobrunner.worker.context import Context
from jobrunner.worker.runner import Runner
from tests.ops.shell import environment
from tests.procrastinate.rig import RunnerRig, fresh_app
from tests.support import eventually, wait_until


@pytest.fixture
def kind() -> str:
    return "ours"


@pytest.fixture
def make_rig() -> Callable[..., RunnerRig]:
    return RunnerRig


def rows(rig: RunnerRig, statement: Any, *params: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(rig.dsn, autocommit=True) as conn:
        ran = conn.execute(statement, params)
        return ran.fetchall() if ran.description else []


class To(procrastinate.BaseRetryStrategy):
    """Once to another place, then never."""

    def __init__(self, **place: Any) -> None:
        self.place = place

    def get_retry_decision(self, *, exception: BaseException, job: jobs.Job) -> RetryDecision | None:
        return RetryDecision(**self.place) if job.attempts == 0 else None


# ------------------------------------------------------------------------------------------------ ends


async def test_a_failed_job_is_a_dead_letter_with_its_error(rig: RunnerRig) -> None:
    @rig.app.task(name="bad", retry=1)
    async def bad() -> None:
        raise ValueError("no such order")

    job_id = await bad.defer_async()
    await rig.drain()

    assert rows(rig, "select state, reason, failures, error from jobrunner.jobs where id = %s", job_id) == [
        ("dead", "exhausted", 2, "ValueError: no such order")
    ]
    attempts = rows(
        rig, "select attempt, outcome, traceback from jobrunner.attempts where job_id = %s order by 1", job_id
    )
    assert [(attempt, outcome) for attempt, outcome, _ in attempts] == [(1, "failed"), (2, "failed")]
    assert "no such order" in attempts[0][2]


async def test_a_strategy_decides_how_often_and_not_the_jobs_own_number(rig: RunnerRig) -> None:
    @rig.app.task(name="bad", retry=3)
    async def bad() -> None:
        raise ValueError("no")

    job_id = await bad.defer_async()
    rows(rig, "update jobrunner.jobs set max_attempts = 1 where id = %s", job_id)
    await rig.drain()

    assert (await rig.job(job_id)).attempts == 4


@pytest.mark.parametrize("place", [{"queue": ""}, {"priority": 40_000}, {"lock": "l" * 600}], ids=list)
async def test_a_strategy_that_wants_the_impossible_makes_the_job_dead(
    rig: RunnerRig, place: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    @rig.app.task(name="bad", retry=To(**place))
    async def bad() -> None:
        raise ValueError("no")

    job_id = await bad.defer_async()
    await rig.drain()

    assert await rig.status(job_id) == "failed"
    assert any("the retry strategy of bad failed" in record.message for record in caplog.records)


async def test_a_move_is_written_when_who_holds_the_row_lets_it_go(rig: RunnerRig) -> None:
    gate, started = asyncio.Event(), asyncio.Event()

    @rig.app.task(name="mover", retry=To(queue="b", lock="m"), lock="l")
    async def mover() -> None:
        started.set()
        await gate.wait()
        raise ValueError("no")

    job_id = await mover.defer_async()
    rig.start(queues=["default"])
    await asyncio.wait_for(started.wait(), 10)
    with psycopg.connect(rig.dsn) as holder:
        holder.execute("select from jobrunner.jobs where id = %s for update", [job_id])
        gate.set()
        waits = (
            "select query_start from pg_stat_activity "
            "where application_name = 'jobrunner settle' and wait_event_type = 'Lock'"
        )
        tries = set[Any]()

        def tried_twice() -> bool:
            tries.update(rows(rig, waits))
            return len(tries) > 1

        await eventually(tried_twice)
        holder.rollback()
    await rig.until(job_id, "todo")

    job = await rig.job(job_id)
    assert (job.queue, job.lock, job.attempts) == ("b", "m", 1)
    assert rows(rig, "select count(*) from jobrunner.attempts where job_id = %s", job_id) == [(1,)]


async def test_a_zombie_cannot_move_what_another_has(rig: RunnerRig) -> None:
    gate, started = asyncio.Event(), asyncio.Event()

    @rig.app.task(name="mover", retry=To(queue="b"))
    async def mover() -> None:
        started.set()
        await gate.wait()
        raise ValueError("no")

    job_id = await mover.defer_async()
    async with rig.runner() as runner:
        await asyncio.wait_for(started.wait(), 10)
        rows(rig, "update jobrunner.jobs set attempt = 2, runner_id = 7 where id = %s", job_id)
        gate.set()
        await eventually(lambda: not runner._slots.in_hand)
        await runner._settler.drained()

    left = rows(rig, "select state, queue, attempt, runner_id, failures from jobrunner.jobs where id = %s", job_id)
    assert left == [("running", "default", 2, 7, 0)]


# ------------------------------------------------------------------------------------------------ stops


async def test_an_abort_does_not_wait_for_a_heartbeat(rig: RunnerRig) -> None:
    started = asyncio.Event()

    @rig.app.task(name="endless")
    async def endless() -> None:
        started.set()
        await asyncio.Event().wait()

    async with rig.runner() as runner:
        await eventually(lambda: runner._ears.listening)
        job_id = await endless.defer_async()
        await asyncio.wait_for(started.wait(), 10)
        await rig.manager.cancel_job_by_id_async(job_id, abort=True)

        async def aborted() -> bool:
            return await rig.status(job_id) == "aborted"

        there: Any = aborted
        await eventually(there, deadline=2)


@pytest.mark.parametrize("sync", [False, True])
async def test_what_does_not_end_in_time_is_handed_back(rig: RunnerRig, sync: bool) -> None:
    """procrastinate's worker loses such a job: it is aborted."""
    started, reasons = threading.Event(), list[Any]()

    def patient(context: procrastinate.JobContext) -> None:
        started.set()
        while not context.should_abort():
            threading.Event().wait(0.002)
        reasons.append(context.abort_reason())
        raise ValueError("stopped")

    async def patient_async(context: procrastinate.JobContext) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            reasons.append(context.abort_reason())

    task = rig.app.task(name="patient", pass_context=True)(patient if sync else patient_async)
    job_id = await task.defer_async()
    worker = rig.start(shutdown_graceful_timeout=0.01)
    await eventually(started.is_set)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)

    assert (await rig.status(job_id), reasons) == ("todo", [AbortReason.SHUTDOWN])


async def test_a_middleware_stops_the_runner(rig: RunnerRig) -> None:
    if not hasattr(procrastinate, "middleware"):
        pytest.skip("this procrastinate has no middleware")

    async def last(call_next: Any, context: Any, worker: Any) -> Any:
        await call_next()
        worker.stop()

    job_id = await rig.task().defer_async(n=1)
    await asyncio.wait_for(rig.runner(worker_middleware=[last]).run(), 10)

    assert (rig.ran, await rig.status(job_id)) == ([1], "succeeded")


# ------------------------------------------------------------------------------------------------ side by side


async def test_periodic_tasks_go_on_after_an_outage(rig: RunnerRig, caplog: pytest.LogCaptureFixture) -> None:
    @rig.app.periodic(cron="* * * * * */1")
    @rig.app.task(name="tick")
    async def tick(timestamp: int) -> None:
        rig.ran.append(timestamp)

    rows(rig, "alter function jobrunner.procrastinate_defer_periodic_v1 rename to away")
    rig.start()
    await eventually(lambda: "periodic failed: " in caplog.text)
    assert rig.ran == []
    rows(rig, "alter function jobrunner.away rename to procrastinate_defer_periodic_v1")

    await eventually(lambda: len(rig.ran) >= 2)
    assert len(rig.ran) == len(set(rig.ran))


async def test_both_kinds_of_worker_share_the_work(rig: RunnerRig) -> None:
    seen: list[tuple[str | None, int]] = []

    @rig.app.task(name="share", pass_context=True)
    async def share(context: procrastinate.JobContext, n: int) -> None:
        seen.append((context.worker_name, n))
        await asyncio.sleep(0)

    await share.batch_defer_async(*({"n": n} for n in list[Any](range(200))))
    theirs = asyncio.create_task(
        rig.app.run_worker_async(name="theirs", install_signal_handlers=False, fetch_job_polling_interval=0.01)
    )
    try:
        await eventually(lambda: seen)  # theirs has some, one at a time
        async with rig.runner(name="runner", concurrency=2) as runner:
            await runner.wait_idle(20)
    finally:
        theirs.cancel()
        await asyncio.gather(theirs, return_exceptions=True)

    assert sorted(n for _, n in seen) == list(range(200))
    assert {name for name, _ in seen} == {"theirs", "runner"}


async def test_arguments_are_read_by_the_apps_own_decoder(dsn: str) -> None:
    def loads(text: Any) -> Any:
        return {name: value * 2 for name, value in json.loads(text).items()}

    app = fresh_app(procrastinate.PsycopgConnector(conninfo="host=nowhere.invalid", json_loads=loads))
    seen: list[int] = []

    @app.task(name="t")
    async def t(n: int) -> None:
        seen.append(n)

    host = App("mine")
    host.include(app)
    with psycopg.connect(dsn, autocommit=True) as conn:
        host.enqueue(conn, Job("t", {"n": 4}))
    async with Runner(host, dsn) as runner:
        await runner.wait_idle(20)

    assert seen == [8]
    assert type(app.connector) is procrastinate.PsycopgConnector  # as it was


# ------------------------------------------------------------------------------------------------ include


def blueprint(seen: list[Any]) -> procrastinate.Blueprint:
    made = procrastinate.Blueprint()

    @made.periodic(cron="* * * * * */1", task_kwargs={"n": 0})
    @made.task(name="tick", aliases=["tack"], queueing_lock="tick")
    async def tick(timestamp: int, n: int = 1) -> None:
        seen.append(("tick", n))

    @made.task(name="feed", pass_context=True, lock="cat")
    def feed(context: procrastinate.JobContext, n: int) -> None:
        seen.append((context.task.name, n, context.job.lock))
        if n:
            feed.defer(n=n - 1)

    return made


@pytest.mark.parametrize("namespace", ["cat", None])
async def test_a_service_moves_task_by_task(dsn: str, namespace: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBRUNNER_DSN", dsn)
    seen: list[Any] = []
    app, cats = App("shop"), blueprint(seen)

    @app.task
    async def own(ctx: Context, n: int) -> None:
        seen.append(("own", n))

    theirs = app.include(cats, namespace=namespace)
    prefix = f"{namespace}:" if namespace else ""
    assert set(app.tasks) == {"shop.own", f"{prefix}tick", f"{prefix}tack", f"{prefix}feed"}
    with psycopg.connect(dsn, autocommit=True) as conn:
        app.enqueue(conn, own.job(n=1))
        app.enqueue(conn, Job(f"{prefix}tack", {"timestamp": 1, "n": 7}))
        if "connection" in ConfigureTaskOptions.__annotations__:
            cats.tasks[f"{prefix}feed"].configure(connection=conn).defer(n=1)
        else:
            app.enqueue(conn, Job(f"{prefix}feed", {"n": 1}, key="cat"))
    async with Runner(app, dsn) as runner:
        await eventually(lambda: ("tick", 0) in seen)
        await runner.wait_idle(20)

    feeds = [(f"{prefix}feed", 1, "cat"), (f"{prefix}feed", 0, "cat")]
    assert set(seen) == {("own", 1), ("tick", 7), ("tick", 0), *feeds}
    async with theirs.open_async():  # on the database that the environment names
        await cats.tasks[f"{prefix}feed"].defer_async(n=5)
    with psycopg.connect(dsn) as conn:
        assert conn.execute("select task, args ->> 'n' from jobrunner.jobs where key = 'cat'").fetchall() == [
            (f"{prefix}feed", "5")
        ]


def test_two_blueprints_share_an_app_and_a_bound_one_keeps_its_own(dsn: str) -> None:
    app, theirs, bound = App("shop"), fresh_app(JobrunnerConnector(dsn)), blueprint([])
    first = app.include(blueprint([]), namespace="a")
    assert app.include(blueprint([]), namespace="b") is first

    theirs.add_tasks_from(bound, namespace="c")
    assert app.include(bound) is theirs
    assert {"a:feed", "b:feed", "c:feed"} < set(app.tasks)
    assert not any("builtin" in name for name in app.tasks)
    assert theirs.tasks["builtin:procrastinate.builtin_tasks.remove_old_jobs"].blueprint is theirs


def test_what_cannot_be_included_says_why(dsn: str, tmp_path: Path) -> None:
    app, theirs = App("shop"), fresh_app(JobrunnerConnector(dsn), import_paths=["not.there"])
    app.include(blueprint([]))
    for wrong, problem in (
        (blueprint([]), "finds a name that is taken, give the blueprint a namespace=: A task named feed was"),
        (procrastinate.Blueprint(), "finds no tasks in the blueprint"),
        (object(), "takes a Blueprint or an App of procrastinate, got a object"),
        (theirs, "cannot import what the app has in its import_paths: No module named 'not'"),
    ):
        with pytest.raises(ConfigError, match=problem):
            app.include(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="these tasks have their names already"):
        app.include(fresh_app(JobrunnerConnector(dsn)), namespace="x")


# ------------------------------------------------------------------------------------------------ the command

SHOP = """
import procrastinate

theirs = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo="host=nowhere.invalid"), import_paths=["more"])
blueprint = procrastinate.Blueprint()

@blueprint.task(name="mail")
async def mail(to):
    await theirs.configure_task("note").defer_async(text=f"to {to}")

theirs.add_tasks_from(blueprint, namespace="shop")
"""
MORE = """
from shop import theirs

@theirs.task(name="note", aliases=["noted"])
def note(text):
    print(text, flush=True)
"""


def started(*command: str, dsn: str, cwd: Path) -> subprocess.Popen[str]:
    call = [sys.executable, "-m", "jobrunner", *command]
    return subprocess.Popen(
        call, env=environment(dsn), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_command_runs_an_unchanged_app(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "more.py").write_text(MORE)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("""select jobrunner.enqueue('shop:mail', '{"to": "ann"}')""")
        process = started("run", "shop:theirs", "--slots", "2", dsn=dsn, cwd=tmp_path)
        try:
            over = "select count(*) from jobrunner.finished_jobs where state = 'succeeded'"
            wait_until(lambda: conn.execute(over).fetchone() == (2,) or process.poll() is not None, 30)
            assert conn.execute("select app from jobrunner.runners").fetchall() == [("shop",)]
            os.kill(process.pid, signal.SIGTERM)
            said, problems = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, said) == (0, "to ann\n"), problems


FLEET = """
import os, pathlib, time
import procrastinate

theirs = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo="host=nowhere.invalid"))

@theirs.task(name="hold", pass_context=True)
def hold(context):
    with pathlib.Path("starts").open("a") as file:
        file.write(f"{os.getpid()} {context.job.attempts}\\n")
    while not context.should_abort():
        time.sleep(0.01)

@theirs.periodic(cron="* * * * * *")
@theirs.task(name="tick")
async def tick(timestamp): ...
"""


def test_a_killed_process_of_a_fleet_costs_no_job_and_several_defer_no_tick_twice(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "fleet.py").write_text(FLEET)
    starts = tmp_path / "starts"

    def starts_seen(n: int) -> list[list[int]]:
        lines = starts.read_text().splitlines() if starts.exists() else []
        return [[int(word) for word in line.split()] for line in lines] if len(lines) == n else []

    command = ["run", "fleet:theirs", "--processes", "2", "--lease", "60s", "--grace", "1s"]
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("select jobrunner.enqueue('hold')")
        process = started(*command, dsn=dsn, cwd=tmp_path)
        try:
            [[first, _]] = wait_until(lambda: starts_seen(1), 30, "the first start")
            os.kill(first, signal.SIGKILL)
            _, [second, attempts] = wait_until(
                lambda: starts_seen(2), 10, "the second start, long before the lease ends"
            )
            assert (second != first, attempts) == (True, 1)

            ticks = """
                select args ->> 'timestamp' from jobrunner.jobs where task = 'tick'
                union all
                select args ->> 'timestamp' from jobrunner.finished_jobs where task = 'tick'"""
            seen = wait_until(lambda: found if len(found := conn.execute(ticks).fetchall()) >= 3 else [], 30, "ticks")
            assert len(seen) == len(set(seen))
            os.kill(process.pid, signal.SIGTERM)
            _, problems = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0, problems


def test_an_app_of_either_kind_is_found_by_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_either.py").write_text(SHOP.replace(', import_paths=["more"]', ""))
    monkeypatch.syspath_prepend(tmp_path)
    fresh_app(JobrunnerConnector())  # gives the builtin task its name back

    assert "shop:mail" in load_app("shop_either").tasks
    assert load_app("shop_either:theirs").name == "shop_either"
    with pytest.raises(ConfigError, match="is a Blueprint, not a jobrunner App nor a procrastinate App"):
        load_app("shop_either:blueprint")
