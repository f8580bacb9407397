"""Jobs under which a runner was lost: alone, in a process of their own, until they are cleared or dead."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from jobrunner import Job, Runner
from tests.conftest import Connect, Connection
from tests.support import eventually
from tests.worker import zoo
from tests.worker.rig import Events, one, state

FAST: dict[str, Any] = {"lease": "3s", "poll": "100ms", "grace": "2s", "children": 1}

pytestmark = pytest.mark.pg16


def suspect(conn: Connection, job: Job, crashes: int = 1, **options: Any) -> int:
    """A job under which a runner was lost before."""
    with conn.transaction():
        job_id = zoo.app.enqueue(conn, job, **options)
        conn.execute("update jobrunner.jobs set crashes = %s where id = %s", [crashes, job_id])
    return job_id


def waiting(meet: Path) -> list[str]:
    """The processes of the `waits` that have begun."""
    return [path.read_text() for path in meet.glob("waits-*")]


async def test_a_suspect_runs_in_a_process_that_nobody_else_uses(dsn: str, conn: Connection) -> None:
    async with Runner(zoo.app, dsn, **FAST) as runner:
        ids = [suspect(conn, zoo.where.job()) for _ in range(2)]
        ids += [zoo.app.enqueue(conn, zoo.where.job())]
        pids = [zoo.app.enqueue(conn, zoo.pid.job()), suspect(conn, zoo.pid.job())]
        await runner.wait_idle(20)

    ran = [one(conn, "select result from jobrunner.v_job where id = %s", each) for each in ids]
    assert ran[0] == ran[1] != ran[2]
    assert [ran[0][1], ran[2][0]] == [os.getpid()] * 2
    process, alone = (one(conn, "select result from jobrunner.v_job where id = %s", each) for each in pids)
    assert alone == ran[0][0] != process


async def test_two_suspects_that_wait_run_at_a_time_in_processes_of_their_own(
    dsn: str, conn: Connection, tmp_path: Path
) -> None:
    """What a host that was switched off had in hand is not done one by one."""
    async with Runner(zoo.app, dsn, **{**FAST, "children": 2}, slots=4) as runner:
        ids = [suspect(conn, zoo.waits.job(meet=str(tmp_path))) for _ in range(3)]
        await eventually(lambda: len(waiting(tmp_path)) == 2, 20, "two of them")
        assert len(runner._slots.running) == 2
        pids = set(waiting(tmp_path))
        zoo.say(str(tmp_path), "go")
        await runner.wait_idle(20)

    assert len(pids) == 2
    assert [state(conn, each) for each in ids] == ["succeeded"] * 3


async def test_without_quarantine_it_runs_here(dsn: str, conn: Connection) -> None:
    async with Runner(zoo.app, dsn, **FAST, quarantine=False) as runner:
        suspect(conn, zoo.where.job())
        await runner.wait_idle(20)

    assert one(conn, "select result from jobrunner.v_job")[0] == os.getpid()


async def test_its_transaction_is_fenced_and_commits_once(dsn: str, conn: Connection) -> None:
    conn.execute(zoo.COUNT)
    ids = [suspect(conn, task.job(), key=key) for task in (zoo.counts, zoo.counts_async) for key in (None, "k")]
    async with Runner(zoo.app, dsn, **FAST) as runner:
        await runner.wait_idle(20)

    counted = zoo.counted(conn)
    assert [job_id for job_id, _ in counted] == ids
    assert os.getpid() not in {pid for _, pid in counted}
    assert one(conn, "select count(*), max(attempt), max(crashes) from jobrunner.finished_jobs") == (4, 1, 1)


async def test_what_a_later_attempt_has_taken_over_cannot_commit(dsn: str, conn: Connection, connect: Connect) -> None:
    conn.execute(zoo.COUNT)
    other = connect()
    other.execute("begin; lock table t_count in access exclusive mode")
    async with Runner(zoo.app, dsn, **FAST) as runner:
        job_id = suspect(conn, zoo.counts.job())
        await eventually(lambda: job_id in runner._slots.running, 10, "the run")
        conn.execute("update jobrunner.jobs set attempt = attempt + 1 where id = %s", [job_id])
        other.execute("commit")
        await eventually(lambda: not runner._slots.running, 10, "its end")

        assert zoo.counted(conn) == []
        assert state(conn, job_id) == "running"


async def test_events_and_batches_go_with_a_suspect(dsn: str, conn: Connection, tmp_path: Path) -> None:
    conn.execute(zoo.COUNT)
    async with Runner(zoo.birds, dsn, **FAST) as runner:
        await runner.wait_idle(10)
        conn.execute(
            "create function suspect() returns trigger language plpgsql as $$ begin new.crashes = 1; return new; end $$;"
            "create trigger suspect before insert on jobrunner.jobs for each row execute function suspect()"
        )
        with conn.transaction():
            zoo.birds.publish_many(conn, [zoo.Arrived(animal=name, meet=str(tmp_path)) for name in ("owl", "emu")])
        await runner.wait_idle(20)

    assert {(tmp_path / f"arrived-{name}").read_text() for name in ("owl", "emu")}.isdisjoint({str(os.getpid())})
    assert len(zoo.counted(conn)) == 2
    assert one(conn, "select position from jobrunner.cursors where subscription = 'birds.arrivals'") == 2


async def test_what_kills_its_process_is_dead_at_the_third_crash_and_nothing_else_is_hurt(
    dsn: str, conn: Connection
) -> None:
    bad = {how: suspect(conn, zoo.poison.job(how=how)) for how in ("_exit", "SIGSEGV")}
    keyed = suspect(conn, zoo.poison.job(how="SIGKILL"), crashes=2, key="k")
    good = [suspect(conn, zoo.good.job(n=1), crashes=2), zoo.app.enqueue(conn, zoo.good.job(n=2), key="k")]
    async with Runner(zoo.app, dsn, **FAST) as runner:
        events = Events(runner.telemetry)
        await runner.wait_idle(20)
        crashes = [str(each["error"]) for each in events.named("job.crashed")]

    for job_id in (*bad.values(), keyed):
        row = one(conn, "select state, reason, crashes, failures from jobrunner.jobs where id = %s", job_id)
        assert row == ("dead", "crashed", 3, 0)
    assert [state(conn, each) for each in good] == ["succeeded"] * 2
    assert one(conn, "select crashes from jobrunner.finished_jobs where id = %s", good[0]) == 2
    tried = conn.execute(
        "select attempt, outcome, error_type, message from jobrunner.attempts where job_id = %s order by 1",
        [bad["SIGSEGV"]],
    ).fetchall()
    message = "the process of this job was killed by SIGSEGV"
    assert tried == [(n, "crashed", "ProcessDied", message) for n in (1, 2)]
    assert len(crashes) == 5 and f"ProcessDied: {message}" in crashes


async def test_a_suspect_that_takes_long_keeps_no_slot_from_the_others(
    dsn: str, conn: Connection, tmp_path: Path
) -> None:
    """One runs, as many as there are slots wait, the others stay where anybody can claim them; innocent jobs pass them all."""
    async with Runner(zoo.app, dsn, **FAST, slots=2) as runner:
        suspects = [suspect(conn, zoo.waits.job(meet=str(tmp_path))) for _ in range(6)]
        await eventually(lambda: waiting(tmp_path), 20, "the first")
        await eventually(lambda: runner._slots.suspects_wait, 5, "the others")
        good = [zoo.app.enqueue(conn, zoo.good.job(n=n)) for n in range(20)]
        await eventually(lambda: all(state(conn, each) == "succeeded" for each in good), 10, "the others")

        running = one(conn, "select count(*) from jobrunner.jobs where state = 'running'")
        assert running <= 1 + 2 * 2, "one runs, and one claim may come to a room that is nearly full"
        assert len(waiting(tmp_path)) == 1
        zoo.say(str(tmp_path), "go")
        await runner.wait_idle(30)

    assert [state(conn, each) for each in suspects] == ["succeeded"] * 6


async def test_a_suspect_is_cancelled_like_any_other(dsn: str, conn: Connection, tmp_path: Path) -> None:
    async with Runner(zoo.app, dsn, **FAST):
        job_id = suspect(conn, zoo.waits.job(meet=str(tmp_path)))
        await eventually((tmp_path / f"waits-{job_id}").exists, 20, "its start")
        conn.execute("select jobrunner.op_cancel(array[%s]::bigint[])", [job_id])
        await eventually(lambda: state(conn, job_id) == "cancelled", 10, "its end")

    assert (tmp_path / "cancelled").exists(), "CancelledError, as in the runner"
