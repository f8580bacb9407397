"""T19: runners are asked to end, at any moment of their lives."""

from __future__ import annotations

import os
import signal
from typing import LiteralString

import pytest

from jobrunner.embedded import EmbeddedServer
from tests.faults.program import long, long_in_thread, work
from tests.faults.rig import SIZE, Rig, Seen, pause
from tests.support import wait_until

pytestmark = pytest.mark.faults

STOPS = round(12 * SIZE)
GRACE = 3.0

HELD: LiteralString = """
    select count(*) from jobrunner.jobs j join jobrunner.runners r on r.id = j.runner_id where r.pid = %s and j.state = 'running'"""
UNENDED: LiteralString = """
    select count(*) from jobrunner.runners where pid = %s and coalesce(ended, 'alive') not in ('stopped', 'renewed')"""
WAITS: LiteralString = """
    select true from pg_stat_activity where datname = current_database() and starts_with(application_name, 'jobrunner ')
    and wait_event_type = 'Lock' limit 1"""
SPENT: LiteralString = "select count(*) from jobrunner.attempts where outcome not in ('handed_back', 'failed')"


def test_sigterm_at_any_moment_loses_nothing_and_repeats_nothing(rig: Rig) -> None:
    """While it connects, claims, starts, runs and settles; all runs are shorter than the grace, so none is interrupted."""
    for _ in range(4):
        rig.spawn(ready=False, grace=GRACE)
    with rig.producing(per_second=150):
        for stop in range(STOPS):
            early = stop % 4 == 3
            runner = rig.alive()[-1 if early else 0]
            if early:  # at some moment of its start
                wait_until(runner.said, 10, "a sign of life")
                pause(rig.dice.uniform(0, 0.15))
            else:
                rig.wait_ready(runner)
                pause(rig.dice.uniform(0, 0.3))
            runner.send(signal.SIGTERM)
            code = runner.ends(within=GRACE + 5)
            assert code in (0, 143, -signal.SIGTERM), runner.said()  # not 0: before there was anything to stop
            assert code == 0 or early, runner.said()
            assert rig.value(HELD, runner.pid) == 0, "it took jobs along"
            assert early or rig.value(UNENDED, runner.pid) == 0, f"it did not say good-bye: {runner.said()}"
            rig.did["graceful" if code == 0 else "before it had begun"] += 1
            rig.spawn(ready=False, grace=GRACE)
            rig.check()
    rig.drained(within=20)

    assert [job for job, lines in rig.histories().items() if _was_done_again(lines)] == []
    assert rig.value(SPENT) == 0
    rig.check_end(repeats=0)


@pytest.mark.parametrize("hurry", [False, True], ids=["after the grace", "at the second signal"])
def test_what_does_not_end_is_handed_back_unspent_and_runs_elsewhere_at_once(rig: Rig, hurry: bool) -> None:
    """Also a thread that cannot be stopped: it must not keep the process."""
    runner = rig.spawn(grace=60 if hurry else 1)
    with rig.connect() as conn:
        rig.send(conn, lambda n: long.job(n=n, seconds=40), 3)
        rig.send(conn, lambda n: long_in_thread.job(n=n, seconds=40), 3)
    wait_until(lambda: rig.count("start") == 6, 10, "the long jobs")
    other = rig.spawn()

    runner.send(signal.SIGTERM)
    if hurry:
        wait_until(lambda: "stopping" in runner.said(), 5, "the first signal's effect")
        runner.send(signal.SIGTERM)
    assert runner.ends(within=2 if hurry else 1 + 5) == 0
    wait_until(lambda: rig.count("start") == 12, 2, "the second starts")

    again = [(line.pid, line.attempt) for line in rig.seen() if line.phase == "start"][6:]
    assert again == [(other.pid, 2)] * 6
    assert (
        rig.value("select count(*) from jobrunner.jobs where failures = 0 and crashes = 0 and state = 'running'") == 6
    )
    rig.check_logs()


@pytest.mark.parametrize("hurry", [False, True], ids=["one signal", "two signals"])
def test_a_runner_ends_although_the_server_is_away(server: EmbeddedServer, lone: Rig, hurry: bool) -> None:
    runner = lone.spawn(grace=0.3)
    with lone.connect() as conn:
        lone.send(conn, lambda n: work.job(n=n, ms=60_000))
    wait_until(lambda: lone.count("start") == 1, 10, "a job")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGQUIT)
    wait_until(lambda: server.pid is None, 10, "the end of the server")
    wait_until(lambda: "connection" in runner.said(), 10, "a lost connection")

    runner.send(signal.SIGTERM)
    if hurry:
        wait_until(lambda: "stopping" in runner.said(), 5, "the first signal's effect")
        runner.send(signal.SIGTERM)
    runner.ends(within=3 if hurry else 0.3 + 5)

    server.restart()
    lone.check_logs()


@pytest.mark.parametrize("hurry", [False, True], ids=["one signal", "two signals"])
@pytest.mark.parametrize("table", ["jobs", "runners"])
def test_a_runner_ends_although_its_statements_wait(rig: Rig, table: str, hurry: bool) -> None:
    """A claim waits for jobs (a migration, a person in psql); a start for runners."""
    runner = rig.spawn(grace=0.3, ready=table == "jobs")
    with rig.connect() as conn, conn.transaction():
        conn.execute("lock table jobrunner.jobs" if table == "jobs" else "lock table jobrunner.runners")
        wait_until(lambda: rig.value(WAITS), 10, "a statement that waits")

        runner.send(signal.SIGTERM)
        if hurry:
            wait_until(lambda: "stopping" in runner.said(), 5, "the first signal's effect")
            runner.send(signal.SIGTERM)
        runner.ends(within=3 if hurry else 0.3 + 5)
        rig.check_logs()


def _was_done_again(lines: list[Seen]) -> bool:
    """Whether a start follows an end."""
    phases = [line.phase for line in lines]
    return "start" in phases[phases.index("end") :] if "end" in phases else False
