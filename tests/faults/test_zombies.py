"""T02: runners are frozen past their lease, others do their work, and they come back."""

from __future__ import annotations

import re
import signal
from functools import partial
from typing import LiteralString

import pytest

from tests.faults.program import held, work
from tests.faults.rig import LEASE, Process, Rig
from tests.support import wait_until

pytestmark = pytest.mark.faults

INSIDE = {"a": 4, "b": 3, "c": 3}
"""Zombies, each with a queue of its own, and how many of its handlers are in ctx.transaction(): a runner lends four connections."""
OUTSIDE = {"a": 3, "b": 3, "c": 4}

LOST: LiteralString = "select count(*) from jobrunner.runners where ended = 'lost'"
BACK: LiteralString = """
    select count(*) from jobrunner.runners r join jobrunner.runners before using (pid)
    where before.ended = 'lost' and r.lost_at is null"""
TWICE: LiteralString = "select count(*) from jobrunner.finished_jobs where task = 'faults.held' and attempt = 2"


def test_a_zombie_ends_nothing_and_works_on(rig: Rig) -> None:
    """20 handlers wake up late, 10 of them inside their transaction. The second attempts of half of them are over by then;
    those of the other half still run, and an end without a fence would end them."""
    zombies = [rig.spawn(queue=queue, ready=False) for queue in INSIDE]
    rig.wait_ready(*zombies)
    with rig.connect() as conn:
        for queue in INSIDE:
            for k in range(INSIDE[queue] + OUTSIDE[queue]):
                inside = k < INSIDE[queue]
                again = k == 0 or (not inside and k % 4 != 0)  # three of them inside: a rescuer lends four connections
                held_here = partial(held.job, inside=inside, again=again)
                rig.send(conn, lambda n: held_here(n=n).using(queue=queue))  # noqa: B023  # called at once
    wait_until(lambda: rig.count("held") == 20, 15, "the handlers of the first attempts")
    for zombie in zombies:
        zombie.send(signal.SIGSTOP)

    rescuers = [rig.spawn(slots=20, quarantine=False) for _ in range(2)]  # all second attempts at once
    wait_until(lambda: rig.count("held") == 40, 20 + LEASE, "the second attempts")
    assert rig.value(LOST) == len(zombies)
    rig.check()

    with rig.connect() as conn, conn.transaction():
        conn.execute(
            "lock table jobrunner.runners in share row exclusive mode"
        )  # none of them can learn that it was lost
        rig.open_gate("thaw")
        for zombie in zombies:
            zombie.send(signal.SIGCONT)
        wait_until(lambda: sorted(_late_ends(rig)) == ["end"] * 10 + ["stale"] * 10, 10, "20 late ends")
        wait_until(lambda: sum(map(_refused, zombies)) == 20, 10, "20 refusals")
    wait_until(lambda: rig.value(BACK) == len(zombies), 15, "the new lives of the zombies")
    rig.check()
    rig.open_gate("finish")
    rig.drained(within=15)
    for rescuer in rescuers:
        rescuer.send(signal.SIGTERM)
        assert rescuer.ends(within=10) == 0
    with rig.connect() as conn:
        for queue in INSIDE:
            rig.send(conn, lambda n: work.job(n=n, ms=20).using(queue=queue), 10)  # noqa: B023
    rig.drained(within=15)  # by nobody but the zombies

    assert rig.value(TWICE) == 20
    assert rig.value(LOST) == len(zombies)
    rig.check_end(repeats=20)


def _late_ends(rig: Rig) -> list[str]:
    """How the first attempts ended."""
    return [line.phase for line in rig.seen() if line.attempt == 1 and line.phase not in ("start", "held")]


def _refused(runner: Process) -> int:
    """How many settlements it was told are stale."""
    return sum(map(int, re.findall(r"(\d+) settlements were refused", runner.log.read_text())))
