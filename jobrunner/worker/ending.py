"""What becomes of a run: its outcome is decided, told, and given to the settler; whoever waits for room is woken."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping

from jobrunner.policy.lifecycle import MAX_CRASHES, FinishedInPlace, Outcome, Settlement, State, decide
from jobrunner.policy.models import Claimed
from jobrunner.telemetry import Telemetry, log
from jobrunner.worker.claimer import Claimer
from jobrunner.worker.executor import DONE
from jobrunner.worker.housekeeping import Housekeeping
from jobrunner.worker.lanes import Lanes
from jobrunner.worker.settler import Settler
from jobrunner.worker.slots import Slots
from jobrunner.worker.task import Runnable


class Ending:
    """The ends of one runner's runs."""

    def __init__(
        self,
        tasks: Mapping[str, Runnable],
        slots: Slots,
        settler: Settler,
        claimer: Claimer,
        lanes: Lanes,
        keeping: Housekeeping,
        telemetry: Telemetry,
    ) -> None:
        self._tasks, self._slots, self._settler, self._claimer = tasks, slots, settler, claimer
        self._lanes, self._keeping, self._telemetry = lanes, keeping, telemetry

    def settle(self, job: Claimed, outcome: Outcome) -> None:
        """*job* has ended with *outcome*."""
        self._keeping.ended(job.id)
        if job.crashes or self._lanes.limits(job):
            self._claimer.again()  # there is room for another of its kind
        settlement: Settlement | None = None
        if outcome is DONE and job.key is None:
            self._settler.succeed(job)  # what decide would say, without asking it 30,000 times a second
        elif isinstance(outcome, FinishedInPlace):
            self._settler.put(job, None)
        else:
            settlement = decide(job, outcome, self._tasks[job.task].retry, random.random())
            _tell(job, settlement)
            self._settler.put(job, settlement)
        if (tell := self._telemetry.on_run) is not None:
            ran = self._slots.ran(job)
            waited = None if ran is None else (job.started_at - job.run_at).total_seconds()
            tell(job.queue, job.task, settlement.ending if settlement else "succeeded", waited, ran)


def _tell(job: Claimed, settlement: Settlement) -> None:
    """One line in the log for what a person may have to look into: a death, and each failure on the way to it."""
    if settlement.state is not State.DEAD and not settlement.failed and not settlement.crashed:
        return
    dead = settlement.state is State.DEAD
    error = settlement.error
    counted = (
        f"crashed ({job.crashes + 1} of {MAX_CRASHES})"
        if settlement.crashed
        else f"failed ({job.failures + 1} of {job.max_attempts})"
    )
    log.log(
        logging.WARNING if dead else logging.INFO,
        "job %s of %s %s: %s",
        job.id,
        job.task,
        f"is dead ({settlement.reason})" if dead else f"{counted}, tried again",
        f"{error.type}: {error.message[:200]}" if error else settlement.reason,
        extra={"job_id": job.id, "task": job.task, "attempt": job.attempt},
    )
