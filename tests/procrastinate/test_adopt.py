"""`jobrunner adopt procrastinate`: what waits in procrastinate's own tables moves, exactly once, in the order of its locks."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import procrastinate
import psycopg
import pytest
from procrastinate.schema import SchemaManager
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobrunner.ops import adopting
from jobrunner.procrastinate import JobrunnerConnector
from jobrunner.store import adoption
from tests.conftest import Connection, Login
from tests.ops.shell import Shell, environment
from tests.procrastinate.rig import Rig, fresh_app
from tests.support import eventually, wait_until


@asynccontextmanager
async def opened(dsn: str, kind: str) -> AsyncIterator[Rig]:
    made: Any = JobrunnerConnector if kind == "ours" else procrastinate.PsycopgConnector
    app = fresh_app(made(conninfo=dsn, min_size=1, max_size=6))
    async with app.open_async():
        rig = Rig(app, kind, dsn)
        try:
            yield rig
        finally:
            await rig.stop()


@pytest.fixture
async def theirs(dsn: str) -> AsyncIterator[Rig]:
    """The app as it was."""
    async with opened(dsn, "theirs") as rig:
        yield rig


@pytest.fixture
async def ours(dsn: str) -> AsyncIterator[Rig]:
    """The app on jobrunner's tables."""
    async with opened(dsn, "ours") as rig:
        yield rig


