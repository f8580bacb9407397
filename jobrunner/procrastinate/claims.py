"""What a worker of procrastinate holds: its finish names the id only, so the claim behind it is remembered here.

A claim travels in the context of the job's own task (procrastinate makes that task right after the fetch), so that of two
workers in one process each ends its own claim; and by id, for who asks from elsewhere.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from jobrunner.policy.envelope import tree_of
from jobrunner.policy.text import describe

_current: ContextVar[Claim | None] = ContextVar("jobrunner_procrastinate_claim", default=None)


class End(NamedTuple):
    """The end of a job in hand: a statement whose row has a verdict, and its parameters but for the fence."""

    statement: LiteralString
    params: dict[str, Any]


@dataclass(slots=True, eq=False)
class Claim:
    """One job in hand: the fence of its end."""

    job_id: int
    attempt: int
    runner: int
    """Changes when the worker goes on under a new id."""
    correlation: UUID
    """The tree of causes that it belongs to."""
    error: BaseException | None = None
    """What the handler raised, as procrastinate logged it."""
    moving: bool = False
    """Its worker is just going on under a new id: which of the two the database knows is not known here."""
    unsaid: End | None = None
    """How it ended, where that did not get through: said again with each heartbeat."""

    def failure(self) -> dict[str, str]:
        """The error in the words of settle_v1; nothing where none was seen."""
        if self.error is None:
            return {}
        told = describe(self.error)
        first_line = told.message.partition("\n")[0][:1000]
        return {
            "error": f"{told.type}: {first_line}",
            "error_type": told.type,
            "message": told.message,
            "traceback": told.traceback,
        }


class Claims:
    """All that the workers of one connector hold."""

    def __init__(self) -> None:
        self._held: dict[int, Claim] = {}

    def took(self, row: dict[str, Any], runner: int) -> None:
        """Remember the job of *row*, claimed by *runner*, for the task that is about to run it."""
        given = row["correlation"]
        correlation = UUID(given) if given else tree_of(row["id"])
        claim = Claim(row["id"], row["attempt"], runner, correlation)
        self._held[claim.job_id] = claim
        _current.set(claim)

    def of(self, job_id: int) -> Claim | None:
        """The claim that the caller has on a job; None where nobody here holds it."""
        here = _current.get()
        return here if here is not None and here.job_id == job_id else self._held.get(job_id)

    def ended(self, claim: Claim) -> None:
        """It is settled."""
        self.lost(claim)
        if _current.get() is claim:
            _current.set(None)

    def lost(self, claim: Claim) -> None:
        """Another has the job; the task that ran it keeps the claim, so that it never speaks for that other one."""
        if self._held.get(claim.job_id) is claim:
            del self._held[claim.job_id]

    def of_runner(self, runner: int) -> list[Claim]:
        """What *runner* holds."""
        return [claim for claim in self._held.values() if claim.runner == runner]


def current() -> Claim | None:
    """The claim of the job whose code is running here: the cause of what it defers."""
    return _current.get()


def forget() -> None:
    """Nothing is in hand in this context (any more)."""
    _current.set(None)


class _Errors(logging.Filter):
    """Keeps what a job raised: procrastinate tells its log, and its connector nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        claim = _current.get()
        if claim is not None and isinstance(record.exc_info, tuple):
            claim.error = record.exc_info[1]
        return True


_errors = _Errors()


def note_errors() -> None:
    """From now on; once is enough, again does nothing."""
    logging.getLogger("procrastinate.worker").addFilter(_errors)
