"""`jobrunner run --processes`: children die, are replaced and recycled; the parent is signalled, and killed. Leases are long here:
what comes back soon does so by the parent."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from typing import LiteralString

import pytest

from tests.faults.program import effect, held, hungry, long, patient, quick, work
from tests.faults.rig import Process, Rig, Seen
from tests.support import wait_until

pytestmark = pytest.mark.faults

LIVE: LiteralString = "select pid from jobrunner.runners where lost_at is null order by started_at"
ENDED: LiteralString = "select ended from jobrunner.runners order by started_at"
SPENT: LiteralString = "select count(*) from jobrunner.attempts where outcome <> 'handed_back'"
CRASHED: LiteralString = "select job_id from jobrunner.attempts where outcome = 'crashed'"
LOSE_CLAIMERS: LiteralString = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'jobrunner claim'"""
WAITING: LiteralString = """
    select pid from pg_stat_activity
    where datname = current_database() and application_name = 'jobrunner supervise' and wait_event_type = 'Lock'"""


def fleet(rig: Rig, count: int, *options: str, slots: int = 10, grace: float = 5) -> Process:
    """A parent whose *count* children are ready."""
    parent = rig.spawn(options=["--processes", str(count), *options], slots=slots, grace=grace, lease=60, ready=False)
    children(rig, count)
    return parent


def children(rig: Rig, count: int, without: int = 0) -> list[int]:
    """The pids of the children when *count* live, none of them *without*."""

    def live() -> list[int]:
        pids = rig.column(LIVE)
        return pids if len(pids) == count and without not in pids else []

    return wait_until(live, 30, f"{count} children")


def starts(rig: Rig) -> list[Seen]:
    return [line for line in rig.seen() if line.phase == "start"]


def wait_starts(rig: Rig, count: int, within: float = 20) -> list[Seen]:
    """The starts so far, when there are *count*."""
    wait_until(lambda: len(starts(rig)) >= count, within, f"{count} starts")
    return starts(rig)


def stopped(rig: Rig, parent: Process, within: float = 30) -> None:
    """Ends the fleet, which must be orderly."""
    parent.send(signal.SIGTERM)
    assert parent.ends(within) == 0
    assert rig.column(LIVE) == [], parent.said()
    rig.check_logs()


def kill_one(rig: Rig) -> int:
    """Gives the fleet eight jobs that stay, half of them in a transaction, kills the child that has most of them, and returns its
    pid when they run again: within 2 s, elsewhere, and nobody else's."""
    others = {line.job_id for line in starts(rig)}

    def started() -> list[Seen]:
        return [line for line in starts(rig) if line.job_id not in others]

    with rig.connect() as conn:
        rig.send(conn, lambda n: patient.job(n=n), 4)
        rig.send(conn, lambda n: held.job(n=n, inside=True, again=False), 4)
    wait_until(lambda: len(started()) == 8, what="eight starts")
    [(victim, count)] = Counter(line.pid for line in started()).most_common(1)
    killed_at = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(started()) == 8 + count, 3, "their next starts")

    assert all(line.at - killed_at < 2 and line.pid != victim for line in started()[8:])
    lost = {line.job_id for line in started()[:8] if line.pid == victim}
    assert {line.job_id for line in started()[8:]} == lost
    assert set(rig.column(CRASHED)) - others == lost
    return victim


def test_a_killed_childs_jobs_run_elsewhere_within_2_s_and_the_others_go_on(rig: Rig) -> None:
    """Also when it went on under a new id, after it had lost its connection; and every replacement works."""
    parent = fleet(rig, 2, "--no-quarantine", slots=30)  # room for all that anyone loses, at once
    victim = kill_one(rig)
    children(rig, 2, without=victim)
    rig.column(LOSE_CLAIMERS)
    wait_until(lambda: rig.column(ENDED).count("renewed") == 2, what="two renewals")
    victim = kill_one(rig)

    assert rig.column(ENDED).count("lost") == 2
    children(rig, 2, without=victim)
    rig.open_gate("enough")
    rig.open_gate("thaw")
    rig.drained(20)
    assert parent.said().count("was killed by SIGKILL") == 2
    assert parent.said().count("gave back") >= 2
    stopped(rig, parent)
    rig.check_end(repeats=len(rig.column(CRASHED)))


def test_a_release_that_fails_is_tried_again(rig: Rig) -> None:
    """The statement waits for a lock, its session is ended: the answer never comes."""
    parent = fleet(rig, 2)
    with rig.connect() as conn:
        rig.send(conn, lambda n: patient.job(n=n), 1)
        [line] = wait_starts(rig, 1)
        with rig.connect() as blocker, blocker.transaction():
            blocker.execute("lock table jobrunner.runners in exclusive mode")
            os.kill(line.pid, signal.SIGKILL)
            pid = wait_until(lambda: rig.value(WAITING), what="a release that waits")
            conn.execute("select pg_terminate_backend(%s)", [pid])
            wait_until(lambda: rig.value(WAITING) not in (None, pid), what="another try")
        wait_starts(rig, 2, within=2)
        rig.open_gate("enough")
    rig.drained(20)
    stopped(rig, parent)


