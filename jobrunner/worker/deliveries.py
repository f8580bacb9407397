"""What a claimer needs to know of events: which jobs carry one, and whom to tell that the outbox is not empty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import psycopg

from jobrunner.policy.floor import Floors, Horizon
from jobrunner.policy.models import Claimed
from jobrunner.store import events
from jobrunner.worker.link import Link, Lost
from jobrunner.worker.registry import Registry
from jobrunner.worker.stream import Stream


class Deliveries:
    """Gives claimed deliveries their events, and a stream's job its batch; shares the floors with the sequencer."""

    def __init__(self, app: Registry, nudge: Callable[[], None]) -> None:
        self.floors, self.horizon = Floors(), Horizon()
        self.nudge = nudge
        """The outbox is not empty."""
        self._names = {one.name for one in app.subscriptions if not isinstance(one, Stream)}
        self._batches = {one.name: one.batch for one in app.subscriptions if isinstance(one, Stream)}

    async def load(self, link: Link, claimed: Sequence[Claimed]) -> None:
        """Read what they carry.

        Raises:
            Lost: it could not be read. They are claimed and in nobody's hands, so the runner has to go on under a new id.
        """
        if not self._names and not self._batches:
            return
        deliveries = [job for job in claimed if job.task in self._names]
        try:
            if deliveries:
                await self._load_deliveries(link, deliveries)
            for job in claimed:
                if (most := self._batches.get(job.task)) is not None:
                    await link.run(events.load_batch, job, most)
        except psycopg.Error as error:
            raise Lost(f"claimed and not read: {error}") from error

    async def _load_deliveries(self, link: Link, deliveries: list[Claimed]) -> None:
        """All in one statement; when one of them says what cannot be read (somebody enqueued it by hand), each for itself: that
        one has no event, and is refused, and the others run."""
        try:
            await link.run(events.load_deliveries, deliveries)
        except psycopg.DataError:
            for job in deliveries:
                with suppress(psycopg.DataError):
                    await link.run(events.load_deliveries, [job])