@pytest.fixture
def adopt(dsn: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs the command; its JSON."""
    shell = Shell(dsn, capsys)

    def run(*options: str, code: int = 0) -> Any:
        result = shell("adopt", "procrastinate", "--json", *options)
        assert result.code == code, result.err
        return result.json if result.out else result.err

    return run


def waiting(conn: Connection) -> int:
    """Rows that wait in procrastinate's table, whatever they are for."""
    row = conn.execute("select count(*) from procrastinate_jobs where status = 'todo'").fetchone()
    assert row is not None
    return int(row[0])


def fill(conn: Connection, n: int, lock: str = "null", **columns: str) -> None:
    """Jobs in procrastinate's table; *lock* and *columns* are SQL over i."""
    given = {"scheduled_at": "null", "priority": "0", "queueing_lock": "null", **columns}
    conn.execute(
        f"insert into procrastinate_jobs (queue_name, task_name, args, lock, {', '.join(given)}) "
        f"select 'default', 'note', jsonb_build_object('n', i), {lock}, {', '.join(given.values())} from generate_series(1, {n}) i"
    )


async def test_everything_of_a_job_moves(theirs: Rig, ours: Rig, conn: Connection, adopt: Callable[..., Any]) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    note = theirs.task(queue="q", priority=7, lock="l", queueing_lock="only")
    source = await note.configure(schedule_at=later).defer_async(n={"deep": [1, "ä"]})
    before = await theirs.job(source)
    deferred = conn.execute(
        "select at from procrastinate_events where job_id = %s and type = 'deferred'", [source]
    ).fetchone()

    report = adopt()

    (after,) = await ours.manager.list_jobs_async()
    same = (
        "queue",
        "task_name",
        "priority",
        "lock",
        "queueing_lock",
        "task_kwargs",
        "status",
        "scheduled_at",
        "attempts",
    )
    assert {name: getattr(after, name) for name in same} == {name: getattr(before, name) for name in same}
    assert conn.execute(
        "select headers ->> 'procrastinate_id', created_at, max_attempts from jobrunner.jobs"
    ).fetchone() == (
        str(source),
        *(deferred or ()),
        1000,
    )
    assert (report["moved"], report["scheduled"], report["left"]["total"], waiting(conn)) == (1, 1, 0, 0)
    assert conn.execute("select action, jobs from jobrunner.audit").fetchall() == [("adopt", 1)]
    ours.task(name="elsewhere")
    with pytest.raises(procrastinate.exceptions.AlreadyEnqueued):
        await ours.app.configure_task("elsewhere", queueing_lock="only").defer_async()


async def test_moved_jobs_run_by_priority_and_id(theirs: Rig, ours: Rig, adopt: Callable[..., Any]) -> None:
    note = theirs.task()
    await note.batch_defer_async({"n": 1}, {"n": 2})
    await note.configure(priority=5).defer_async(n=3)
    await note.configure(lock="l").batch_defer_async({"n": 4}, {"n": 5})
    await note.configure(lock="l", priority=1).defer_async(n=6)  # procrastinate lets it pass those of its lock

    ours.task()
    assert adopt()["moved"] == 6
    await ours.drain()

    assert [n for n in ours.ran if n < 4] == [3, 1, 2]
    assert [n for n in ours.ran if n >= 4] == [6, 4, 5]


async def test_a_job_that_was_tried_there_goes_on_counting(
    theirs: Rig, ours: Rig, conn: Connection, adopt: Callable[..., Any]
) -> None:
    tried: list[int] = []
    for rig in (theirs, ours):

        @rig.app.task(name="flaky", retry=procrastinate.RetryStrategy(max_attempts=2), pass_context=True)
        async def flaky(context: procrastinate.JobContext) -> None:
            tried.append(context.job.attempts)
            raise ValueError("no")

    await theirs.app.tasks["flaky"].defer_async()
    worker = await theirs.manager.register_worker()
    job = await theirs.manager.fetch_job(queues=None, worker_id=worker)
    assert job
    await theirs.manager.retry_job(job)

    adopt()
    await ours.drain()

    assert tried == [1, 2]
    assert conn.execute("select failures from jobrunner.jobs").fetchone() == (3,)
    assert [(each.status, each.attempts) for each in await ours.manager.list_jobs_async()] == [("failed", 3)]


async def test_what_waits_in_a_lock_behind_a_time_stays_behind_it(
    theirs: Rig, ours: Rig, conn: Connection, adopt: Callable[..., Any]
) -> None:
    due = datetime.now(UTC) + timedelta(hours=1)
    note = theirs.task(lock="l")
    await note.configure(schedule_at=due).defer_async(n=0)
    await note.batch_defer_async({"n": 1}, {"n": 2})
    worker = await theirs.manager.register_worker()
    assert await theirs.manager.fetch_job(queues=None, worker_id=worker) is None  # there it waits as well

    assert adopt()["scheduled"] == 3
    await note.defer_async(n=3)  # the lock is closed there, and knows the time
    assert adopt()["scheduled"] == 1

    times = [job.scheduled_at or due for job in await ours.manager.list_jobs_async()]
    assert times[0] == due
    assert times == sorted(set(times)) and times[-1] < due + timedelta(seconds=1)
    conn.execute("update jobrunner.jobs set run_at = run_at - interval '2 hours'")
    ours.task()
    await ours.drain()
    assert ours.ran == [0, 1, 2, 3]


def test_what_has_no_lock_waits_for_nobodys_time(conn: Connection, adopt: Callable[..., Any]) -> None:
    fill(conn, 3, "case when i = 2 then '' end", scheduled_at="case i when 1 then now() + interval '1 day' end")

    report = adopt(code=5)  # an empty lock is refused

    assert (report["moved"], report["scheduled"]) == (2, 1)
    states = "select args -> 'n', state from jobrunner.jobs order by id"
    assert conn.execute(states).fetchall() == [(1, "scheduled"), (3, "ready")]


async def test_a_lock_stays_as_long_as_a_job_of_it_runs_there(
    theirs: Rig, ours: Rig, conn: Connection, adopt: Callable[..., Any]
) -> None:
    note = theirs.task()
    await note.configure(lock="l").batch_defer_async({"n": 1}, {"n": 2})
    await note.configure(lock="m").defer_async(n=3)
    worker = await theirs.manager.register_worker()
    job = await theirs.manager.fetch_job(queues=None, worker_id=worker)
    assert job and job.lock == "l"

    report = adopt()

    assert (report["moved"], report["left"]["running"], report["running"], report["workers"]) == (1, 1, 1, 1)
    assert waiting(conn) == 2  # the job, and what closes m: a worker is alive, and a job of m waits here
    await theirs.manager.finish_job(job, status=procrastinate.jobs.Status.SUCCEEDED, delete_job=False)
    following = await theirs.manager.fetch_job(queues=None, worker_id=worker)
    assert following and following.task_kwargs == {"n": 2}


async def test_a_lock_that_has_moved_is_closed_to_the_workers_there_until_it_is_done_here(
    theirs: Rig, ours: Rig, conn: Connection, adopt: Callable[..., Any]
) -> None:
    note = theirs.task(lock="l")
    await note.defer_async(n=1)
    worker = await theirs.manager.register_worker()

    assert adopt()["closed_locks"] == 1
    await note.defer_async(n=2)
    await note.configure(priority=99).defer_async(n=3)
    assert await theirs.manager.fetch_job(queues=None, worker_id=worker) is None
    first, *_ = await theirs.manager.list_jobs_async()
    assert first.task_name == "jobrunner.adopt"  # and it can be listed

    assert adopt()["moved"] == 2
    ours.task()
    await ours.drain()
    assert ours.ran == [1, 3, 2]
    assert adopt()["closed_locks"] == 0
    assert waiting(conn) == 0
    await note.defer_async(n=4)
    assert await theirs.manager.fetch_job(queues=None, worker_id=worker)


async def test_a_dead_letter_keeps_no_lock_closed(theirs: Rig, ours: Rig, adopt: Callable[..., Any]) -> None:
    await theirs.task(lock="l").defer_async()
    await theirs.manager.register_worker()

    @ours.app.task(name="note")
    async def note(n: Any = None) -> None:
        raise ValueError("no")

    assert adopt()["closed_locks"] == 1
    await ours.drain()
    assert adopt()["closed_locks"] == 0


async def test_a_lock_stays_closed_without_workers_while_one_of_it_waits_there(
    theirs: Rig, ours: Rig, adopt: Callable[..., Any]
) -> None:
    await ours.task(queueing_lock="only").defer_async()
    await theirs.task(lock="l").defer_async()
    await theirs.app.configure_task("note", lock="l", queueing_lock="only").defer_async()

    report = adopt()

    assert (report["moved"], report["left"]["queueing_lock"], report["workers"]) == (1, 1, 0)
    assert report["closed_locks"] == 1


async def test_a_queueing_lock_that_is_taken_here_leaves_its_job_there(
    theirs: Rig, ours: Rig, conn: Connection, adopt: Callable[..., Any]
) -> None:
    here = ours.task(queueing_lock="only")
    await here.defer_async(n="here")
    there = theirs.task(queueing_lock="only", lock="l")
    await there.defer_async(n="there")
    fill(conn, 1, "'l'", queueing_lock="'another'")

    report = adopt()

    assert (report["moved"], report["left"]["queueing_lock"], report["left"]["behind"]) == (0, 1, 1)
    assert conn.execute("select count(*) from jobrunner.unique_keys").fetchone() == (1,)
    await ours.drain()
    assert adopt()["moved"] == 2
    await ours.drain()
    assert ours.ran == ["here", "there", 1]


def test_what_jobrunner_does_not_take_stays_with_a_sentence(
    conn: Connection, adopt: Callable[..., Any], dsn: str, capsys: Any
) -> None:
    fill(conn, 1, priority="40000")
    fill(conn, 2, "'l'", scheduled_at="case i when 1 then now() + interval '6 years' end", queueing_lock="'q' || i")
    fill(conn, 1, "repeat('x', 3000)")
    fill(conn, 1)

    would = adopt("--dry-run")
    result = Shell(dsn, capsys)("adopt", "procrastinate", "--json")

    assert (would["waiting"], would["left"]["refused"], would["tasks"][0]["task"]) == (5, 3, "note")
    assert result.code == 5 and "cannot move 3 jobs: jobrunner does not take them" in result.err
    assert [one["problem"] for one in result.json["refused"]] == [
        "priority must be between -32768 and 32767",
        "run_at must be within 5 years",
        "key must have 1 to 512 bytes and no control character",
    ]
    assert (result.json["moved"], result.json["left"]["behind"], waiting(conn)) == (1, 1, 4)
    assert conn.execute("select count(*) from jobrunner.unique_keys").fetchone() == (0,)


async def test_periodic_marks_come_along(theirs: Rig, ours: Rig, conn: Connection, adopt: Callable[..., Any]) -> None:
    async def defer(rig: Rig, tick: int) -> int | None:
        job = tasks[rig].configure(task_kwargs={"timestamp": tick}).job
        return await rig.manager.defer_periodic_job(job=job, periodic_id="p", defer_timestamp=tick)

    tasks: dict[Rig, Any] = {}
    for rig in (theirs, ours):

        @rig.app.task(name="tick")
        async def note(timestamp: int) -> None:
            ours.ran.append(timestamp)

        tasks[rig] = note
    await defer(theirs, 1_700_000_000)
    await defer(theirs, 1_700_000_060)

    report = adopt()

    assert (report["moved"], report["periodic_marks"]) == (2, 1)
    assert await defer(ours, 1_700_000_060) is None
    await ours.drain()
    assert ours.ran == [1_700_000_000, 1_700_000_060]
    assert adopt()["periodic_marks"] == 0
    await defer(theirs, 1_700_000_120)
    await defer(ours, 1_700_000_180)
    assert adopt()["periodic_marks"] == 0  # the later one stays
    await defer(theirs, 1_700_000_240)
    assert adopt()["periodic_marks"] == 1
    assert await defer(ours, 1_700_000_240) is None


def test_nothing_is_changed_by_a_dry_run(conn: Connection, adopt: Callable[..., Any]) -> None:
    fill(conn, 3, "'l'", scheduled_at="now() + i * interval '1 day'")

    report = adopt("--dry-run")

    assert report["dry_run"] and (report["waiting"], report["scheduled"]) == (3, 3)
    assert report["tasks"] == [
        {"task": "note", "queue": "default", "jobs": 3, "scheduled": 3, "with_lock": 3, "refused": 0, "problem": None}
    ]
    assert waiting(conn) == 3
    assert conn.execute("select count(*) from jobrunner.jobs").fetchone() == (0,)


def test_history_is_not_moved_and_counted(conn: Connection, adopt: Callable[..., Any]) -> None:
    fill(conn, 3)
    conn.execute("update procrastinate_jobs set status = 'failed' where args ->> 'n' = '1'")
    conn.execute("update procrastinate_jobs set status = 'doing' where args ->> 'n' = '2'")

    report = adopt()

    assert (report["moved"], report["running"], report["history"]) == (1, 1, {"failed": 1})


def test_another_schema(bare_dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell(bare_dsn, capsys)
    shell("migrate")
    missing = shell("adopt", "procrastinate")
    assert (missing.code, missing.err.count("\n")) == (4, 1)
    assert "no table procrastinate_jobs in this database" in missing.err

    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        conn.execute("set client_min_messages = warning")
        for schema in ('"Old one"', "public"):
            conn.execute(f"create schema if not exists {schema}")
            conn.execute(f"set search_path = {schema}")
            conn.execute(SchemaManager.get_schema())
        conn.execute('set search_path = "Old one"')
        fill(conn, 2, "'l'")

        several = shell("adopt", "procrastinate")
        assert several.code == 2 and "Old one, public" in several.err
        assert shell("adopt", "procrastinate", "--schema", "Old one", "--json").json["moved"] == 2
        assert shell("adopt", "procrastinate", "--schema", "nowhere").code == 4

        conn.execute("alter table procrastinate_jobs add column tenant text")
        strange = shell("adopt", "procrastinate", "--schema", "Old one")
        assert strange.code == 5 and "has tenant" in strange.err
        conn.execute("alter table procrastinate_jobs drop column tenant, drop column worker_id cascade")
        lacking = shell("adopt", "procrastinate", "--schema", "Old one")
        assert lacking.code == 5 and "lacks worker_id" in lacking.err


def test_who_may_not_is_told_and_who_may_migrate_needs_rights_on_their_tables_only(
    conn: Connection, login: Login, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(conn, 2, "'l'", queueing_lock="'q' || i")
    address = login("migrator")
    deployer, shell = conninfo_to_dict(address)["user"], Shell(address, capsys)

    denied = shell("adopt", "procrastinate")
    assert (denied.code, denied.err.count("\n")) == (1, 1)
    assert f"the database role {deployer} may not" in denied.err

    conn.execute(f"grant select, insert, update, delete on all tables in schema public to {deployer}".encode())
    conn.execute(f"grant usage on all sequences in schema public to {deployer}".encode())
    assert shell("adopt", "procrastinate", "--dry-run", "--json").json["waiting"] == 2
    assert shell("adopt", "procrastinate", "--json").json["moved"] == 2
    assert conn.execute("select login from jobrunner.audit").fetchall() == [(deployer,)]


def test_a_trigger_that_keeps_rows_takes_everything_back(conn: Connection, adopt: Callable[..., Any]) -> None:
    fill(conn, 1)
    conn.execute("create function keep() returns trigger language plpgsql as 'begin return null; end'")
    conn.execute("create trigger zz before delete on procrastinate_jobs for each row execute function keep()")

    assert "a trigger on procrastinate_jobs keeps them" in adopt(code=5)
    assert conn.execute("select count(*) from jobrunner.jobs").fetchone() == (0,)


def test_what_somebody_holds_is_passed_over_and_so_is_its_lock(
    conn: Connection, dsn: str, adopt: Callable[..., Any]
) -> None:
    fill(conn, 4, "case when i > 1 then 'l' end")
    with psycopg.connect(dsn) as other:
        other.execute("select from procrastinate_jobs where args ->> 'n' = '3' for update")
        report = adopt()

        assert (report["moved"], report["left"]["held"], report["left"]["behind"]) == (1, 1, 2)
    assert adopt()["moved"] == 3


def test_a_lock_that_a_worker_may_not_see_closed_yet_stays(
    conn: Connection, dsn: str, adopt: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopting, "_SETTLING", 0.05)
    fill(conn, 3, "case when i > 1 then 'l' end")
    with psycopg.connect(dsn) as other:
        other.execute(
            "update procrastinate_jobs set id = id where false"
        )  # a fetch that is under way would hold as much
        report = adopt()

        assert (report["moved"], report["left"]["open"], waiting(conn)) == (1, 2, 2)
    assert adopt()["moved"] == 2


def test_a_job_whose_lock_is_not_closed_stays(conn: Connection) -> None:
    fill(conn, 2, "case when i > 1 then 'l' end")
    with conn.transaction():
        picked = adoption.pick(conn, adoption.Place(), 10)
        judged = adoption.move(conn, picked, settled=True, actor="test")

    assert [(one.moved, one.left_by) for one in judged] == [(True, None), (False, "open")]


def test_a_second_adoption_waits_for_the_first(conn: Connection, dsn: str) -> None:
    fill(conn, 3)
    with psycopg.connect(dsn) as other:
        other.execute("select pg_advisory_xact_lock(727006)")
        second = subprocess.Popen(
            [sys.executable, "-m", "jobrunner", "adopt", "procrastinate"],
            env=environment(dsn),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert second.stderr is not None
        assert second.stderr.readline() == "another adoption is at work; waiting for its end\n"
        assert waiting(conn) == 3
    out, _ = second.communicate(timeout=20)
    assert (second.returncode, waiting(conn)) == (0, 0)
    assert "moved 3 jobs" in out


def test_it_looks_now_and_then_while_it_waits_for_what_runs_there(
    conn: Connection, dsn: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(conn, 1)
    conn.execute("update procrastinate_jobs set status = 'doing'")
    pauses, rounds = list[float](), list[None]()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        conn.execute("update procrastinate_jobs set status = 'failed'")

    def round_(self: Any, *, more: bool) -> bool:
        rounds.append(None)
        assert len(rounds) < 10, "one round after the other"
        return look(self, more=more)

    look = adopting.Adoption._round
    monkeypatch.setattr(adopting.Adoption, "_round", round_)
    monkeypatch.setattr(adopting, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))

    result = Shell(dsn, capsys)("adopt", "procrastinate", "--wait")

    assert (result.code, pauses) == (0, [adopting._PAUSE])
    assert "waiting for 1 job that runs there" in result.err


def test_the_turn_outlives_the_limits_of_a_transaction(conn: Connection, dsn: str) -> None:
    fill(conn, 1)
    conn.execute("update procrastinate_jobs set status = 'doing'")
    limits = "-c transaction_timeout=200 -c idle_in_transaction_session_timeout=200"
    process = start(make_conninfo(dsn, options=limits), "--wait")
    turn = (
        "select clock_timestamp() - a.xact_start > interval '300 ms' from pg_locks l join pg_stat_activity a using (pid) "
        "where l.locktype = 'advisory' and l.objid = 727006 and a.datname = current_database()"
    )
    wait_until(lambda: conn.execute(turn).fetchone() == (True,) or process.poll() is not None, what="a long turn")
    conn.execute("update procrastinate_jobs set status = 'failed'")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err


def counted(conn: Connection) -> tuple[int, int]:
    """Jobs here, and rows that wait there."""
    (here,) = conn.execute("select count(*) from jobrunner.jobs").fetchone() or (0,)
    return here, waiting(conn)


def start(dsn: str, *options: str) -> subprocess.Popen[str]:
    """The real command, running."""
    return subprocess.Popen(
        [sys.executable, "-m", "jobrunner", "adopt", "procrastinate", "--json", *options],
        env=environment(dsn),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.faults
async def test_killed_in_the_middle_of_a_batch_nothing_is_lost_or_moved_twice(
    ours: Rig, conn: Connection, dsn: str, adopt: Callable[..., Any]
) -> None:
    lines = 1200
    fill(conn, lines, "case when i > 3 then 'lock ' || i % 5 end", queueing_lock="case i when 700 then 'only' end")
    blocked = "select pid from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    with psycopg.connect(dsn) as other:
        job = {"task": "note", "unique_key": "only", "unique_scope": "procrastinate"}
        other.execute("select jobrunner.procrastinate_defer_v1(%s)", [json.dumps([job])])
        process = start(dsn)
        row = wait_until(lambda: conn.execute(blocked).fetchone(), what="the second batch, half-way")
        assert counted(conn) == (adopting.BATCH, lines - adopting.BATCH + 5)  # and what keeps five locks closed
        process.send_signal(signal.SIGKILL)
        process.communicate()
        other.rollback()
    wait_until(lambda: not conn.execute("select from pg_stat_activity where pid = %s", row).fetchone(), what="its end")
    assert counted(conn) == (adopting.BATCH, lines - adopting.BATCH + 5)

    report = adopt()

    assert report["moved"] == lines - adopting.BATCH
    assert counted(conn) == (lines, 0)
    sources = "select count(distinct headers ->> 'procrastinate_id') from jobrunner.jobs"
    assert conn.execute(sources).fetchone() == (lines,)
    orders = (
        "select bool_and(n > before) from (select (args ->> 'n')::int as n, "
        "lag((args ->> 'n')::int) over (partition by key order by seq) as before from jobrunner.jobs where key is not null) o"
    )
    assert conn.execute(orders).fetchone() == (True,)


class Storm:
    """Both sides at work on the same locks; what ran, where, and whether two of a lock ever ran at once."""

    def __init__(self, theirs: Rig, ours: Rig) -> None:
        self.ran: list[tuple[str | None, int]] = []
        self.sides: set[str] = set()
        self.running: set[str] = set()
        self.beside: list[str] = []
        self.sent: list[int] = []
        self.dropped = 0
        self.stop = False
        self.tasks = {rig.kind: self._task(rig) for rig in (theirs, ours)}

    def _task(self, rig: Rig) -> Any:
        @rig.app.task(name="storm")
        async def storm(lock: str | None, n: int) -> None:
            if lock in self.running:
                self.beside.append(lock)
            if lock is not None:
                self.running.add(lock)
            await asyncio.sleep(0.001)
            self.running.discard(lock or "")
            self.ran.append((lock, n))
            self.sides.add(rig.kind)

        return storm

    async def defer(self) -> None:
        """In procrastinate's tables, until told to stop: most with a lock, some with a queueing lock, some for later."""
        n = 0
        while not self.stop:
            n += 1
            lock = f"lock {n % 4}" if n % 5 else None
            options: dict[str, Any] = {"lock": lock}
            if n % 7 == 0:
                options["queueing_lock"] = f"only {n % 3}"
            if n % 11 == 0 and lock is None:
                options["schedule_at"] = datetime.now(UTC) + timedelta(milliseconds=300)
            try:
                await self.tasks["theirs"].configure(**options).defer_async(lock=lock, n=n)
                self.sent.append(n)
            except procrastinate.exceptions.AlreadyEnqueued:
                self.dropped += 1
            await asyncio.sleep(0.002)


@pytest.mark.faults
async def test_while_both_sides_work_each_job_runs_once_and_each_lock_in_order(
    theirs: Rig, ours: Rig, conn: Connection, dsn: str
) -> None:
    storm = Storm(theirs, ours)
    fill(conn, 1)
    conn.execute("update procrastinate_jobs set status = 'doing'")  # so that --wait does not end between two jobs
    theirs.start(concurrency=4, fetch_job_polling_interval=0.05)
    theirs.start(concurrency=4, fetch_job_polling_interval=0.05)
    ours.start(concurrency=4, fetch_job_polling_interval=0.05)
    deferring = asyncio.create_task(storm.defer())
    await eventually(lambda: len(storm.ran) > 20)

    first, second = start(dsn, "--wait"), start(dsn, "--wait")
    await eventually(lambda: "ours" in storm.sides, what="a moved job that ran here")
    await eventually(lambda: len(storm.ran) > 200)
    assert first.poll() is None
    first.kill()
    seen = len(storm.ran)
    await eventually(lambda: len(storm.ran) > seen + 200)
    assert second.poll() is None
    second.kill()
    third = start(dsn, "--wait")
    await eventually(lambda: len(storm.ran) > seen + 400)
    storm.stop = True
    await deferring
    conn.execute("update procrastinate_jobs set status = 'failed' where task_name = 'note'")
    out, err = await asyncio.to_thread(third.communicate, timeout=30)
    first.communicate(), second.communicate()
    assert third.returncode == 0, err
    assert (json.loads(out)["left"]["total"], json.loads(out)["running"]) == (0, 0)
    await eventually(lambda: len(storm.ran) >= len(storm.sent), what="the end of all")

    assert sorted(n for _, n in storm.ran) == storm.sent
    assert storm.sides == {"theirs", "ours"} and storm.dropped
    assert storm.beside == []
    for lock in {lock for lock, _ in storm.ran if lock}:
        order = [n for one, n in storm.ran if one == lock]
        assert order == sorted(order)