def test_a_stop_lets_the_jobs_end_whoever_else_is_signalled(rig: Rig) -> None:
    """Ctrl-C reaches the process group; some process managers signal every process that there is."""
    parent = fleet(rig, 2)
    with rig.connect() as conn:
        rig.send(conn, lambda n: work.job(n=n, ms=700), 4)
    wait_starts(rig, 4)

    for pid in children(rig, 2):
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: parent.said().count("stopping, running jobs") == 2, what="its effect")
    os.killpg(parent.pid, signal.SIGINT)

    assert parent.ends(10) == 0
    assert rig.count("end") == 4, parent.said()
    assert rig.column(ENDED) == ["stopped", "stopped"]
    rig.check_end(repeats=0)


def test_a_second_signal_hands_back_at_once(rig: Rig) -> None:
    parent = fleet(rig, 2, grace=60)
    with rig.connect() as conn:
        rig.send(conn, lambda n: long.job(n=n, seconds=60), 4)
    wait_starts(rig, 4)

    parent.send(signal.SIGTERM)
    wait_until(lambda: parent.said().count("stopping, running jobs") == 2, what="the first signal's effect")
    parent.send(signal.SIGTERM)

    assert parent.ends(within=4) == 0
    assert rig.value("select count(*) from jobrunner.jobs where state = 'ready'") == 4
    assert rig.value(SPENT) == 0


def test_children_stop_gracefully_when_their_parent_is_killed(rig: Rig) -> None:
    parent = fleet(rig, 2, grace=0.3)
    with rig.connect() as conn:
        rig.send(conn, lambda n: long.job(n=n, seconds=60), 4)
    wait_starts(rig, 4)

    parent.kill()

    wait_until(lambda: rig.column(ENDED) == ["stopped", "stopped"], 10, "two good-byes")
    assert rig.value("select count(*) from jobrunner.jobs where state = 'ready'") == 4
    assert rig.value(SPENT) == 0
    rig.check_logs()


def test_max_jobs_replaces_children_and_every_job_runs_once(rig: Rig) -> None:
    with rig.connect() as conn:
        rig.send(conn, lambda n: effect.job(n=n, ms=20), 50)
    parent = fleet(rig, 2, "--max-jobs", "16", slots=4)
    rig.drained(20)

    assert rig.value("select count(distinct pid) from t_effect") >= 3, parent.said()
    stopped(rig, parent)
    said = parent.log.read_text()
    assert said.count(") started") == 2 + said.count("is recycled") >= 3
    assert rig.value("select count(*) from t_effect") == 50
    assert set(rig.column(ENDED)) == {"stopped"}
    rig.check_end(repeats=0)


def test_max_rss_replaces_a_child_that_eats_memory(rig: Rig) -> None:
    parent = fleet(rig, 1, "--max-rss", "300MB")
    [eater] = children(rig, 1)
    with rig.connect() as conn:
        rig.send(conn, lambda n: hungry.job(n=n, mb=300))
        children(rig, 1, without=eater)
        rig.send(conn, lambda n: quick.job(n=n))
    rig.drained(20)

    assert [line.pid == eater for line in starts(rig)] == [True, False]
    stopped(rig, parent)
    rig.check_end(repeats=0)


def test_a_limit_ends_a_runner_without_a_parent_with_0(rig: Rig) -> None:
    runner = rig.spawn(options=["--max-jobs", "3"])
    with rig.connect() as conn:
        rig.send(conn, lambda n: quick.job(n=n), 3)

    assert runner.ends(10) == 0
    rig.check_end(repeats=0)


def test_sighup_replaces_every_child_without_a_gap_unless_the_new_code_is_broken(rig: Rig) -> None:
    parent = fleet(rig, 2)
    before = children(rig, 2)
    fewest = 2

    def all_new() -> bool:
        nonlocal fewest
        live = rig.column(LIVE)
        fewest = min(fewest, len(live))
        return len(live) == 2 and not set(live) & set(before)

    rig.open_gate("broken")
    parent.send(signal.SIGHUP)
    wait_until(lambda: "no new child gets ready" in parent.said(), deadline=30, what="the end of a bad deploy")
    assert children(rig, 2) == before

    (rig.folder / "broken").unlink()
    with rig.producing(per_second=100):
        parent.send(signal.SIGHUP)
        wait_until(all_new, 60, "two new children")
    rig.drained(20)

    assert fewest == 2
    stopped(rig, parent)
    assert parent.log.read_text().count(") started") == 2 + 1 + 2
    rig.check_end(repeats=0)


def test_a_crash_loop_waits_longer_and_longer_and_ends_when_the_cause_does(rig: Rig) -> None:
    """--processes 1: supervised."""
    parent = fleet(rig, 1)
    [pid] = children(rig, 1)
    with rig.connect() as conn:
        rig.send(conn, lambda n: patient.job(n=n))
    wait_starts(rig, 1)
    rig.open_gate("broken")
    os.kill(pid, signal.SIGKILL)

    wait_until(lambda: "dies again and again" in parent.said(), deadline=30, what="a pause")
    assert parent.said().count("ended with exit code 2") == 1  # it had begun: tried again
    (rig.folder / "broken").unlink()

    wait_starts(rig, 2)
    rig.open_gate("enough")
    rig.drained(20)
    stopped(rig, parent)
    rig.check_end(repeats=1)
