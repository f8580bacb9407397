"""What happened to a job: procrastinate's events, and the view that puts the same ones together here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from procrastinate import jobs

from tests.procrastinate.rig import Rig

_THEIRS = "select type::text from procrastinate_events where job_id = %s and type <> 'scheduled' order by at, id"
_OURS = "select type from jobrunner.v_procrastinate_event where job_id = %s and type <> 'scheduled' order by at"


def _events(rig: Rig, job_id: Any) -> list[str]:
    # Without 'scheduled': it is dated at the time that was given, and here only the latest is known.
    with psycopg.connect(rig.dsn) as conn:
        return [row[0] for row in conn.execute(_OURS if rig.ours else _THEIRS, [job_id])]


async def _run(rig: Rig, worker: int, end: jobs.Status | None) -> Any:
    """The id of the next job, which ends so; None leaves it running."""
    job = await rig.manager.fetch_job(queues=None, worker_id=worker)
    assert job is not None
    if end is not None:
        await rig.manager.finish_job(job, status=end, delete_job=False)
    return job


async def test_a_job_that_failed_and_was_retried_by_hand_shows_both(rig: Rig) -> None:
    job_id = await rig.task().defer_async()
    worker = await rig.manager.register_worker()
    await _run(rig, worker, jobs.Status.FAILED)
    assert _events(rig, job_id) == ["deferred", "started", "failed"]

    await rig.manager.retry_job_by_id_async(job_id, retry_at=datetime.now(UTC))
    assert _events(rig, job_id) == ["deferred", "started", "failed", "retried"]
    await _run(rig, worker, jobs.Status.SUCCEEDED)

    assert _events(rig, job_id) == ["deferred", "started", "failed", "retried", "started", "succeeded"]


async def test_retries_by_a_strategy_are_no_failures(rig: Rig) -> None:
    job_id = await rig.task().defer_async()
    worker = await rig.manager.register_worker()
    for _ in range(2):
        await rig.manager.retry_job(await _run(rig, worker, None))
    await _run(rig, worker, jobs.Status.FAILED)

    assert _events(rig, job_id) == [
        "deferred", "started", "deferred_for_retry", "started", "deferred_for_retry", "started", "failed",
    ]  # fmt: skip


async def test_a_retry_that_was_cancelled_shows_both(rig: Rig) -> None:
    job_id = await rig.task(lock="l").defer_async()
    worker = await rig.manager.register_worker()
    job = await _run(rig, worker, None)
    await rig.manager.retry_job(job, retry_at=datetime.now(UTC) + timedelta(hours=1))
    await rig.manager.cancel_job_by_id_async(job_id)

    assert _events(rig, job_id) == ["deferred", "started", "deferred_for_retry", "cancelled"]


async def test_what_was_asked_to_stop_and_retried_has_failed(rig: Rig) -> None:
    job_id = await rig.task().defer_async()
    worker = await rig.manager.register_worker()
    job = await _run(rig, worker, None)
    await rig.manager.cancel_job_by_id_async(job_id, abort=True)
    await rig.manager.retry_job(job)

    assert _events(rig, job_id) == ["deferred", "started", "abort_requested", "failed"]


async def test_each_end_is_an_event(rig: Rig) -> None:
    worker = await rig.manager.register_worker()
    note = rig.task()
    for end in (jobs.Status.SUCCEEDED, jobs.Status.ABORTED):
        job_id = await note.defer_async()
        await _run(rig, worker, end)
        assert _events(rig, job_id) == ["deferred", "started", end.value]
    job_id = await note.defer_async()
    await rig.manager.cancel_job_by_id_async(job_id)
    assert _events(rig, job_id) == ["deferred", "cancelled"]
