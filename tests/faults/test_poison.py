"""T17, the poison zoo: handlers that raise what they should not, or take their process with them, among innocent jobs."""

from __future__ import annotations

import pytest

from tests.faults.rig import SIZE, Rig
from tests.support import wait_until
from tests.worker import zoo

pytestmark = pytest.mark.faults

RAISES = ("ValueError", "SystemExit", "KeyboardInterrupt", "RecursionError", "MemoryError", "Mute", "long", "surrogate")
KILLS = ("_exit", "SIGSEGV")
GOOD = int(250 * SIZE)


def test_poison_is_dead_by_name_and_the_innocent_jobs_around_it_are_done(rig: Rig) -> None:
    """A runner that a job kills takes its neighbours' good name along; only alone, in a process, it can be told who did it."""
    kinds = [kind for kind in (*RAISES, *KILLS) for _ in range(max(1, int(SIZE)))]
    jobs = [zoo.good.job(n=n) for n in range(GOOD)] + [zoo.poison.job(how=kind) for kind in kinds]
    rig.dice.shuffle(jobs)
    with rig.connect() as conn, conn.transaction():
        zoo.app.enqueue_many(conn, jobs)

    def is_over() -> bool:
        if not rig.alive():
            rig.spawn(slots=4, lease=1, grace=1, program="tests.worker.zoo:app", ready=False)
        return not rig.value("select count(*) from jobrunner.jobs where state <> 'dead'")

    wait_until(is_over, 40 * SIZE, "the end of all")

    with rig.connect() as conn:
        dead = conn.execute("select args ->> 'how', reason, crashes, error from jobrunner.jobs order by id").fetchall()
        done = conn.execute("select count(*), max(crashes) from jobrunner.finished_jobs").fetchone()
    assert sorted(how for how, *_ in dead) == sorted(kinds)
    for how, reason, crashes, error in dead:
        assert (reason, error is not None) == ("crashed" if how in KILLS else "exhausted", True), (how, reason, error)
        assert (crashes == 3) == (how in KILLS), (how, crashes)
    assert done is not None and (done[0], done[1] < 3) == (GOOD, True)
    rig.did["runners"] = len(rig.processes)
    assert 2 <= len(rig.processes) <= len(KILLS) * max(1, int(SIZE)) + 1, "each poison kills one runner at the most"
