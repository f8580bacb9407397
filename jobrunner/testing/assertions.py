"""Assertions about what the code under test has enqueued and published.

Sync with either kind of connection, so that none is forgotten to be awaited. They see what the test's connection sees, uncommitted
rows too: jobs whether they have run or not, events whether they are in the log yet or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import EllipsisType
from typing import Any, TypeAlias, Unpack

from jobrunner.policy.envelope import Envelope
from jobrunner.policy.events import Event
from jobrunner.policy.models import Job, Json, Options
from jobrunner.policy.recorded import Recorded
from jobrunner.store.queries import query
from jobrunner.testing.connections import Either, Sync, bound
from jobrunner.testing.results import Enqueued
from jobrunner.testing.telling import missing, unwanted
from jobrunner.testing.wanted import event_like, job_like
from jobrunner.worker.subscription import Subscription
from jobrunner.worker.task import Task

_JOBS = query("testing_jobs")
_EVENTS = query("testing_events")

AJob: TypeAlias = Job | Task[..., Any] | Subscription[Any, Any]
"""A call, or whatever has jobs of its own."""

AnEvent: TypeAlias = Event | type[Event] | str
"""An event, a class of events, or a pattern of their types."""


def assert_enqueued(
    job: AJob, *, conn: Either | None = None, count: int | None = None, **options: Unpack[Options]
) -> list[Enqueued]:
    """Fail unless a job like *job* was enqueued, exactly *count* of them if given; returns them, the oldest first.

    `task.job(…)` and `Job(…)` ask for at least these arguments, a task for any. *options* have to be equal (headers: at least
    these), None included. Of what a call itself says, key, unique key, subject, time and headers count; queue, priority, version
    and attempts only where they are given here.

    Raises:
        AssertionError: with what is there instead, the nearest first.
    """
    __tracebackhide__ = True
    wanted = job_like(job, options)
    seen = _jobs(bound(conn), wanted.task)
    found = [one for one in seen if not wanted.differences(one)]
    if not found if count is None else len(found) != count:
        raise AssertionError(missing(wanted, "job", "enqueued", count, found, seen, lambda: _jobs(bound(conn), None)))
    return found


def refute_enqueued(job: AJob, *, conn: Either | None = None, **options: Unpack[Options]) -> None:
    """Fail when a job like *job* was enqueued; what is like it: see `assert_enqueued`."""
    __tracebackhide__ = True
    wanted = job_like(job, options)
    if found := [one for one in _jobs(bound(conn), wanted.task) if not wanted.differences(one)]:
        raise AssertionError(unwanted(wanted, "job", "enqueued", found))


def assert_published(
    event: AnEvent,
    *,
    conn: Either | None = None,
    count: int | None = None,
    key: str | EllipsisType | None = ...,
    subject: str | EllipsisType | None = ...,
    source: str | EllipsisType = ...,
    headers: Mapping[str, Json] | None = None,
    data: Mapping[str, Json] | None = None,
) -> list[Envelope]:
    """Fail unless an event like *event* was published, exactly *count* of them if given; returns them, the oldest first.

    An event asks for its own payload and version, a class for its type, a string for the types that it matches ("order.*").
    What else is given has to be equal, None included; *headers* and *data*: at least these. Data is as it was stored: JSON.

    Raises:
        AssertionError: with what is there instead, the nearest first.
    """
    __tracebackhide__ = True
    wanted = event_like(event, key=key, subject=subject, source=source, headers=headers, data=data)
    seen = _events(bound(conn))
    found = [one for one in seen if wanted.is_of_type(one.type) and not wanted.differences(one)]
    if not found if count is None else len(found) != count:
        near = [one for one in seen if wanted.is_of_type(one.type)]
        raise AssertionError(missing(wanted, "event", "published", count, found, near, lambda: seen))
    return found


def refute_published(
    event: AnEvent,
    *,
    conn: Either | None = None,
    key: str | EllipsisType | None = ...,
    subject: str | EllipsisType | None = ...,
    source: str | EllipsisType = ...,
    headers: Mapping[str, Json] | None = None,
    data: Mapping[str, Json] | None = None,
) -> None:
    """Fail when an event like *event* was published; what is like it: see `assert_published`."""
    __tracebackhide__ = True
    wanted = event_like(event, key=key, subject=subject, source=source, headers=headers, data=data)
    if found := [one for one in _events(bound(conn)) if wanted.is_of_type(one.type) and not wanted.differences(one)]:
        raise AssertionError(unwanted(wanted, "event", "published", found))


def _jobs(conn: Sync, task: str | None) -> list[Enqueued]:
    return [Enqueued(*row) for row in conn.execute(_JOBS, {"task": task}).fetchall()]


def _events(conn: Sync) -> list[Envelope]:
    return [Envelope.of(Recorded(*row), replay=False) for row in conn.execute(_EVENTS).fetchall()]
