"""What people look at: jobs, queues, runners, the dead, and why. Reads only; nothing here takes a lock that others wait for.

Everything but payloads is read through views, so that a role that may read nothing else can look too.
Takes a sync connection; its values (store.rows) have the columns of the statements as fields.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from jobrunner.store.queries import query
from jobrunner.store.reading import Connection, first, rows, value
from jobrunner.store.rows import (
    AttemptRow,
    DeadFilter,
    DeadGroup,
    DeadId,
    Front,
    JobDetail,
    JobFilter,
    JobPayload,
    JobRow,
    QueueRow,
    Recent,
    RunnerRow,
    TraceRow,
    UnknownTaskRow,
)

_CLOCK = query("clock")
_JOBS_PAGE = query("jobs_page")
_JOB = query("job")
_JOB_PAYLOAD = query("job_payload")
_JOB_ATTEMPTS = query("job_attempts")
_JOB_STATES = query("job_states")
_DEAD_JOBS = query("dead_jobs")
_DEAD_IDS = query("dead_ids")
_DEAD_GROUPS = query("dead_groups")
_QUEUES = query("queues")
_RUNNERS = query("runners")
_RECENT = query("recent")
_HEALTH = query("health")
_UNKNOWN_TASKS = query("unknown_tasks")
_KNOWN_TASKS = query("known_tasks")
_WHY = query("why")
_TRACE = query("trace")


def clock(conn: Connection) -> datetime:
    """The server's time."""
    return cast("datetime", value(conn, _CLOCK, {}))


def list_jobs(conn: Connection, which: JobFilter, *, limit: int, after: int | None = None) -> list[JobRow]:
    """Up to *limit* jobs, history included, the newest first; with *after* those older than that id."""
    return rows(conn, JobRow, _JOBS_PAGE, {**_fields(which), "limit": limit, "after": after})


def find_job(conn: Connection, job_id: int) -> JobDetail | None:
    """The job, or None when there is no such id or its history was dropped."""
    return first(conn, JobDetail, _JOB, {"id": job_id})


def find_payload(conn: Connection, job_id: int) -> JobPayload | None:
    """What the job was given and returned; None when there is no such id. The role must be allowed to read the tables."""
    return first(conn, JobPayload, _JOB_PAYLOAD, {"id": job_id})


def list_attempts(conn: Connection, job_id: int) -> list[AttemptRow]:
    """Its starts that did not succeed, the first one first."""
    return rows(conn, AttemptRow, _JOB_ATTEMPTS, {"id": job_id})


def states(conn: Connection, ids: list[int]) -> dict[int, str]:
    """The state of each of *ids* that exists."""
    return dict(conn.execute(_JOB_STATES, {"ids": ids}).fetchall())


def list_dead(
    conn: Connection, which: DeadFilter, *, limit: int, after: tuple[datetime, int] | None = None
) -> list[JobRow]:
    """Up to *limit* dead jobs, the latest first; with *after* those that died before it: when it died, and its id."""
    at, after_id = after or (None, None)
    return rows(conn, JobRow, _DEAD_JOBS, {**_fields(which), "limit": limit, "after_at": at, "after": after_id})


def list_dead_groups(
    conn: Connection, *, queue: str | None = None, task: str | None = None, limit: int
) -> list[DeadGroup]:
    """Up to *limit* faults that dead jobs have in common, the one of most jobs first. Reads all that is dead."""
    return rows(conn, DeadGroup, _DEAD_GROUPS, {"queue": queue, "task": task, "limit": limit})


def choose_dead(conn: Connection, which: DeadFilter, *, ids: list[int] | None, limit: int | None) -> list[DeadId]:
    """The dead jobs that a bulk change means, the first to die first; *ids* None: any."""
    return rows(conn, DeadId, _DEAD_IDS, {**_fields(which), "ids": ids, "limit": limit})


def list_queues(conn: Connection) -> list[QueueRow]:
    """Every queue that is known or has jobs, by name. Reads the whole table of jobs."""
    return rows(conn, QueueRow, _QUEUES, {})


def list_runners(conn: Connection, *, gone: bool = False) -> list[RunnerRow]:
    """Runners that should be alive; with *gone* also those that ended within a day."""
    return rows(conn, RunnerRow, _RUNNERS, {"gone": gone})


def recent(conn: Connection, *, minutes: int) -> Recent:
    """What finished within *minutes*, what died within an hour, what may hold the system up."""
    return rows(conn, Recent, _RECENT, {"minutes": minutes})[0]


def list_fronts(conn: Connection) -> list[Front]:
    """The next job of each queue that is not paused, the longest due first. Cheap at any size."""
    return rows(conn, Front, _HEALTH, {})


def list_unknown_tasks(conn: Connection) -> list[UnknownTaskRow]:
    """Tasks that jobs wait for and no live runner knows, by queue, most jobs first: the parked and the front of each queue."""
    return rows(conn, UnknownTaskRow, _UNKNOWN_TASKS, {})


def list_known_tasks(conn: Connection) -> list[str]:
    """The names of all tasks that a runner ever registered here."""
    return [name for (name,) in conn.execute(_KNOWN_TASKS).fetchall()]


def why(conn: Connection, job_id: int) -> str:
    """Why the job is not running now: one sentence."""
    return str(value(conn, _WHY, {"id": job_id}))


def trace(conn: Connection, ref: str, *, limit: int) -> list[TraceRow]:
    """The tree that a subject or job:ID belongs to, depth first, at most *limit* nodes."""
    return rows(conn, TraceRow, _TRACE, {"ref": ref, "limit": limit})


def _fields(which: JobFilter | DeadFilter) -> dict[str, Any]:
    return {name: getattr(which, name) for name in which.__dataclass_fields__}
