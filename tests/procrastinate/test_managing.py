"""What people look at and type: lists and counters, the shell, the command line, schema calls, health checks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import procrastinate
import psycopg
import psycopg_pool
import pytest
from procrastinate import cli, exceptions, jobs, shell, sql

from jobrunner.procrastinate import JobrunnerConnector, SyncJobrunnerConnector
from tests.procrastinate.rig import Rig, fresh_app
from tests.support import eventually

STATUSES = ("todo", "doing", "succeeded", "failed", "cancelled", "aborted")


@pytest.fixture
async def full(rig: Rig) -> dict[str, int]:
    """One job of each status, in queue a or b, some with a lock; their ids."""
    note = rig.task()
    worker = await rig.manager.register_worker()
    ids: dict[str, int] = {}
    for status in ("succeeded", "failed", "aborted"):
        ids[status] = await note.configure(queue="a", lock="l").defer_async(n=status)
        job = await rig.manager.fetch_job(queues=["a"], worker_id=worker)
        assert job is not None
        await rig.manager.finish_job(job, status=jobs.Status(status), delete_job=False)
    ids["doing"] = await note.configure(queue="b", lock="m").defer_async(n="doing")
    await rig.manager.fetch_job(queues=["b"], worker_id=worker)
    ids["cancelled"] = await note.configure(queue="b").defer_async(n="cancelled")
    await rig.manager.cancel_job_by_id_async(ids["cancelled"])
    ids["todo"] = await rig.app.configure_task("other", queue="b", lock="m").defer_async(n="todo")
    ids["worker"] = worker
    return ids


async def test_jobs_are_listed_by_every_filter(rig: Rig, full: dict[str, int]) -> None:
    async def ids(**filters: Any) -> set[int]:
        return {int(job.id or 0) for job in await rig.manager.list_jobs_async(**filters)}

    of = {full[status] for status in STATUSES}
    assert await ids() == of
    for status in STATUSES:
        assert await ids(status=status) == {full[status]}
        assert await ids(id=full[status]) == {full[status]}
    assert await ids(queue="a") == {full["succeeded"], full["failed"], full["aborted"]}
    assert await ids(task="other") == {full["todo"]}
    assert await ids(lock="m") == {full["doing"], full["todo"]}
    assert await ids(worker_id=full["worker"], status="doing") == {full["doing"]}
    assert await ids(queueing_lock="none") == set()
    listed = [job.id for job in await rig.manager.list_jobs_async()]
    assert listed == sorted(listed, key=lambda job_id: job_id or 0)


async def test_counters_count(rig: Rig, full: dict[str, int]) -> None:
    def counts(name: str, **of: int) -> dict[str, Any]:
        return {"name": name, "jobs_count": sum(of.values()), **{s: of.get(s, 0) for s in STATUSES}}

    a, b = {"succeeded": 1, "failed": 1, "aborted": 1}, {"todo": 1, "doing": 1, "cancelled": 1}
    note = {status: 1 for status in STATUSES if status != "todo"}
    assert list(await rig.manager.list_queues_async()) == [counts("a", **a), counts("b", **b)]
    assert list(await rig.manager.list_queues_async(status="failed")) == [counts("a", failed=1)]
    assert list(await rig.manager.list_tasks_async()) == [counts("note", **note), counts("other", todo=1)]
    assert list(await rig.manager.list_tasks_async(queue="b", task="note")) == [counts("note", doing=1, cancelled=1)]
    assert list(await rig.manager.list_locks_async()) == [counts("l", **a), counts("m", doing=1, todo=1)]
    assert list(await rig.manager.list_locks_async(lock="m", status="todo")) == [counts("m", todo=1)]
    rows = await rig.app.connector.execute_query_all_async(sql.queries["count_jobs_status"])
    assert {row["status"]: row["count"] for row in rows} == dict.fromkeys(STATUSES, 1)


async def test_a_status_that_there_is_not_is_an_error_and_not_an_empty_list(rig: Rig) -> None:
    manager = rig.manager
    for look in (
        manager.list_jobs_async,
        manager.list_queues_async,
        manager.list_tasks_async,
        manager.list_locks_async,
    ):
        with pytest.raises(exceptions.ConnectorException):
            await look(status="done")


async def test_the_shell_shows_and_changes(rig: Rig, full: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    await asyncio.to_thread(
        _type, rig, f"list_jobs id={full['failed']} details", "list_queues", "list_tasks", "list_locks"
    )
    out = capsys.readouterr().out
    assert f"#{full['failed']} note on a - [failed]" in out and "lock=l" in out
    assert "a: 3 jobs (todo: 0, doing: 0, succeeded: 1, failed: 1, cancelled: 0, aborted: 1)" in out
    assert "note: 5 jobs" in out and "m: 2 jobs" in out

    await asyncio.to_thread(_type, rig, f"retry {full['failed']}", f"cancel {full['todo']}")
    out = capsys.readouterr().out
    assert f"#{full['failed']} note on a - [todo]" in out and f"#{full['todo']} other on b - [cancelled]" in out


def _type(rig: Rig, *lines: str) -> None:
    typed = shell.ProcrastinateShell(job_manager=rig.manager)
    for line in lines:
        typed.onecmd(line)


async def _command(app: procrastinate.App, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(cli, "load_app", lambda _: app)
    await cli.execute_command(
        {k: v for k, v in cli.parse_args(["-a", "app", *words]).items() if not k.startswith(("log_", "verbose"))}
    )


async def test_the_command_line_defers_works_and_checks(
    make_connector: Callable[..., Any],
    kind: str,
    dsn: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not hasattr(cli, "parse_args"):
        pytest.skip("this procrastinate's command line is one function")
    rig = Rig(fresh_app(make_connector()), kind, dsn)
    rig.task()

    await _command(rig.app, monkeypatch, "defer", "note", '{"n": 5}', "--lock", "l", "--priority", "2")
    await _command(rig.app, monkeypatch, "defer", "note", "--in", "3600", "--queueing-lock", "q")
    with pytest.raises(SystemExit):
        await _command(rig.app, monkeypatch, "defer", "note", "--queueing-lock", "q")
    await _command(rig.app, monkeypatch, "defer", "note", "--queueing-lock", "q", "--ignore-already-enqueued")
    await _command(rig.app, monkeypatch, "defer", "note", "--at", "2028-01-19T03:14:07Z", "--queue", "later")
    await _command(rig.app, monkeypatch, "defer", "--unknown", "far.away", "--queue", "far")
    with pytest.raises(SystemExit):
        await _command(rig.app, monkeypatch, "defer", "far.away")
    await _command(rig.app, monkeypatch, "worker", "--one-shot", "-q", "default")
    await _command(rig.app, monkeypatch, "defer", "note", '{"n": 6}', "--queue", "gone")
    flags = ["--concurrency", "2", "--no-listen-notify", "--delete-jobs", "always", "--name", "w"]
    await _command(rig.app, monkeypatch, "worker", "--one-shot", *flags, "-q", "gone")
    await _command(rig.app, monkeypatch, "healthchecks")
    await _command(rig.app, monkeypatch, "shell", "list_jobs")
    await _command(rig.app, monkeypatch, "shell", "list_queues")

    out, err = capsys.readouterr()
    assert rig.ran == [5, 6]
    assert "note on later - [todo]" in out and "far.away on far - [todo]" in out and "gone" not in out
    assert "far: 1 jobs (todo: 1" in out
    assert "DB connection: OK" in out and "procrastinate_jobs table: OK" in out
    assert "note on default - [succeeded]" in out and "(ignored)" in err


@pytest.mark.parametrize("sync", [False, True])
async def test_the_schema_is_made_by_its_own_command(kind: str, bare_dsn: str, sync: bool) -> None:
    made = JobrunnerConnector(bare_dsn) if kind == "ours" else procrastinate.PsycopgConnector(conninfo=bare_dsn)
    app = fresh_app(made)
    if sync:
        with app.open():
            assert not app.check_connection()
            app.schema_manager.apply_schema()
            assert app.check_connection()
    else:
        async with app.open_async():
            assert not await app.check_connection_async()
            await app.schema_manager.apply_schema_async()
            assert await app.check_connection_async()
            await app.configure_task("t").defer_async()


@pytest.mark.parametrize("called", [False, True])
async def test_the_schema_is_made_where_the_users_pool_leads(kind: str, bare_dsn: str, called: bool) -> None:
    where: Any = (lambda: bare_dsn) if called else bare_dsn
    connectors: tuple[Any, ...] = (procrastinate.PsycopgConnector, procrastinate.SyncPsycopgConnector)
    if kind == "ours":
        connectors = (JobrunnerConnector, SyncJobrunnerConnector)

    app = fresh_app(connectors[1]())
    kwargs = {"autocommit": True}
    with psycopg_pool.ConnectionPool(where, min_size=1, max_size=2, kwargs=kwargs, open=True) as pool, app.open(pool):
        app.schema_manager.apply_schema()
        assert app.check_connection()
    rig = Rig(fresh_app(connectors[0]()), kind, bare_dsn)
    note = rig.task()
    async with (
        psycopg_pool.AsyncConnectionPool(where, min_size=1, max_size=4, open=False) as async_pool,
        rig.app.open_async(async_pool),
    ):
        assert await rig.app.check_connection_async()
        rig.start(fetch_job_polling_interval=30 if rig.ours else 1)
        await note.defer_async(n=1)
        await eventually(lambda: rig.ran == [1])
        await note.defer_async(n=2)
        await eventually(lambda: rig.ran == [1, 2])
        await rig.stop()


async def test_the_status_of_no_job_is_an_error(rig: Rig) -> None:
    with pytest.raises(exceptions.NoResult):
        await rig.manager.get_job_status_async(4711)


async def test_an_error_of_the_database_is_procrastinates_own(rig: Rig) -> None:
    with psycopg.connect(rig.dsn, autocommit=True) as conn:
        conn.execute("drop schema jobrunner cascade" if rig.ours else "drop table procrastinate_jobs cascade")

    with pytest.raises(exceptions.ConnectorException) as raised:
        await rig.app.configure_task("t").defer_async()
    assert isinstance(raised.value.__cause__, psycopg.Error)


APP = """
import os
import procrastinate
from jobrunner.procrastinate import JobrunnerConnector

app = procrastinate.App(connector=JobrunnerConnector())

@app.task(name="t")
def t(n):
    print("ran", n, flush=True)
"""


def test_its_command_finds_an_app_with_nothing_but_the_environment(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    procrastinate_ = [sys.executable, "-m", "procrastinate", "-a", "shop.app"]
    environment = {
        "JOBRUNNER_DSN": dsn,
        "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
        "PATH": "/usr/bin:/bin",
    }

    def run(*words: str) -> str:
        return subprocess.run(
            [*procrastinate_, *words], env=environment, capture_output=True, text=True, check=True, timeout=30
        ).stdout

    run("defer", "t", '{"n": 3}')
    assert "ran 3" in run("worker", "--one-shot")
