"""How jobs look: takes rows, returns what rich prints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from jobrunner.ops import shapes
from jobrunner.ops.cli import output
from jobrunner.store.rows import AttemptRow, DeadGroup, JobDetail, JobPayload, JobRow

_MODULES = re.compile(r"^(?:\w+\.)+(?=\w+(?::|$))")
_CUT = 2000  # characters of arguments, headers and results, without --full


def job_table(jobs: Sequence[JobRow], now: datetime) -> RenderableType:
    """Jobs as a table, one a line."""
    return output.table(
        "id", "state", "task", "queue", ">starts", ">age", "note",
        rows=(
            (
                str(job.id),
                output.state(job.state, job.blocked_on),
                job.task,
                job.queue,
                str(job.attempt),
                output.rough(now - job.created_at),
                note(job, now),
            )
            for job in jobs
        ),
        flexible="note",
        empty="no jobs",
    )  # fmt: skip


def dead_table(jobs: Sequence[JobRow], now: datetime) -> RenderableType:
    """Dead jobs as a table: when they died, and of what."""
    return output.table(
        "id", "task", "queue", ">starts", ">died", "error",
        rows=(
            (
                str(job.id),
                job.task,
                job.queue,
                str(job.attempt),
                f"{output.rough(now - job.finished_at)} ago" if job.finished_at else "",
                Text(_short(job.error or job.reason or ""), style="red"),
            )
            for job in jobs
        ),
        flexible="error",
        empty="no dead jobs",
    )  # fmt: skip


def dead_group_table(groups: Sequence[DeadGroup], now: datetime) -> RenderableType:
    """Faults as a table, one a line."""
    return output.table(
        ">jobs", "task", ">first died", ">last died", ">sample", "fingerprint", "error",
        rows=(
            (
                output.count(group.n),
                group.task,
                f"{output.rough(now - group.first_at)} ago",
                f"{output.rough(now - group.last_at)} ago",
                str(group.sample_id),
                group.fingerprint,
                Text(_short(group.error), style="red"),
            )
            for group in groups
        ),
        flexible="error",
        empty="no dead jobs",
    )  # fmt: skip


def note(job: JobRow, now: datetime) -> Text:
    """The most telling thing about a job in a list."""
    progress = job.progress(now)
    if job.state == "running" and progress is not None:
        percentage = f"{progress.percentage:g} %" if progress.percentage is not None else f"{progress.processed:,} done"
        return Text(f"{percentage} {progress.message or ''}")
    if job.state == "scheduled":
        due = f"due in {output.rough(job.run_at - now)}" if job.run_at > now else "due now"
        return Text(f"{due}{f', after: {_short(job.error)}' if job.failures and job.error else ''}")
    if job.state == "running" and job.started_at:
        return Text(f"for {output.rough(now - job.started_at)}")
    if job.state == "dead":
        return Text(_short(job.error or job.reason or ""), style="red")
    return Text(job.reason or (f"key {job.key}" if job.key else job.subject or ""), style="dim")


def _short(error: str) -> str:
    """An error for one line of a list: its class without the module, its text without line breaks."""
    return " ".join(_MODULES.sub("", error, count=1).split())


def detail(
    job: JobDetail, attempts: Sequence[AttemptRow], now: datetime, payload: JobPayload | None, *, full: bool
) -> RenderableType:
    """One job with everything that belongs to it; long texts are cut unless *full*."""
    progress = job.progress(now)
    took = job.finished_at - job.started_at if job.finished_at and job.started_at else None
    due = "due" if job.state in ("scheduled", "ready", "blocked") else "was due"
    crashes = output.many(job.crashes, "crash")
    parts: list[RenderableType] = [
        Text.assemble((f"job {job.id}  ", "bold"), (job.task, "bold"), "  ", output.state(job.state, job.blocked_on)),
        Text(job.why, style="italic"),
        Text(),
        output.facts(
            [
                ("progress", None if progress is None else output.bar(progress, now)),
                ("message", None if progress is None else progress.message),
                ("queue", f"{job.queue}, priority {job.priority}, version {job.version}"),
                (
                    "tries",
                    f"{job.attempt} started, {job.failures} of {output.many(job.max_attempts, 'failure')}, {crashes}",
                ),
                ("created", output.moment(job.created_at, now)),
                (due, output.moment(job.run_at, now)),
                ("started", output.moment(job.started_at, now)),
                ("finished", output.moment(job.finished_at, now)),
                ("took", None if took is None else output.rough(took)),
                ("runner", _runner(job)),
                ("cancel", None if job.cancel_requested_at is None else f"asked for by {job.cancel_requested_by}"),
                ("key", job.key),
                ("unique key", job.unique_key),
                ("subject", job.subject),
                ("caused by", None if job.cause_job_id is None else f"job {job.cause_job_id}"),
                ("reason", job.reason),
                ("error", None if job.error is None else Text(job.error, style="red")),
                *_payload(payload, full=full),
            ]
        ),
    ]
    for attempt in attempts:
        parts += _attempt(attempt, now, full=full)
    return Group(*parts)


def _payload(payload: JobPayload | None, *, full: bool) -> list[tuple[str, str | None]]:
    if payload is None:
        return [("args", "not for this role: it may not read jobrunner.jobs")]
    return [
        ("args", _cut(shapes.to_json(payload.args, short=True), full=full)),
        ("headers", _cut(shapes.to_json(payload.headers, short=True), full=full) if payload.headers else None),
        ("result", None if payload.result is None else _cut(shapes.to_json(payload.result, short=True), full=full)),
    ]


def _runner(job: JobDetail) -> str | None:
    if job.runner_id is None:
        return None
    return f"{job.runner_host}:{job.runner_pid}" if job.runner_host else str(job.runner_id)


def _attempt(attempt: AttemptRow, now: datetime, *, full: bool) -> list[RenderableType]:
    took = "" if attempt.started_at is None else f" after {output.rough(attempt.ended_at - attempt.started_at)}"
    what = f"{attempt.error_type}: {attempt.message}" if attempt.error_type else attempt.message or attempt.reason or ""
    head = Text.assemble(
        (f"\nattempt {attempt.attempt}  ", "bold"),
        (attempt.outcome, "yellow"),
        f"{took}, {output.moment(attempt.ended_at, now)}",
    )
    return [
        head,
        Text(f"  {what}"),
        *([Text(_indented(attempt.traceback), style="dim")] if full and attempt.traceback else []),
    ]


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.rstrip().splitlines())


def _cut(text: str, *, full: bool) -> str:
    if full or len(text) <= _CUT:
        return text
    return f"{text[:_CUT]}… ({len(text):,} characters; all of them with --full)"
