"""What people look at, as values: one class for each kind of row, its fields in the words of the columns.

(long because: the kinds of rows are many, and each is plain)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from jobrunner.policy.payload import Json
from jobrunner.policy.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One job as a list shows it: v_job's words, no arguments."""

    id: int
    state: str
    blocked_on: str | None
    queue: str
    task: str
    version: int
    priority: int
    run_at: datetime
    attempt: int
    failures: int
    crashes: int
    max_attempts: int
    key: str | None
    subject: str | None
    runner_id: int | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    reason: str | None
    error: str | None
    total: int | None
    processed: int | None
    failed: int | None
    message: str | None
    progress_since: datetime | None
    progress_at: datetime | None

    def progress(self, now: datetime) -> Progress | None:
        """How far it says it is, the rate by *now* while it runs and by its last word afterwards; None when it said nothing."""
        if self.progress_since is None or self.progress_at is None:
            return None
        until = now if self.state == "running" else self.progress_at
        return Progress.compute(
            self.total, self.processed or 0, self.failed or 0, self.message, self.progress_since, until
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetail(JobRow):
    """One job with all that belongs to it but its payload and its attempts."""

    unique_key: str | None
    correlation_id: UUID | None
    cause_job_id: int | None
    cause_event: UUID | None
    parent_id: int | None
    runner_host: str | None
    runner_pid: int | None
    cancel_requested_at: datetime | None
    cancel_requested_by: str | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPayload:
    """What a job was given and what it returned; no view has it."""

    args: dict[str, Json]
    headers: dict[str, Json]
    result: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One start that did not succeed."""

    attempt: int
    outcome: str
    reason: str | None
    started_at: datetime | None
    ended_at: datetime
    runner_id: int | None
    error_type: str | None
    message: str | None
    traceback: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """One queue: jobs by state, and how many live runners read it."""

    name: str
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    description: str | None
    ready: int
    scheduled: int
    retrying: int
    """Scheduled after a failure."""
    blocked: int
    running: int
    dead: int
    oldest_ready: timedelta | None
    """For how long the ready job that has been due the longest has been so."""
    runners: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerRow:
    """One runner; *state* is alive, silent, lost, stopped or renewed."""

    id: int
    state: str
    app: str
    host: str
    pid: int
    version: str
    queues: list[str] | None
    """None: all of them."""
    slots: int
    busy: int
    listening: bool
    started_at: datetime
    beat_age: timedelta
    poll: timedelta | None
    """How often it looks when nothing wakes it; None from a runner of schema version 2."""
    schema_oldest: int | None
    """The versions of the schema that its library was written for."""
    schema_newest: int | None
    tasks: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """What happened lately, and what may hold the system up."""

    succeeded: int
    cancelled: int
    died: int
    """Within the last hour."""
    partitions_ahead: int
    oldest_transaction: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownTaskRow:
    """A task that jobs of a queue wait for and no live runner knows."""

    queue: str
    task: str
    version: int
    jobs: int
    """At least so many: of the ready ones only the first 1000 of a queue are looked at."""
    ready: int
    """Those of them that nobody has parked yet."""
    oldest: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The next job of a queue, and for how long it has been due."""

    queue: str
    id: int
    waited: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRow:
    """One node of a tree of causes, depth first; a job whose history was dropped has only its id and the state `dropped`."""

    depth: int
    kind: str
    """transaction, event, delivery or job."""
    id: int | None
    """Of the job; the position of an event (None in the outbox); the number of a transaction."""
    cause: int | None
    """The id of the node above."""
    task: str | None
    queue: str | None
    state: str
    blocked_on: str | None
    attempt: int | None
    failures: int | None
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    reason: str | None
    error: str | None
    subject: str | None
    event_id: UUID | None
    """Of an event; of a delivery the one that it carries."""
    type: str | None
    """Of an event."""
    version: int | None
    key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs; None is no condition."""

    state: str | None = None
    queue: str | None = None
    task: str | None = None
    key: str | None = None
    subject: str | None = None
    since: timedelta | None = None
    """Created within this time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadFilter:
    """Which dead jobs; None is no condition."""

    queue: str | None = None
    task: str | None = None
    error: str | None = None
    """A part of the error's text, in any case."""
    older_than: timedelta | None = None
    """Dead for at least this long."""
    newer_than: timedelta | None = None
    """Dead for less than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadGroup:
    """Dead jobs of one task that died of the same fault."""

    fingerprint: str
    """Names the fault: the same task, type and error, whatever the numbers, ids and quoted parts in it."""
    task: str
    error_type: str | None
    error: str
    """The error with `N` for each number or id and `…` for each quoted part; the reason where there is no error."""
    n: int
    first_at: datetime
    last_at: datetime
    sample_id: int
    """The latest of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadId:
    """One job of a bulk change."""

    id: int
    task: str
    queue: str
