"""Children: processes that run handlers for a runner. Started on demand, kept while they are well, killed when a run must end.

Two kinds of jobs run here: those of tasks with executor="process"; and, in processes of their own kind, those under which a runner
was lost (quarantine): if one of them did it, it does it again there, and to nobody else. `Slots` and `Lanes` see to how many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import count

from jobrunner.policy.models import Claimed
from jobrunner.policy.outcomes import Crashed, Failed, Outcome
from jobrunner.policy.text import ErrorText
from jobrunner.worker.context import Context
from jobrunner.worker.places import Place
from jobrunner.worker.remote import Died, Remote
from jobrunner.worker.task import Runnable
from jobrunner.worker.wire import Run

_RETIRES = 60.0  # seconds that a process of quarantine waits for the next
_DIED = "ProcessDied"


class Children:
    """The children of one runner."""

    def __init__(
        self,
        tasks: Mapping[str, Runnable],
        places: Mapping[str, Place],
        dsn: str,
        runner_id: Callable[[], int],
        *,
        quarantine: bool,
    ) -> None:
        self._tasks, self._places, self._dsn, self._runner_id = tasks, places, dsn, runner_id
        self._quarantine = quarantine
        self._living: set[Remote] = set()
        self._idle: dict[bool, list[Remote]] = {False: [], True: []}  # True: of quarantine
        self._retiring: asyncio.TimerHandle | None = None
        self._runs = count(1)

    def isolates(self, job: Claimed) -> bool:
        """Whether *job* may run only in a process that nobody else uses: a runner was lost under it."""
        return self._quarantine and job.crashes > 0 and job.task in self._places

    def takes(self, job: Claimed) -> bool:
        """Whether *job* runs in a child."""
        return self._tasks[job.task].executor == "process" or self.isolates(job)

    async def run(self, job: Claimed, ctx: Context, limit: timedelta | None) -> Outcome:
        """How *job* ended in a child, which is killed at the *limit*.

        Cancelled, it tells the run first, and kills it a second later; `ctx.finished` says whether it had ended in place.
        """
        alone = self.isolates(job)
        child = await self._take(alone=alone)
        lends = self._tasks[job.task].executor != "process"
        run = Run(next(self._runs), job, self._places[job.task], self._runner_id(), lends)
        try:
            return await child.run(run, ctx, limit)
        except Died as died:
            said = ErrorText(_DIED, str(died), "")
            return Crashed(said) if alone else Failed(said)
        finally:
            self._put_back(child, alone=alone)

    async def close(self) -> None:
        """Kill them all, and return when they are gone."""
        if self._retiring is not None:
            self._retiring.cancel()
        gone = [child.gone for child in self._living]
        for child in self._living:
            child.kill()
        if gone:
            await asyncio.wait(gone)

    async def _take(self, *, alone: bool) -> Remote:
        while idle := self._idle[alone]:
            if (child := idle.pop()).is_well:
                return child
            child.kill()
        child = await Remote.start(self._dsn)
        self._living.add(child)
        child.gone.add_done_callback(lambda _: self._living.discard(child))
        return child

    def _put_back(self, child: Remote, *, alone: bool) -> None:
        if not child.is_well:
            child.kill()
            return
        self._idle[alone].append(child)
        if alone:
            if self._retiring is not None:
                self._retiring.cancel()
            self._retiring = asyncio.get_running_loop().call_later(_RETIRES, self._retire)

    def _retire(self) -> None:
        """Nobody has had to run alone for a while."""
        while idle := self._idle[True]:
            idle.pop().kill()
