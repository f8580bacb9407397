"""From where a claim may look: takes what each tick saw, returns a floor below which nothing can appear any more.

A transaction draws its id before its stamps. So a stamp S read in one tick pairs with the id X that the *next* tick draws for
itself: every transaction that drew a stamp up to S has a lower one. Once the oldest id in progress is X or more, all of those
have ended, and what they made ready is visible. The largest such S is the horizon. (S and X of one tick would not do: X may
be drawn before S is read. Nor would the xmax of a snapshot: it is one past the last id that has *ended*; ids above it may be in
progress, and have drawn stamps.)

A transaction that stays open holds the horizon down. After a second it becomes an exception: the horizon passes it and
remembers from where; when it ends, the floors are lowered to there, and its rows are found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias

Class: TypeAlias = tuple[str, int]
"""One class of ready jobs: queue, priority."""

_PATIENCE = 1.0  # seconds that an open transaction may hold the horizon down
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A point below which everything has appeared: in the stamps, and on the server's clock for scheduled jobs."""

    stamp: int = 0
    at: datetime = _EPOCH


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A pg_snapshot: ids below *xmin* have ended, of those from *xmax* on none has, *open* are in progress below it."""

    xmin: int
    xmax: int
    open: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """The snapshot that PostgreSQL writes as xmin:xmax:id,id,…"""
        xmin, xmax, open_ids = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(map(int, open_ids.split(","))) if open_ids else frozenset())


class Passed(NamedTuple):
    """Transactions that were open when a horizon passed them."""

    base: int
    """The lowest stamp from before."""
    xids: list[int]
    """Their ids."""


NOBODY = Passed(0, [])
"""No open transaction was passed."""


LOOK = 500
"""The most arrivals that one look seats, and the most due jobs that it promotes (tick_v1)."""


class Horizon:
    """The largest mark below which nothing can appear, apart from the exceptions it remembers."""

    def __init__(self) -> None:
        self._previous: Mark | None = None
        self._drawn = 0
        self._forget()

    def _forget(self) -> None:
        self.mark = Mark()
        self._pairs: deque[tuple[Mark, int]] = deque()
        self._since: dict[int, float] = {}
        self._passed: dict[int, Mark] = {}

    @property
    def passed(self) -> Passed:
        """The open transactions that it has passed: a statement that keeps an order has to ask whether one has ended since."""
        return Passed(min((mark.stamp for mark in self._passed.values()), default=0), list(self._passed))

    def observe(self, snapshot: Snapshot, drawn: int, mark: Mark, clock: float) -> Mark | None:
        """Take one tick into account: *drawn* is its own transaction id, *clock* any monotonic one, in seconds.

        Returns where to lower the floors to: when a transaction ended that the horizon had passed, or when ids or stamps have
        fallen, because it is another server; else None.
        """
        if self._previous is not None and (drawn < self._drawn or mark.stamp < self._previous.stamp):
            # Another server, which stands further back (a restore, a failover that lost something): nothing is known of it.
            self._forget()
            self._previous, self._drawn = mark, drawn
            return Mark()
        if self._previous is not None:
            self._pairs.append((self._previous, drawn))
        self._previous, self._drawn = mark, drawn

        ended = [xid for xid in self._passed if xid not in snapshot.open]
        lower = min((self._passed.pop(xid) for xid in ended), default=None)

        self._since = {xid: self._since.get(xid, clock) for xid in snapshot.open}
        for xid, since in self._since.items():
            if clock - since > _PATIENCE:
                self._passed.setdefault(xid, self.mark)

        oldest = min((xid for xid in snapshot.open if xid not in self._passed), default=snapshot.xmax)
        while self._pairs and self._pairs[0][1] <= oldest:
            self.mark = self._pairs.popleft()[0]
        return lower


@dataclass(slots=True)
class Floors:
    """The floor of each class that a claimer knows, of the two queues before ready (the arrived and the due), and of the outbox."""

    ready: dict[Class, int] = field(default_factory=dict)
    arrived: int = 0
    due: datetime = _EPOCH
    outbox: int = 0
    lowered: int = 0
    """How often they were lowered: who began a step before that must not raise them after it."""

    def add(self, classes: Iterable[Class]) -> None:
        """Know *classes* from now on; a new one is looked at from its beginning."""
        for found in classes:
            self.ready.setdefault(found, 0)

    def claimed(self, order: list[Class], seqs: dict[Class, int], full: bool, horizon: Mark) -> None:
        """Raise the floors after a claim that asked the classes in *order*.

        *seqs*: the largest seq claimed of each; *full*: it got all that it asked for; *horizon*: as it was known before
        the claim. A class that was looked at to its end is empty up to the horizon; the last one of a full claim was
        cut off at its largest seq; those behind it were not looked at.
        """
        last = max((index for index, found in enumerate(order) if found in seqs), default=-1) if full else len(order)
        for index, found in enumerate(order[: last + 1]):
            ceiling = min(horizon.stamp, seqs[found]) if full and index == last else horizon.stamp
            self.ready[found] = max(self.ready[found], ceiling)

    def looked(self, before: Mark, *, seen: int, seated: int, promoted: int) -> None:
        """Raise the floors of the arrived and the due after a look that took all there was, to the horizon *before* it.

        *seen*: arrivals that it found, -1 when another session seated; *seated*, *promoted*: what it took, at most `LOOK`.
        """
        if seen >= 0 and seated == seen < LOOK:
            self.arrived = max(self.arrived, before.stamp)
        if promoted < LOOK:
            self.due = max(self.due, before.at)

    def forget_waiting(self) -> None:
        """Look at the arrived and the due from the beginning."""
        self.arrived, self.due = 0, _EPOCH

    def lower(self, to: Mark) -> None:
        """Look again from *to* on."""
        self.lowered += 1
        for found, floor in self.ready.items():
            self.ready[found] = min(floor, to.stamp)
        self.arrived = min(self.arrived, to.stamp)
        self.due = min(self.due, to.at)
        self.outbox = min(self.outbox, to.stamp)
