"""The values that a test gets: what a drain ran, and what an assertion found."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Literal, TypeAlias

from jobrunner.policy.lifecycle import Settlement, State
from jobrunner.policy.models import Json

Word: TypeAlias = Literal["succeeded", "failed", "snoozed", "cancelled", "dead"]
"""How a run ended, in one word; `Drained` counts them."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one job."""

    task: str
    """Full name, of a task or a subscription."""
    job_id: int
    """Of the job."""
    attempt: int
    """Starts so far, this one counted."""
    args: dict[str, Json]
    """Of the call; of a delivery where its event lies."""
    ended: Word
    """How."""
    error: BaseException | None = None
    """What the handler raised; InvalidArguments where what was stored does not fit it."""
    reason: str | None = None
    """What the handler answered, or why the job is dead."""
    result: Json = None
    """What the handler returned."""


@dataclass(frozen=True, slots=True, repr=False)
class Drained:
    """What one drain ran. Compares by its counts: `drain(conn, app) == Drained(succeeded=2)`."""

    succeeded: int = 0
    """The handler returned, or left its `ctx.transaction()`."""
    failed: int = 0
    """It raised, or answered Retry; tried again later."""
    snoozed: int = 0
    """Put off without a failure."""
    cancelled: int = 0
    """No longer wanted."""
    dead: int = 0
    """Out of attempts, rejected, or with arguments that do not fit."""
    runs: list[Run] = field(default_factory=list, compare=False)
    """All of them, in the order in which they ran."""

    def __repr__(self) -> str:
        counts = ((one.name, getattr(self, one.name)) for one in fields(self) if one.compare)
        return f"Drained({', '.join(f'{name}={n}' for name, n in counts if n)})"

    @classmethod
    def of(cls, runs: list[Run]) -> Drained:
        """The counts of *runs*."""
        ended = [run.ended for run in runs]
        return cls(
            ended.count("succeeded"),
            ended.count("failed"),
            ended.count("snoozed"),
            ended.count("cancelled"),
            ended.count("dead"),
            runs,
        )


def word(settlement: Settlement) -> Word:
    """What *settlement* means to a test."""
    match settlement.state:
        case State.SUCCEEDED:
            return "succeeded"
        case State.CANCELLED:
            return "cancelled"
        case State.DEAD:
            return "dead"
        case _:
            return "failed" if settlement.failed else "snoozed"


@dataclass(frozen=True, slots=True)
class Enqueued:
    """One job as the database has it, in the column order of testing_jobs.sql."""

    id: int
    """What enqueue returned."""
    state: str
    """Where it is now."""
    task: str
    """Full name."""
    queue: str
    """Where it waits."""
    priority: int
    """Larger runs first."""
    version: int
    """Of the arguments."""
    max_attempts: int
    """Failures that make it dead."""
    attempt: int
    """Starts so far."""
    failures: int
    """Failures so far."""
    run_at: datetime
    """When it is, or was, due."""
    created_at: datetime
    """When it was enqueued."""
    key: str | None
    """What orders it."""
    unique_key: str | None
    """The unique key that it holds; given up at its start unless it says otherwise."""
    unique_until: str | None
    """How long it holds that."""
    subject: str | None
    """What it is about."""
    args: dict[str, Json]
    """Of the call."""
    headers: dict[str, Json]
    """Beside the arguments."""
    reason: str | None
    """Why it is in this state."""
    error: str | None
    """Its last failure."""
