"""What an assertion looks for: takes what the test gave, says of one row how it differs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import EllipsisType
from typing import Any

from jobrunner.policy.durations import brief
from jobrunner.policy.envelope import Envelope
from jobrunner.policy.events import Event, publication, type_of
from jobrunner.policy.models import Job, Json, Options
from jobrunner.policy.topics import check_pattern, is_literal, matches
from jobrunner.testing.results import Enqueued
from jobrunner.worker.subscription import Subscription
from jobrunner.worker.task import Task

_OF_A_CALL = ("run_at", "delay", "key", "unique_key", "subject", "headers")  # the others a call has from its task
_SUBSETS = ("headers", "data", "args")
_EXACT = timedelta(seconds=1)  # between reading the clock for run_at and for created_at


@dataclass(frozen=True, slots=True)
class WantedJob:
    """A job like this."""

    task: str
    """Full name."""
    args: Mapping[str, Json]
    """At least these."""
    options: Mapping[str, Any]
    """These and no others."""

    def differences(self, one: Enqueued) -> list[str]:
        """How *one* differs, in words; none of an equal one."""
        found = list(_lacks("args", self.args, one.args))
        for name, value in self.options.items():
            if name == "delay":
                waits = one.run_at - one.created_at
                if value is not None and abs(waits - value) > _EXACT:
                    about = timedelta(seconds=max(round(waits.total_seconds(), 2), 0))
                    found.append(f"it is delayed by {brief(about)}, not by {brief(value)}")
            elif name in _SUBSETS:
                found += _lacks(name, value, getattr(one, name))
            else:
                found += _differs(name, value, getattr(one, name))
        return found

    def __str__(self) -> str:
        call = ", ".join(f"{name}={_shown(value)}" for name, value in self.args.items())
        return _with(f"{self.task}({call})", self.options)

    @staticmethod
    def told(one: Enqueued) -> str:
        """*one* as a person recognises it."""
        call = ", ".join(f"{name}={_shown(value)}" for name, value in one.args.items())
        beside = {name: value for name in ("key", "unique_key", "subject") if (value := getattr(one, name)) is not None}
        why = f" ({one.error or one.reason})" if one.state == "dead" else ""
        return f"job {one.id}, {one.state}{why}: {_with(f'{one.task}({call})', beside)}"

    @staticmethod
    def kind(one: Enqueued) -> str:
        """What sort of thing *one* is."""
        return one.task


@dataclass(frozen=True, slots=True)
class WantedEvent:
    """An event like this."""

    pattern: str
    """Of its type."""
    exact: Mapping[str, Any]
    """Columns that have to be equal."""
    subsets: Mapping[str, Mapping[str, Json]]
    """At least these, in headers and data."""

    def is_of_type(self, name: str) -> bool:
        """Whether a type is one of those wanted."""
        return matches(name, [self.pattern])

    def differences(self, one: Envelope) -> list[str]:
        """How *one*, of a type that is wanted, differs, in words; none of an equal one."""
        found = [text for name, value in self.exact.items() for text in _differs(name, value, getattr(one, name))]
        for name, value in self.subsets.items():
            found += _lacks(name, value, getattr(one, name))
        return found

    def __str__(self) -> str:
        said = {name: value for name, value in self.exact.items() if name not in ("data", "version")}
        data = self.exact.get("data", self.subsets.get("data", {}))
        fields = ", ".join(f"{name}={_shown(value)}" for name, value in data.items())
        others = {name: value for name, value in self.subsets.items() if name != "data"}
        return _with(
            f"{self.pattern}({fields})" if fields or is_literal(self.pattern) else self.pattern, {**said, **others}
        )

    @staticmethod
    def told(one: Envelope) -> str:
        """*one* as a person recognises it."""
        fields = ", ".join(f"{name}={_shown(value)}" for name, value in one.data.items())
        beside = {name: value for name in ("key", "subject") if (value := getattr(one, name)) is not None}
        where = f"event {one.position}" if one.position else "event in the outbox"
        return f"{where}: {_with(f'{one.type}({fields})', beside)}"

    @staticmethod
    def kind(one: Envelope) -> str:
        """What sort of thing *one* is."""
        return one.type


def job_like(job: Job | Task[..., Any] | Subscription[Any, Any], options: Options) -> WantedJob:
    """What `assert_enqueued` looks for. Raises what `Job.using` raises."""
    if isinstance(job, Task | Subscription):
        job = Job(job.name)
    given = job.using(**options)
    unset = Job(job.task)
    asked = [name for name in _OF_A_CALL if getattr(given, name) != getattr(unset, name)]
    return WantedJob(job.task, job.args, {name: getattr(given, name) for name in dict.fromkeys([*asked, *options])})


def event_like(
    event: Event | type[Event] | str,
    *,
    key: str | EllipsisType | None,
    subject: str | EllipsisType | None,
    source: str | EllipsisType,
    headers: Mapping[str, Json] | None,
    data: Mapping[str, Json] | None,
) -> WantedEvent:
    """What `assert_published` looks for; `...` asks for nothing. Raises BadName, and ConfigError for a class without a name."""
    exact: dict[str, Any] = {}
    if isinstance(event, str):
        check_pattern(event)
        pattern = event
    else:
        pattern = type_of(event).name
        if isinstance(event, Event):
            made = publication(event)
            exact = {"version": made.version, "data": made.data}
    given = {"key": key, "subject": subject, "source": source}
    exact |= {name: value for name, value in given.items() if value is not ...}
    subsets = {"headers": headers, "data": data}
    return WantedEvent(pattern, exact, {name: dict(value) for name, value in subsets.items() if value is not None})


def _lacks(name: str, wanted: Mapping[str, Json], found: Mapping[str, Json]) -> Iterator[str]:
    for item, value in wanted.items():
        if item not in found:
            yield f"{name} has no {item}"
        else:
            yield from _differs(item if name == "args" else f"{name}.{item}", value, found[item])


def _differs(name: str, wanted: object, found: object) -> Iterator[str]:
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for item in dict.fromkeys([*wanted, *found]):
            if item not in found:
                yield f"{name} has no {item}"
            elif item not in wanted:
                yield f"{name}.{item} is {_shown(found[item])}, which was not asked for"
            else:
                yield from _differs(f"{name}.{item}", wanted[item], found[item])
    elif wanted != found:
        yield f"{name} is {_shown(found)}, not {_shown(wanted)}"


def _with(what: str, beside: Mapping[str, Any]) -> str:
    told = ", ".join(f"{name}={_shown(value)}" for name, value in beside.items())
    return f"{what} with {told}" if told else what


def _shown(value: object) -> str:
    match value:
        case datetime():
            text = value.isoformat()
        case timedelta():
            text = repr(brief(value))
        case _:
            text = repr(value)
    return text if len(text) <= 100 else f"{text[:90]}… ({len(text)} characters)"
