"""One look at everything: what `status`, `doctor` and the status page tell is read here, so that they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from jobrunner.ops import attention, event_shapes, shapes
from jobrunner.ops.attention import Attention, Events
from jobrunner.store import event_overview, overview
from jobrunner.store.reading import Connection
from jobrunner.store.rows import QueueRow, Recent, RunnerRow

MINUTES = 5
"""How far back `finished` looks."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was there at one moment."""

    at: datetime
    queues: Sequence[QueueRow]
    runners: Sequence[RunnerRow]
    recent: Recent
    events: Events
    attention: Sequence[Attention]
    """What needs a person, the worst first."""

    def shape(self) -> shapes.Shape:
        """The same as plain data."""
        part = event_shapes.overview_part(self.events)
        return shapes.overview_shape(self.at, self.queues, self.runners, self.recent, MINUTES, self.attention, part)


def look(conn: Connection) -> Look:
    """Read it. Reads all of jobs once, and once more where there are subscriptions: for people, not for probes."""
    queues, runners = overview.list_queues(conn), overview.list_runners(conn)
    recent, unknown = overview.recent(conn, minutes=MINUTES), overview.list_unknown_tasks(conn)
    events = Events(
        event_overview.outbox(conn), event_overview.list_subscriptions(conn), event_overview.list_sagas_in_need(conn)
    )
    found = attention.findings(queues, runners, recent, unknown, events)
    return Look(overview.clock(conn), queues, runners, recent, events, found)
