"""Takes contenders, returns a row of numbers for each: prepares and measures them in turn, A B C A B C …

In turn, because the machine changes under a benchmark: what disturbs one contender for ten seconds disturbs them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.bench.report import say
from tests.bench.server import Database, Server

WARM_UP_JOBS = 5_000


class Unavailable(Exception):
    """A contender cannot take part; says why in one sentence."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One system that does one thing with no-op jobs: drains a queue of them, or fills it."""

    name: str
    how: str
    """Exactly what is run, in words."""
    install: Callable[[], str]
    """Make it ready to run and return its version; nothing but this may raise `Unavailable`."""
    prepare: Callable[[Database, int], None]
    """Make an empty database ready for that many jobs, each with one integer argument."""
    measure: Callable[[Database, int], float]
    """Do it with that many jobs, see that the database has them all as they should be, return the seconds that it took."""
    share: int = 1
    """A slow contender gets one job where the others get this many."""


@dataclass(slots=True)
class Row:
    """What one contender did. *rates* are jobs a second, one for each run."""

    contender: Contender
    version: str | None = None
    why: str | None = None
    rates: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> int | None:
        """The median of the runs."""
        return round(median(self.rates)) if self.rates else None

    def data(self) -> dict[str, object]:
        """The row as --json prints it."""
        spread = [round(min(self.rates)), round(max(self.rates))] if self.rates else None
        shown: dict[str, object] = {
            "per_second": self.per_second,
            "spread": spread,
            "version": self.version,
            "how": self.contender.how,
        }
        return shown if self.why is None else {**shown, "why": self.why}


def take_turns(
    server: Server, contenders: Sequence[Contender], *, jobs: int, runs: int, warm_up: int = WARM_UP_JOBS
) -> list[Row]:
    """One row for each of *contenders*, in their order: *runs* of *jobs* jobs after a short one to warm up."""
    rows = [_installed(contender) for contender in contenders]
    able = [row for row in rows if row.why is None]
    for row in able:
        if warm_up:
            _rate(server, row.contender, min(jobs, warm_up))
    for run in range(runs):
        for row in able:
            row.rates.append(_rate(server, row.contender, max(1, jobs // row.contender.share)))
            say(f"run {run + 1} of {runs}: {row.contender.name} {row.rates[-1]:,.0f} jobs/s")
    return rows


def _installed(contender: Contender) -> Row:
    try:
        return Row(contender, version=contender.install())
    except Unavailable as problem:
        say(f"{contender.name} cannot take part: {problem}")
        return Row(contender, why=str(problem))


def _rate(server: Server, contender: Contender, jobs: int) -> float:
    with server.database("bench") as database:
        contender.prepare(database, jobs)
        database.settle_down()
        return jobs / contender.measure(database, jobs)
