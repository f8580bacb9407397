"""T03: PostgreSQL crashes and comes back, at once and after longer than a lease."""

from __future__ import annotations

import os
import signal
from datetime import datetime
from typing import LiteralString

import pytest

from jobrunner.embedded import EmbeddedServer
from tests.faults.program import patient, work
from tests.faults.rig import LEASE, SIZE, Rig, pause
from tests.support import wait_until

pytestmark = pytest.mark.faults

SLOTS = 10
RUNNERS = 3

LOST: LiteralString = "select count(*) from jobrunner.runners where ended = 'lost'"
CRASHED: LiteralString = "select count(*) from jobrunner.attempts where outcome = 'crashed'"
FIRST_CLAIM: LiteralString = "select extract(epoch from min(claimed_at) - %s)::float from t_run where claimed_at > %s"


def test_runners_live_through_a_crash_of_the_server(server: EmbeddedServer, lone: Rig) -> None:
    runners = [lone.spawn(slots=SLOTS, ready=False) for _ in range(RUNNERS)]
    lone.wait_ready(*runners)
    crashes = max(1, round(3 * (SIZE - 1)))

    with lone.producing(per_second=150):
        for crash in range(crashes):
            lone.wait_busy(finished=150 * (crash + 1))
            server.restart("immediate")
            up = lone.value("select clock_timestamp()")
            first = _first_claim_after(lone, up)
            lone.did["milliseconds to the first claim"] = max(
                lone.did["milliseconds to the first claim"], round(first * 1000)
            )
            assert first < 6
            lone.did["milliseconds to catch up"] = round(1000 * lone.wait_caught_up(within=10))
            lone.check()

    lone.drained(within=15)
    assert lone.alive() == runners
    assert lone.value(LOST) == 0, "a live runner was declared lost"
    lone.check_end(repeats=crashes * RUNNERS * SLOTS)


def test_no_live_runner_is_rescued_after_an_outage_longer_than_its_lease(server: EmbeddedServer, lone: Rig) -> None:
    """Every heartbeat is old when the server is back. What may go on without a lease has gone on and is not repeated."""
    runners = [lone.spawn(slots=SLOTS, ready=False) for _ in range(RUNNERS)]
    lone.wait_ready(*runners)
    with lone.connect() as conn:
        lone.send(conn, lambda n: patient.job(n=n), 6)
        lone.send(conn, lambda n: work.job(n=n, ms=60_000), 3)
    wait_until(lambda: lone.count("start") == 9, 15, "the jobs that the outage will meet")

    with lone.producing(per_second=100):
        lone.wait_busy(finished=60)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGQUIT)
        wait_until(lambda: server.pid is None, 10, "the end of the server")
        pause(LEASE * 1.5)
        assert lone.alive() == runners
        lone.open_gate("enough")
        server.restart()
        up = lone.value("select clock_timestamp()")
        assert _first_claim_after(lone, up) < 6
        lone.did["milliseconds to catch up"] = round(1000 * lone.wait_caught_up(within=10))
        lone.check(stuck=False)

    for job in lone.column("select id from jobrunner.jobs where task = 'faults.work' and (args ->> 'ms')::int = 60000"):
        lone.value("select jobrunner.op_cancel(array[%s]::bigint[])", job)
    lone.drained(within=15)
    assert lone.alive() == runners
    assert lone.value(LOST) == 0, "a live runner was declared lost"
    assert lone.value(CRASHED) == 0
    histories = lone.histories()
    patients = lone.column("select id from jobrunner.finished_jobs where task = 'faults.patient' and attempt = 1")
    assert [[line.phase for line in histories[job]] for job in patients] == [["start", "end"]] * 6
    assert lone.count("cancelled") >= 3, "a run that needs its lease went on without it"
    lone.check_end(repeats=RUNNERS * SLOTS)


def test_a_fleet_that_was_frozen_as_a_whole_is_not_rescued(rig: Rig) -> None:
    """A host that slept, containers that were paused: who wakes first finds every other heartbeat old."""
    first, second = rig.spawn(lease=2, ready=False), rig.spawn(lease=2, ready=False)
    rig.wait_ready(first, second)
    with rig.connect() as conn:
        rig.send(conn, lambda n: patient.job(n=n), 15)
    wait_until(lambda: rig.count("start") == 15, 10, "running jobs on both")

    first.send(signal.SIGSTOP)
    second.send(signal.SIGSTOP)
    pause(2.5)
    first.send(signal.SIGCONT)
    pause(0.5)
    second.send(signal.SIGCONT)
    rig.open_gate("enough")
    rig.drained(within=10)

    assert rig.value(LOST) == 0, "a live runner was declared lost"
    rig.check_end(repeats=0)


def _first_claim_after(rig: Rig, up: datetime) -> float:
    return float(wait_until(lambda: rig.value(FIRST_CLAIM, up, up), 15, "the first claim"))
