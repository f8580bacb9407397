"""How a job ends by procrastinate's word: finished, put back, cancelled. Fenced by the claim that is remembered here."""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime

import psycopg
from procrastinate.exceptions import ConnectorException
from psycopg.types.json import Jsonb

from jobrunner.errors import InvalidJob, StaleLease
from jobrunner.procrastinate.claims import Claim, Claims, End, current
from jobrunner.procrastinate.strategy import place
from jobrunner.procrastinate.talks import Row, Say, Talk, ask, patiently
from jobrunner.store.queries import query
from jobrunner.telemetry import log

_FINISH = query("procrastinate_finish")
_RETRY = query("procrastinate_retry")
_CANCEL = query("procrastinate_cancel")


def finish_job(claims: Claims, *, job_id: int, status: str, delete_job: bool) -> Talk:
    """End a running job; by the claim that the caller has, else by the one that there is.

    Raises ConnectorException when it does not run, or when another attempt has it.
    """
    claim = claims.of(job_id)
    params = {
        "id": job_id,
        "status": status,
        "delete": delete_job,
        "failure": Jsonb(claim.failure() if claim and status != "succeeded" else {}),
    }
    return (yield from _settle(claims, claim, End(_FINISH, params), "does not run, so it cannot end"))


def retry_job(
    claims: Claims,
    *,
    job_id: int,
    retry_at: datetime,
    new_priority: int | None,
    new_queue_name: str | None,
    new_lock: str | None,
) -> Talk:
    """Put a running or failed job back, with what is new; fenced like `finish_job`.

    Raises InvalidJob for a place that no job can have. Who runs the job is not told but his log, and the job has failed: a worker
    that was told would not speak of it again, and keep it for as long as it lives.
    """
    claim = claims.of(job_id)
    try:
        place(new_queue_name, new_priority, new_lock)
    except InvalidJob as wrong:
        if claim is None or claim is not current():
            raise
        log.error("job %s cannot be tried again as its retry strategy wants, so it is dead: %s", job_id, wrong)
        return (yield from finish_job(claims, job_id=job_id, status="failed", delete_job=False))
    params = {
        "id": job_id,
        "at": retry_at,
        "priority": new_priority,
        "queue": new_queue_name,
        "lock": new_lock,
        "failure": Jsonb(claim.failure() if claim else {}),
    }
    end = End(_RETRY, params)
    return (yield from _settle(claims, claim, end, "neither runs nor has failed, so it cannot be retried"))


def cancel_job(*, job_id: int, abort: bool, delete_job: bool) -> Talk:
    """Cancel what waits, ask what runs to stop where *abort* says so: [{id}], None where there was nothing to do."""
    return ask(_CANCEL, id=job_id, abort=abort, delete=delete_job)


def say_again(claims: Claims, runner: int) -> Talk:
    """The ends of *runner*'s jobs that did not get through, each once more: nobody else would say them. Raises nothing."""
    for claim in claims.of_runner(runner):
        if claim.unsaid is None:
            continue
        try:
            verdict = yield from _say(claim, claim.unsaid)
        except psycopg.Error as error:
            log.warning(
                "the end of job %s does not get through: %s", claim.job_id, str(error).strip().partition("\n")[0]
            )
            continue
        if verdict != "busy":
            claims.ended(claim)
    return []


def _settle(claims: Claims, claim: Claim | None, end: End, problem: str) -> Talk:
    job_id = end.params["id"]
    try:
        verdict = yield from patiently(lambda: _say(claim, end))
        if verdict == "busy":
            raise ConnectorException(f"job {job_id} is held by another session; look for an open transaction")
    except (psycopg.Error, ConnectorException):
        if claim is not None:
            claim.unsaid = end
        raise
    if verdict == "settled":
        if claim is not None:
            claims.ended(claim)
        return []
    if claim is None:
        raise ConnectorException(f"job {job_id} {problem}")
    claims.lost(claim)
    raise ConnectorException(str(StaleLease(job_id, claim.attempt)))


def _say(claim: Claim | None, end: End) -> Generator[Say | float, list[Row], str]:
    """The verdict; busy where it may be due to the new id that the claim's worker just goes on under."""
    runner = claim and claim.runner
    rows = yield Say(end.statement, {**end.params, "attempt": claim and claim.attempt, "runner": runner})
    verdict: str = rows[0]["verdict"]
    if verdict == "stale" and claim is not None and (claim.moving or claim.runner != runner):
        return "busy"
    return verdict
