"""A task cannot tell which worker runs it: each test runs under procrastinate's on its own tables, and under our runner."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import procrastinate
import pytest
from procrastinate import RetryDecision, exceptions, jobs
from procrastinate.job_context import AbortReason

from tests.procrastinate.rig import Rig, RunnerRig, fresh_app
from tests.support import eventually


@pytest.fixture
async def rig(kind: str, dsn: str, make_connector: Callable[..., Any]) -> AsyncIterator[Rig]:
    app = fresh_app(make_connector(min_size=1, max_size=6))
    async with app.open_async():
        made = (RunnerRig if kind == "ours" else Rig)(app, kind, dsn)
        try:
            yield made
        finally:
            await made.stop()


@pytest.mark.parametrize("sync", [False, True])
async def test_the_context_tells_all_of_the_job(rig: Rig, sync: bool) -> None:
    def look(context: procrastinate.JobContext, n: int) -> None:
        job = context.job
        rig.ran.append(
            (job.task_name, job.task_kwargs, job.queue, job.priority, job.lock, job.queueing_lock, job.status)
        )
        rig.ran.append((job.id, job.attempts, job.scheduled_at, job.abort_requested, n, context.task.name))
        rig.ran.append((context.app is rig.app, context.worker_name, list(context.worker_queues or []), sync))
        rig.ran.append(
            (context.additional_context.copy(), context.should_abort(), context.abort_reason(), job.worker_id is None)
        )
        context.additional_context["dirty"] = True

    async def look_async(context: procrastinate.JobContext, n: int) -> None:
        look(context, n)

    task = rig.app.task(name="look", pass_context=True, lock="l", queueing_lock="q", queue="some", priority=7)(
        look if sync else look_async
    )
    ids = [await task.defer_async(n=1)]
    options: dict[str, Any] = {"queues": ["some"], "name": "its name", "additional_context": {"x": 1}}
    await rig.drain(**options)
    ids.append(await task.defer_async(n=2))
    await rig.drain(**options)

    for n in (1, 2):
        told, stamps, worker, rest = rig.ran[:4]
        del rig.ran[:4]
        assert told == ("look", {"n": n}, "some", 7, "l", "q", "doing")
        assert (stamps[0], stamps[1], *stamps[3:]) == (ids[n - 1], 0, False, n, "look")
        assert worker == (True, "its name", ["some"], sync)
        assert rest == ({"x": 1}, False, None, False)


@pytest.mark.parametrize("sync", [False, True])
async def test_middlewares_are_nested_as_their_kinds_say(rig: Rig, sync: bool) -> None:
    if not hasattr(procrastinate, "middleware"):
        pytest.skip("this procrastinate has no middleware")

    def noting(name: str) -> Any:
        def around(call_next: Any, context: Any, worker: Any) -> Any:
            rig.ran.append((name, context.job.task_kwargs["n"], worker.concurrency))
            try:
                return call_next()
            finally:
                rig.ran.append(f"after {name}")

        return around

    def noting_async(name: str) -> Any:
        async def around(label: str, call_next: Any, context: Any, worker: Any) -> Any:
            rig.ran.append((label, context.job.task_kwargs["n"], worker.concurrency))
            try:
                return await call_next()
            finally:
                rig.ran.append(f"after {label}")

        return functools.partial(around, name)

    def run(n: int) -> None:
        rig.ran.append((n, threading.current_thread() is threading.main_thread()))

    async def run_async(n: int) -> None:
        run(n)

    own = noting("own") if sync else noting_async("own")
    await rig.app.task(name="t", task_middleware=[own])(run if sync else run_async).defer_async(n=5)
    wide: list[Any] = [noting("sync"), noting_async("async")]
    await rig.drain(worker_middleware=[noting_async("job")], task_middleware=wide, concurrency=3)

    around = "sync" if sync else "async"
    assert rig.ran == [
        ("job", 5, 3), (around, 5, 3), ("own", 5, 3), (5, not sync), "after own", f"after {around}", "after job",
    ]  # fmt: skip


async def test_a_middleware_that_swallows_or_raises_decides_how_the_job_ends(rig: Rig) -> None:
    if not hasattr(procrastinate, "middleware"):
        pytest.skip("this procrastinate has no middleware")

    async def forgive(call_next: Any, context: Any, worker: Any) -> Any:
        try:
            await call_next()
        except ValueError:
            return
        raise KeyError("too good")

    @rig.app.task(name="bad", task_middleware=[forgive])
    async def bad() -> None:
        raise ValueError("no")

    @rig.app.task(name="good", task_middleware=[forgive])
    async def good() -> None:
        pass

    ids = [await bad.defer_async(), await good.defer_async()]
    await rig.drain()

    assert [await rig.status(job_id) for job_id in ids] == ["succeeded", "failed"]


class Leaving(BaseException):
    """What no handler should raise."""


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize(
    ("error", "retry", "status", "attempts"),
    [
        (ValueError("no"), False, "failed", 1),
        (ValueError("no"), 1, "failed", 2),
        (ValueError("no"), procrastinate.RetryStrategy(max_attempts=3, retry_exceptions=[KeyError]), "failed", 1),
        (KeyError("no"), procrastinate.RetryStrategy(max_attempts=1, retry_exceptions=[KeyError]), "failed", 2),
        (exceptions.JobAborted(), 3, "aborted", 1),
        (asyncio.CancelledError(), False, "aborted", 1),
        (StopIteration(), False, "failed", 1),
    ],
    ids=repr,
)
async def test_an_error_means_what_it_means_there(
    rig: Rig, error: BaseException, retry: Any, status: str, attempts: int, sync: bool
) -> None:
    if sync and isinstance(error, StopIteration) and not rig.ours:
        pytest.skip("procrastinate's worker never ends such a job: a future cannot carry it")

    def fail() -> None:
        raise error

    async def fail_async() -> None:
        raise error

    job_id = await rig.app.task(name="fail", retry=retry)(fail if sync else fail_async).defer_async()
    await rig.drain()

    job = await rig.job(job_id)
    assert (job.status, job.attempts) == (status, attempts)


async def test_arguments_that_do_not_fit_are_an_error_of_the_call(rig: Rig) -> None:
    job_id = await rig.task(retry=1).defer_async(other=1)
    await rig.drain()

    job = await rig.job(job_id)
    assert (job.status, job.attempts) == ("failed", 2)


async def test_a_sync_task_may_give_an_awaitable_back(rig: Rig) -> None:
    async def later(n: int) -> None:
        rig.ran.append(n)

    @rig.app.task(name="late")
    def late(n: int) -> Any:
        return later(n)

    job_id = await late.defer_async(n=4)
    await rig.drain()

    assert (rig.ran, await rig.status(job_id)) == ([4], "succeeded")


@pytest.mark.parametrize("lock", ["l", None])
async def test_a_decision_may_change_one_thing_and_come_back_at_once(rig: Rig, lock: str | None) -> None:
    class Climb(procrastinate.BaseRetryStrategy):
        def get_retry_decision(self, *, exception: BaseException, job: jobs.Job) -> RetryDecision | None:
            steps = [RetryDecision(priority=5), RetryDecision(queue="b"), RetryDecision(lock="m"), None]
            return steps[job.attempts]

    @rig.app.task(name="climb", retry=Climb(), pass_context=True, lock=lock)
    async def climb(context: procrastinate.JobContext) -> None:
        rig.ran.append((context.job.priority, context.job.queue, context.job.lock, context.job.attempts))
        raise ValueError("no")

    job_id = await climb.defer_async()
    await rig.task(lock=lock, priority=-1).defer_async(n="behind")
    await rig.drain()

    told = [(0, "default", lock, 0), (5, "default", lock, 1), (5, "b", lock, 2), (5, "b", "m", 3)]
    assert [each for each in rig.ran if each != "behind"] == told
    assert "behind" in rig.ran
    assert await rig.status(job_id) == "failed"


@pytest.mark.parametrize("raises", [True, False])
async def test_a_sync_task_that_is_asked_to_stop_ends_as_it_likes(rig: Rig, raises: bool) -> None:
    started, seen = threading.Event(), list[Any]()

    @rig.app.task(name="patient", pass_context=True)
    def patient(context: procrastinate.JobContext) -> None:
        started.set()
        while not context.should_abort():
            threading.Event().wait(0.002)
        seen.append(context.abort_reason())
        if raises:
            raise exceptions.JobAborted

    job_id = await patient.defer_async()
    rig.start(abort_job_polling_interval=0.02)
    await eventually(started.is_set)
    await rig.manager.cancel_job_by_id_async(job_id, abort=True)

    await rig.until(job_id, "aborted" if raises else "succeeded")
    assert seen == [AbortReason.USER_REQUEST]
