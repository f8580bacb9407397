"""How jobs end: success, failure, retries and their decisions, cancel, abort, deletion, by worker and by hand."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import procrastinate
import pytest
from procrastinate import RetryDecision, exceptions, jobs

from tests.procrastinate.rig import Rig
from tests.support import eventually


async def fetched(rig: Rig, **options: Any) -> tuple[int, jobs.Job]:
    """A worker, and the job that it has fetched."""
    worker = await rig.manager.register_worker()
    job = await rig.manager.fetch_job(queues=options.get("queues"), worker_id=worker)
    assert job is not None
    return worker, job


async def test_a_job_that_succeeds(rig: Rig) -> None:
    job_id = await rig.task().defer_async(n=1)
    worker, job = await fetched(rig)

    assert (job.id, job.status, job.attempts, job.worker_id, job.task_kwargs) == (job_id, "doing", 0, worker, {"n": 1})
    assert await rig.status(job_id) == "doing"
    await rig.manager.finish_job(job, status=jobs.Status.SUCCEEDED, delete_job=False)

    over = await rig.job(job_id)
    assert (over.status, over.attempts, over.queue, over.task_kwargs) == ("succeeded", 1, "default", {"n": 1})


@pytest.mark.parametrize(
    ("status", "lock", "delete"),
    [
        (jobs.Status.SUCCEEDED, None, True),
        (jobs.Status.SUCCEEDED, "l", False),
        (jobs.Status.SUCCEEDED, "l", True),
        (jobs.Status.FAILED, None, True),
        (jobs.Status.FAILED, "l", False),
        (jobs.Status.ABORTED, None, False),
        (jobs.Status.ABORTED, "l", True),
    ],
)
async def test_every_end_is_shown_or_leaves_nothing(
    rig: Rig, status: jobs.Status, lock: str | None, delete: bool
) -> None:
    note = rig.task(lock=lock)
    job_id, behind = await note.batch_defer_async({"n": 1}, {"n": 2})
    worker, job = await fetched(rig)
    await rig.manager.finish_job(job, status=status, delete_job=delete)

    found = [(each.status, each.attempts, each.lock) for each in await rig.manager.list_jobs_async(id=job_id)]
    assert found == ([] if delete else [(status.value, 1, lock)])
    following = await rig.manager.fetch_job(queues=None, worker_id=worker)
    assert following and following.id == behind


async def test_a_job_that_is_over_cannot_end_again(rig: Rig) -> None:
    await rig.task().defer_async()
    _, job = await fetched(rig)
    await rig.manager.finish_job(job, status=jobs.Status.SUCCEEDED, delete_job=False)

    with pytest.raises(exceptions.ConnectorException):
        await rig.manager.finish_job(job, status=jobs.Status.FAILED, delete_job=False)
    with pytest.raises(exceptions.ConnectorException):
        await rig.manager.retry_job(job)
    assert await rig.status(int(job.id or 0)) == "succeeded"


async def test_a_failing_task_is_tried_again_as_often_as_it_says(rig: Rig) -> None:
    @rig.app.task(name="flaky", retry=3, pass_context=True)
    async def flaky(context: procrastinate.JobContext) -> None:
        rig.ran.append(context.job.attempts)
        raise ValueError("no")

    job_id = await flaky.defer_async()
    await rig.drain()

    job = await rig.job(job_id)
    assert (rig.ran, job.status, job.attempts) == ([0, 1, 2, 3], "failed", 4)


async def test_a_strategy_says_how_long_to_wait(rig: Rig) -> None:
    @rig.app.task(name="flaky", retry=procrastinate.RetryStrategy(max_attempts=2, wait=3600))
    async def flaky() -> None:
        raise ValueError("no")

    job_id = await flaky.defer_async()
    await rig.drain()

    job = await rig.job(job_id)
    due = job.scheduled_at
    assert (job.status, job.attempts) == ("todo", 1)
    assert due and timedelta(minutes=59) < due - datetime.now(UTC) <= timedelta(minutes=60)


async def test_a_decision_moves_the_job(rig: Rig) -> None:
    class Move(procrastinate.BaseRetryStrategy):
        def get_retry_decision(self, *, exception: BaseException, job: jobs.Job) -> RetryDecision | None:
            return RetryDecision(priority=9, queue="slow", lock="other") if job.attempts == 0 else None

    @rig.app.task(name="mover", retry=Move(), lock="first")
    async def mover() -> None:
        raise ValueError("no")

    job_id = await mover.defer_async()
    await rig.drain(queues=["default"])

    job = await rig.job(job_id)
    assert (job.status, job.priority, job.queue, job.lock, job.attempts) == ("todo", 9, "slow", "other", 1)
    await rig.drain(queues=["slow"])
    assert (await rig.status(job_id)) == "failed"


async def test_a_new_lock_lets_the_next_of_the_old_one_go(rig: Rig) -> None:
    first, second = await rig.task(lock="l").batch_defer_async({"n": 1}, {"n": 2})
    worker, job = await fetched(rig)

    await rig.manager.retry_job(job, lock="m")

    got = [await rig.manager.fetch_job(queues=None, worker_id=worker) for _ in range(3)]
    assert {each.id for each in got if each} == {first, second}
    assert {each.lock for each in got if each} == {"l", "m"}


async def test_a_job_that_gets_a_lock_waits_for_it(rig: Rig) -> None:
    note = rig.task()
    free = await note.defer_async(n=1)
    worker, job = await fetched(rig)
    held = await note.configure(lock="l").defer_async(n=2)
    holder = await rig.manager.fetch_job(queues=None, worker_id=worker)
    assert holder and (job.id, holder.id) == (free, held)

    await rig.manager.retry_job(job, lock="l")

    assert await rig.manager.fetch_job(queues=None, worker_id=worker) is None
    await rig.manager.finish_job(holder, status=jobs.Status.SUCCEEDED, delete_job=False)
    again = await rig.manager.fetch_job(queues=None, worker_id=worker)
    assert again and (again.id, again.lock, again.attempts) == (free, "l", 1)


async def test_a_failed_job_is_tried_again_by_hand(rig: Rig) -> None:
    job_id = await rig.task().defer_async()
    worker, job = await fetched(rig)
    await rig.manager.finish_job(job, status=jobs.Status.FAILED, delete_job=False)

    await rig.manager.retry_job(job, priority=4, queue="again", lock="l")

    back = await rig.job(job_id)
    assert (back.status, back.priority, back.queue, back.lock) == ("todo", 4, "again", "l")
    again = await rig.manager.fetch_job(queues=["again"], worker_id=worker)
    assert again and again.id == job_id


async def test_a_failed_job_may_be_tried_again_later(rig: Rig) -> None:
    job_id = await rig.task().defer_async()
    worker, job = await fetched(rig)
    await rig.manager.finish_job(job, status=jobs.Status.FAILED, delete_job=False)
    later = datetime.now(UTC) + timedelta(hours=1)

    await rig.manager.retry_job_by_id_async(job_id, retry_at=later)

    assert (await rig.job(job_id)).scheduled_at == later
    assert await rig.manager.fetch_job(queues=None, worker_id=worker) is None


async def test_only_what_runs_or_failed_can_be_tried_again(rig: Rig) -> None:
    job_id = await rig.task().defer_async()

    with pytest.raises(exceptions.ConnectorException):
        await rig.manager.retry_job_by_id_async(job_id, retry_at=datetime.now(UTC))
    with pytest.raises(exceptions.ConnectorException):
        await rig.manager.retry_job_by_id_async(job_id + 1000, retry_at=datetime.now(UTC))


async def test_what_waits_is_cancelled(rig: Rig) -> None:
    note = rig.task()
    job_id = await note.defer_async(n=1)

    assert await rig.manager.cancel_job_by_id_async(job_id)
    assert not await rig.manager.cancel_job_by_id_async(job_id)
    assert await rig.status(job_id) == "cancelled"
    await rig.drain()
    assert rig.ran == []


async def test_a_cancelled_job_may_be_deleted(rig: Rig) -> None:
    job_id = await rig.task().configure(schedule_in={"hours": 1}).defer_async()

    assert await rig.manager.cancel_job_by_id_async(job_id, delete_job=True)
    assert list(await rig.manager.list_jobs_async()) == []


async def test_the_next_of_a_lock_runs_when_the_first_is_cancelled(rig: Rig) -> None:
    first, second, third = await rig.task(lock="l").batch_defer_async({"n": 1}, {"n": 2}, {"n": 3})
    worker, job = await fetched(rig)
    await rig.manager.retry_job(job)  # it waits, and has its lock

    await rig.manager.cancel_job_by_id_async(first)
    await rig.manager.cancel_job_by_id_async(second)

    following = await rig.manager.fetch_job(queues=None, worker_id=worker)
    assert following and following.id == third


async def test_what_runs_is_not_cancelled_without_abort(rig: Rig) -> None:
    job_id = await rig.task().defer_async()
    await fetched(rig)

    assert not await rig.manager.cancel_job_by_id_async(job_id)
    assert list(await rig.manager.list_jobs_to_abort_async()) == []
    assert not await rig.manager.cancel_job_by_id_async(job_id + 1000, abort=True)


async def test_what_runs_is_asked_to_stop(rig: Rig) -> None:
    job_id = await rig.task(queue="q").defer_async()
    _, job = await fetched(rig)

    assert await rig.manager.cancel_job_by_id_async(job_id, abort=True)

    asked = await rig.job(job_id)
    assert (asked.status, asked.abort_requested) == ("doing", True)
    assert list(await rig.manager.list_jobs_to_abort_async()) == [job_id]
    assert list(await rig.manager.list_jobs_to_abort_async(queue="q")) == [job_id]
    assert list(await rig.manager.list_jobs_to_abort_async(queue="other")) == []
    await rig.manager.finish_job(job, status=jobs.Status.ABORTED, delete_job=False)
    over = await rig.job(job_id)
    assert (over.status, over.abort_requested, over.attempts) == ("aborted", False, 1)
    assert list(await rig.manager.list_jobs_to_abort_async()) == []


async def test_what_was_asked_to_stop_is_not_tried_again(rig: Rig) -> None:
    job_id = await rig.task().defer_async()
    _, job = await fetched(rig)
    await rig.manager.cancel_job_by_id_async(job_id, abort=True)

    await rig.manager.retry_job(job)

    assert await rig.status(job_id) == "failed"
    with contextlib.nullcontext() if rig.ours else pytest.raises(exceptions.ConnectorException):
        await rig.manager.retry_job_by_id_async(job_id, retry_at=datetime.now(UTC))


async def test_an_async_task_is_cancelled_by_an_abort(rig: Rig) -> None:
    started = asyncio.Event()

    @rig.app.task(name="endless")
    async def endless() -> None:
        started.set()
        await asyncio.Event().wait()

    job_id = await endless.defer_async()
    rig.start(abort_job_polling_interval=1)
    await asyncio.wait_for(started.wait(), 10)
    await rig.manager.cancel_job_by_id_async(job_id, abort=True)

    await rig.until(job_id, "aborted")


async def test_an_abort_is_heard_by_polling_where_nobody_listens(rig: Rig) -> None:
    started = asyncio.Event()

    @rig.app.task(name="endless")
    async def endless() -> None:
        started.set()
        await asyncio.Event().wait()

    job_id = await endless.defer_async()
    rig.start(abort_job_polling_interval=0.02, listen_notify=False)
    await asyncio.wait_for(started.wait(), 10)
    await rig.manager.cancel_job_by_id_async(job_id, abort=True)

    await rig.until(job_id, "aborted")


async def test_a_sync_task_asks_whether_to_stop(rig: Rig) -> None:
    started = threading.Event()

    @rig.app.task(name="patient", pass_context=True)
    def patient(context: procrastinate.JobContext) -> None:
        started.set()
        while not context.should_abort():
            threading.Event().wait(0.002)
        raise exceptions.JobAborted

    job_id = await patient.defer_async()
    rig.start(abort_job_polling_interval=1)
    await eventually(started.is_set)
    await rig.manager.cancel_job_by_id_async(job_id, abort=True)

    await rig.until(job_id, "aborted")


@pytest.mark.parametrize("delete", ["never", "successful", "always"])
async def test_a_worker_deletes_what_it_is_told_to(rig: Rig, delete: str) -> None:
    @rig.app.task(name="bad")
    async def bad() -> None:
        raise ValueError("no")

    await rig.task().defer_async()
    await rig.task(name="locked", lock="l").defer_async()
    await bad.defer_async()

    await rig.drain(delete_jobs=delete)

    left = {"never": ["failed", "succeeded", "succeeded"], "successful": ["failed"], "always": []}[delete]
    assert sorted(str(job.status) for job in await rig.manager.list_jobs_async()) == left


async def test_old_jobs_are_removed(rig: Rig) -> None:
    @rig.app.task(name="bad")
    async def bad() -> None:
        raise ValueError("no")

    await rig.task(queue="a").defer_async()
    await rig.task(name="note2", queue="b").defer_async()
    await bad.configure(queue="a").defer_async()
    await rig.manager.cancel_job_by_id_async(await rig.task(name="note3", queue="a").defer_async())
    await rig.drain()

    async def left() -> list[str]:
        return sorted(f"{job.queue} {job.status}" for job in await rig.manager.list_jobs_async())

    await rig.manager.delete_old_jobs(nb_hours=1)
    assert len(await left()) == 4
    await rig.manager.delete_old_jobs(nb_hours=0, queue="a")
    assert await left() == ["a cancelled", "a failed", "b succeeded"]
    await rig.manager.delete_old_jobs(nb_hours=0, include_failed=True, include_cancelled=True, include_aborted=True)
    assert await left() == []


async def test_the_builtin_task_removes_old_jobs(rig: Rig) -> None:
    await rig.task().defer_async()
    await rig.drain()
    await rig.app.configure_task("procrastinate.builtin_tasks.remove_old_jobs").defer_async(max_hours=0)
    await rig.drain()

    assert [job.task_name.rpartition(".")[2] for job in await rig.manager.list_jobs_async()] == ["remove_old_jobs"]
