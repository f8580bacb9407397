"""T01: runners are killed without a word, again and again."""

from __future__ import annotations

import time

import pytest

from tests.faults.rig import LEASE, SIZE, Rig, pause

pytestmark = pytest.mark.faults

SECONDS = 6 * SIZE
SLOTS = 10


def test_nothing_is_lost_or_done_twice_when_one_of_four_runners_is_killed_every_second(rig: Rig) -> None:
    with rig.connect() as conn:
        rig.send(conn, rig.any_job, int(900 * SIZE))
    rig.wait_ready(*[rig.spawn(slots=SLOTS, ready=False) for _ in range(4)])

    kills = 0
    ends = time.monotonic() + SECONDS
    with rig.producing(per_second=300):
        while (began := time.monotonic()) < ends:
            rig.dice.choice(rig.alive()).kill()
            kills += 1
            rig.spawn(slots=SLOTS, ready=False)
            rig.check()
            pause(max(0.0, 1 - (time.monotonic() - began)))

    rig.did["kills"] = kills
    rig.did["seconds to drain"] = round(rig.drained(within=30 + LEASE + 10 * SIZE))
    rig.check_end(repeats=kills * 2 * SLOTS)  # what ran, and what had ended and was not yet written
    assert rig.value("select count(*) from jobrunner.jobs where task = 'faults.poison'") > 0
    assert rig.value("select count(*) from jobrunner.attempts where outcome = 'crashed'") > kills
