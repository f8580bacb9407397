"""T05: connections are terminated and statements cancelled, again and again, at random."""

from __future__ import annotations

import time
from typing import LiteralString

import pytest

from tests.faults.program import effect, work
from tests.faults.rig import SIZE, Rig, pause
from tests.support import wait_until

pytestmark = pytest.mark.faults

SECONDS = 4 * SIZE
RUNNERS = 3
PER_SECOND = 150.0
CONNECTIONS = 5 + 4 + 4
"""Of one runner: claim, settle, sequence, listen, beat; handlers' connections, async and sync."""

OURS: LiteralString = """
    select pid from pg_stat_activity where datname = current_database() and starts_with(application_name, 'jobrunner ')"""
BUSY: LiteralString = OURS + " and state in ('active', 'idle in transaction')"
WAITS: LiteralString = """
    select pid from pg_stat_activity where datname = current_database() and application_name = 'jobrunner settle'
    and wait_event_type = 'Lock'"""
FINISHED: LiteralString = "select count(*) from jobrunner.finished_jobs"
EARS: LiteralString = "select count(*) from jobrunner.runners where lost_at is null and listening"
LOST: LiteralString = "select count(*) from jobrunner.runners where ended = 'lost'"


@pytest.mark.parametrize(
    ("strike", "whom", "every"),
    [("select pg_terminate_backend(%s)", OURS, 0.1), ("select pg_cancel_backend(%s)", BUSY, 0.02)],
    ids=["terminated", "cancelled"],
)
def test_runners_work_on_while_their_sessions_are_struck_at_random(
    rig: Rig, strike: LiteralString, whom: LiteralString, every: float
) -> None:
    runners = [rig.spawn(ready=False) for _ in range(RUNNERS)]
    rig.wait_ready(*runners)

    with rig.producing(PER_SECOND), rig.connect() as conn:
        rig.wait_busy(finished=50)
        before, began = rig.value(FINISHED), time.monotonic()
        looks = 0
        while time.monotonic() - began < SECONDS:
            if pids := rig.column(whom):
                conn.execute(strike, [rig.dice.choice(pids)])
                rig.did["blows"] += 1
            if time.monotonic() - began > looks:  # once a second
                looks += 1
                rig.check()
                rig.did["connections"] = max(rig.did["connections"], len(rig.column(OURS)))
            pause(every)
        per_second = (rig.value(FINISHED) - before) / (time.monotonic() - began)
        rig.did["jobs per second"] = round(per_second)
        rig.did["milliseconds to catch up"] = round(1000 * rig.wait_caught_up(within=5))

    assert rig.did["blows"] > 3 * SECONDS
    assert per_second > 0.6 * PER_SECOND * 0.9  # a tenth is rolled back
    assert rig.did["connections"] <= 2 * CONNECTIONS * RUNNERS
    rig.drained(within=15)
    assert rig.alive() == runners
    assert rig.value(LOST) == 0, "a live runner was declared lost"
    rig.check_end(repeats=0)
    wait_until(lambda: rig.value(EARS) == RUNNERS, 10, "the ears of all")


@pytest.mark.parametrize("kind", ["in place", "keyed", "plain"])
def test_a_settlement_that_is_cancelled_is_sent_again(rig: Rig, kind: str) -> None:
    runner = rig.spawn()
    jobs = {
        "in place": lambda n: effect.job(n=n, ms=1),
        "keyed": lambda n: work.job(n=n, ms=1).using(key="k"),
        "plain": lambda n: work.job(n=n, ms=1),
    }

    with rig.connect() as producer, rig.connect() as conn, conn.transaction():
        conn.execute("lock table jobrunner.finished_jobs")
        rig.send(producer, jobs[kind])
        for _ in range(3):
            pid = wait_until(lambda: rig.value(WAITS), 10, "a settlement that waits")
            conn.execute("select pg_cancel_backend(%s)", [pid])
    rig.drained(within=5)

    assert rig.alive() == [runner]
    rig.check_end(repeats=0)
