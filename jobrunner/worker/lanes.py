"""Slots of their own: the most jobs of a queue, or of a task, that one runner has in hand at a time.

Each limited queue and task is a lane: it is claimed by itself, for as much as there is room, and the lanes take turns to go
first, so that none starves. A lane looks over the jobs of the others, so it has floors of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from jobrunner.policy.floor import Class, Floors, Mark
from jobrunner.policy.models import Claimed
from jobrunner.store.jobs import Known

Limit: TypeAlias = tuple[Callable[[Claimed], bool], int]
"""Of the jobs that it counts, at most so many."""


@dataclass(slots=True)
class Lane:
    """What one claim may take."""

    known: Known
    """Its tasks."""
    takes: Callable[[str], bool]
    """Which queues are its own."""
    limits: tuple[Limit, ...] = ()
    """Of the jobs in hand that it counts, at most so many."""
    floors: Floors = field(default_factory=Floors)
    """Below which nothing of its own can appear."""

    def room(self, in_hand: Iterable[Claimed]) -> float:
        """How many more it may have in hand."""
        if not self.limits:
            return math.inf
        held = list(in_hand)
        return min(most - sum(map(counts, held)) for counts, most in self.limits)


class Lanes:
    """The lanes of one runner; without limits there is one, which takes everything."""

    def __init__(
        self,
        known: Known,
        floors: Floors,
        queues: Mapping[str, int],
        tasks: Mapping[str, int],
        shared: tuple[Collection[str], int] = ((), 0),
    ) -> None:
        """*shared*: tasks that have so many slots together."""
        versions = dict(zip(known.tasks, known.versions, strict=True))
        sharers, most_of_them = frozenset(shared[0]), shared[1]
        rest = [name for name in known.tasks if name not in tasks and name not in sharers]
        self.limited = frozenset(queues), frozenset(tasks) | sharers
        """The queues and the tasks that have slots of their own."""
        self.free = Lane(Known(rest, [versions[name] for name in rest]), lambda queue: queue not in queues, (), floors)
        self._lanes = [self.free] if rest else []
        for queue, most in queues.items():
            if rest:
                self._lanes.append(Lane(self.free.known, queue.__eq__, (_of_queue(queue, most),)))
        together: Limit = (lambda job: job.task in sharers), most_of_them
        groups: list[tuple[list[str], tuple[Limit, ...]]] = [
            ([task], (_of_task(task, most), *([together] if task in sharers else []))) for task, most in tasks.items()
        ]
        if others := [name for name in known.tasks if name in sharers and name not in tasks]:
            groups.append((others, (together,)))
        for names, limits in groups:
            alone = Known(names, [versions[name] for name in names])
            self._lanes.append(Lane(alone, self.free.takes, limits))
            for queue, fewer in queues.items():
                self._lanes.append(Lane(alone, queue.__eq__, (*limits, _of_queue(queue, fewer))))
        self._turn = 0

    def limits(self, job: Claimed) -> bool:
        """Whether the end of *job* makes room that others have waited for."""
        queues, tasks = self.limited
        return job.queue in queues or job.task in tasks

    def in_turn(self) -> list[Lane]:
        """All lanes, another one first each time."""
        self._turn = (self._turn + 1) % len(self._lanes)
        return self._lanes[self._turn :] + self._lanes[: self._turn]

    def lower(self, to: Mark) -> None:
        """Every lane looks again from *to* on."""
        for lane in self._others():
            lane.floors.lower(to)

    def begin_anew(self) -> None:
        """Every lane looks from the beginning."""
        for lane in self._others():
            lane.floors.ready.clear()

    def know(self, lane: Lane, part: Iterable[Class]) -> None:
        """Have a floor for each of *part*."""
        if lane is not self.free:
            lane.floors.add(part)

    def _others(self) -> Iterable[Lane]:
        return (lane for lane in self._lanes if lane is not self.free)


def _of_queue(name: str, most: int) -> Limit:
    return lambda job: job.queue == name, most


def _of_task(name: str, most: int) -> Limit:
    return lambda job: job.task == name, most
