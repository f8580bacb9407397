"""Workers: queues, concurrency, wake-ups, heartbeats, stalled jobs, periodic tasks, context, middleware, shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import procrastinate
import psycopg
import pytest
from procrastinate import exceptions, jobs

from tests.procrastinate.rig import Rig
from tests.support import eventually


async def test_a_worker_takes_its_queues_only(rig: Rig) -> None:
    note = rig.task()
    for queue in ("a", "b", "c", "a"):
        await note.configure(queue=queue).defer_async(n=queue)

    await rig.drain(queues=["a", "c"])

    assert sorted(rig.ran) == ["a", "a", "c"]


async def test_a_worker_runs_as_many_at_a_time_as_it_may(rig: Rig) -> None:
    gate, running = asyncio.Event(), 0

    @rig.app.task(name="wait")
    async def wait() -> None:
        nonlocal running
        running += 1
        await gate.wait()

    await wait.batch_defer_async({}, {}, {}, {})
    rig.start(concurrency=3)
    await eventually(lambda: running == 3)
    assert len(list(await rig.manager.list_jobs_async(status="doing"))) == 3
    gate.set()
    await eventually(lambda: running == 4)


async def test_sync_tasks_run_and_defer_from_their_threads(rig: Rig) -> None:
    note = rig.task()

    @rig.app.task(name="sync")
    def sync(n: int) -> None:
        note.defer(n=n)

    await sync.defer_async(n=7)
    await rig.drain()

    assert rig.ran == [7]


async def test_a_job_reaches_an_idle_worker_without_polling(rig: Rig) -> None:
    note = rig.task()
    # procrastinate loses a notification that comes while it fetches: its worker polls, then.
    rig.start(fetch_job_polling_interval=60 if rig.ours else 1)
    await note.defer_async(n=0)
    await eventually(lambda: rig.ran == [0])
    for n in range(1, 4):
        await note.configure(queue=f"q{n}").defer_async(n=n)
        await eventually(lambda: len(rig.ran) == n + 1, deadline=5)  # noqa: B023


async def test_polling_is_enough(rig: Rig) -> None:
    note = rig.task()
    rig.start(listen_notify=False, fetch_job_polling_interval=0.02)
    await note.configure(lock="l").batch_defer_async({"n": 1}, {"n": 2})

    await eventually(lambda: rig.ran == [1, 2])


async def test_a_job_sees_itself(rig: Rig) -> None:
    seen: list[Any] = []

    @rig.app.task(name="self", pass_context=True, aliases=["old.name"])
    async def itself(context: procrastinate.JobContext, n: int) -> None:
        assert context.job.id is not None
        job = await rig.job(context.job.id)
        seen.append((job.status, job.worker_id == context.job.worker_id, context.job.task_kwargs, context.task.name))

    await rig.app.configure_task("old.name").defer_async(n=1)
    await itself.defer_async(n=2)
    await rig.drain()

    assert seen == [("doing", True, {"n": 1}, "self"), ("doing", True, {"n": 2}, "self")]


async def test_middleware_wraps_tasks_and_jobs(rig: Rig) -> None:
    if not hasattr(procrastinate, "middleware"):
        pytest.skip("this procrastinate has no middleware")

    async def around_job(call_next: Any, context: Any, worker: Any) -> Any:
        rig.ran.append("job")
        return await call_next()

    async def around_task(call_next: Any, context: Any, worker: Any) -> Any:
        rig.ran.append("task")
        return await call_next()

    await rig.task().defer_async(n=1)
    await rig.drain(worker_middleware=[around_job], task_middleware=[around_task])

    assert rig.ran == ["job", "task", 1]


async def test_blueprints_have_namespaces(rig: Rig) -> None:
    blueprint = procrastinate.Blueprint()

    @blueprint.task(name="t")
    async def t() -> None:
        rig.ran.append("t")

    rig.app.add_tasks_from(blueprint, namespace="shop")
    job_id = await t.defer_async()
    await rig.drain()

    assert ((await rig.job(job_id)).task_name, rig.ran) == ("shop:t", ["t"])


async def test_a_periodic_task_is_deferred_once_a_tick(rig: Rig) -> None:
    @rig.app.periodic(cron="* * * * * */1", periodic_id="first")
    @rig.app.task(name="tick", queueing_lock="tick", pass_context=False)
    async def tick(timestamp: int) -> None:
        rig.ran.append(timestamp)

    rig.start()
    rig.start()
    await eventually(lambda: len(rig.ran) >= 2)

    assert len(rig.ran) == len(set(rig.ran))


async def test_a_task_has_several_schedules_with_arguments(rig: Rig) -> None:
    @rig.app.task(name="do", lock="common")
    async def do(timestamp: int, value: int) -> None:
        rig.ran.append(value)

    for value, queue in ((1, "foo"), (2, "bar")):
        rig.app.periodic(
            cron="* * * * * */1", queue=queue, priority=value, task_kwargs={"value": value}, periodic_id=queue
        )(do)
    rig.start(queues=["foo", "bar"])
    await eventually(lambda: {1, 2} <= set(rig.ran))

    found = {(j.queue, j.priority, j.task_kwargs["value"], j.lock) for j in await rig.manager.list_jobs_async()}
    assert found == {("foo", 1, 1, "common"), ("bar", 2, 2, "common")}


async def test_one_of_many_workers_defers_a_tick(rig: Rig) -> None:
    task = rig.task(name="tick")
    job = task.configure(task_kwargs={"timestamp": 1000}).job

    ids = await asyncio.gather(*(rig.manager.defer_periodic_job(job, "p", 1000) for _ in range(4)))
    other = await rig.manager.defer_periodic_job(job, "another", 1000)
    with pytest.raises(exceptions.InvalidTimestamp):
        await rig.manager.defer_periodic_job(job, "p", 2000)
    following = task.configure(task_kwargs={"timestamp": 1060}).job

    assert len([job_id for job_id in ids if job_id is not None]) == 1
    assert other is not None
    assert await rig.manager.defer_periodic_job(following, "p", 1060) is not None
    assert {tuple(j.task_kwargs.items()) for j in await rig.manager.list_jobs_async()} == {
        (("timestamp", 1000),),
        (("timestamp", 1060),),
    }


async def test_a_tick_whose_queueing_lock_is_taken_is_not_marked(rig: Rig) -> None:
    task = rig.task(name="tick")
    waiting = await task.configure(queueing_lock="l").defer_async()
    job = task.configure(task_kwargs={"timestamp": 1000}, queueing_lock="l").job

    with pytest.raises(exceptions.AlreadyEnqueued):
        await rig.manager.defer_periodic_job(job, "p", 1000)
    await rig.manager.cancel_job_by_id_async(waiting)

    assert await rig.manager.defer_periodic_job(job, "p", 1000) is not None


def _age(rig: Rig, worker: int, seconds: int) -> None:
    """As if the worker had been silent for so long."""
    with psycopg.connect(rig.dsn, autocommit=True) as conn:
        if rig.ours:
            conn.execute(
                "update jobrunner.runners set beat_at = now() - %s * interval '1 s' where id = %s", [seconds, worker]
            )
        else:
            conn.execute(
                "update procrastinate_workers set last_heartbeat = now() - %s * interval '1 s' where id = %s",
                [seconds, worker],
            )


def _age_all(rig: Rig, seconds: int) -> None:
    with psycopg.connect(rig.dsn, autocommit=True) as conn:
        workers = conn.execute(
            f"select id from {'jobrunner.runners' if rig.ours else 'procrastinate_workers'}"
        ).fetchall()
    for (worker,) in workers:
        _age(rig, worker, seconds)


async def test_a_task_puts_stalled_jobs_back_as_the_documentation_shows(rig: Rig) -> None:
    @rig.app.task(name="retry_stalled_jobs", queue="maintenance", pass_context=True)
    async def retry_stalled_jobs(context: procrastinate.JobContext) -> None:
        for job in await context.app.job_manager.get_stalled_jobs():
            await context.app.job_manager.retry_job(job)

    job_id = await rig.task().defer_async(n=1)
    dead = await rig.manager.register_worker()
    await rig.manager.fetch_job(queues=None, worker_id=dead)
    await retry_stalled_jobs.defer_async()
    _age(rig, dead, 60)

    await rig.drain(queues=["maintenance"])
    assert await rig.status(job_id) == "todo"
    await rig.drain()
    assert rig.ran == [1]


async def test_jobs_of_a_silent_worker_are_stalled_and_can_be_put_back(rig: Rig) -> None:
    note = rig.task(queue="q")
    job_id = await note.defer_async(n=1)
    worker = await rig.manager.register_worker()
    await rig.manager.fetch_job(queues=None, worker_id=worker)
    assert list(await rig.manager.get_stalled_jobs()) == []
    _age(rig, worker, 60)

    (stalled,) = await rig.manager.get_stalled_jobs(queue="q", task_name="note")
    assert (stalled.id, stalled.status, stalled.worker_id) == (job_id, "doing", worker)
    assert list(await rig.manager.get_stalled_jobs(queue="other")) == []
    assert list(await rig.manager.get_stalled_jobs(seconds_since_heartbeat=90)) == []
    await rig.manager.retry_job(stalled)

    await rig.drain()
    assert (rig.ran, await rig.status(job_id)) == ([1], "succeeded")


async def test_a_beat_keeps_a_worker_alive(rig: Rig) -> None:
    await rig.task().defer_async()
    worker = await rig.manager.register_worker()
    await rig.manager.fetch_job(queues=None, worker_id=worker)
    _age(rig, worker, 20)

    await rig.manager.update_heartbeat(worker)

    assert list(await rig.manager.get_stalled_jobs(seconds_since_heartbeat=10)) == []
    assert await rig.manager.prune_stalled_workers(10) == []


async def test_a_task_may_prune_workers(rig: Rig) -> None:
    """As one that puts stalled jobs back does."""
    old = await rig.manager.register_worker()

    @rig.app.task(name="prune")
    async def prune() -> None:
        _age(rig, old, 60)
        rig.ran.append(await rig.manager.prune_stalled_workers(45))

    await prune.defer_async()
    await rig.drain()

    assert rig.ran == [[old]]


async def test_stalled_workers_are_pruned(rig: Rig) -> None:
    old, new = await rig.manager.register_worker(), await rig.manager.register_worker()
    _age(rig, old, 60)

    assert await rig.manager.prune_stalled_workers(45) == [old]
    assert await rig.manager.prune_stalled_workers(45) == []
    await rig.manager.unregister_worker(new)


async def test_a_worker_that_starts_robs_none_that_beats_seldom(rig: Rig) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    @rig.app.task(name="slow")
    async def slow() -> None:
        rig.ran.append("slow")
        started.set()
        if len(rig.ran) == 1:
            await gate.wait()

    job_id = await slow.defer_async()
    rig.start(update_heartbeat_interval=60)
    await asyncio.wait_for(started.wait(), 10)
    _age_all(rig, 50)

    await rig.drain()  # it looks for stalled workers before anything else

    assert (rig.ran, await rig.status(job_id)) == (["slow"], "doing")
    gate.set()
    await rig.until(job_id, "succeeded")


async def test_jobs_that_run_for_long_are_found_by_their_start(rig: Rig) -> None:
    job_id = await rig.task().defer_async()
    worker = await rig.manager.register_worker()
    await rig.manager.fetch_job(queues=None, worker_id=worker)

    with pytest.warns(DeprecationWarning, match="nb_seconds"):
        assert list(await rig.manager.get_stalled_jobs(nb_seconds=60)) == []
    with pytest.warns(DeprecationWarning, match="nb_seconds"):
        (found,) = await rig.manager.get_stalled_jobs(nb_seconds=0)
    assert found.id == job_id


async def test_a_worker_finishes_what_it_runs_before_it_stops(rig: Rig) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    @rig.app.task(name="slow")
    async def slow() -> None:
        started.set()
        await gate.wait()

    job_id = await slow.defer_async()
    worker = rig.start(shutdown_graceful_timeout=10)
    await asyncio.wait_for(started.wait(), 10)
    worker.cancel()
    gate.set()
    await asyncio.gather(worker, return_exceptions=True)

    assert await rig.status(job_id) == "succeeded"


@pytest.mark.parametrize(("retry", "status"), [(False, "aborted"), (True, "todo")])
async def test_a_worker_aborts_what_does_not_end_in_time(rig: Rig, retry: bool, status: str) -> None:
    started = asyncio.Event()

    @rig.app.task(name="endless", retry=retry)
    async def endless() -> None:
        started.set()
        await asyncio.Event().wait()

    job_id = await endless.defer_async()
    worker = rig.start(shutdown_graceful_timeout=0.01)
    await asyncio.wait_for(started.wait(), 10)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)

    assert await rig.status(job_id) == status


async def test_listening_by_hand_hears_of_a_new_job(rig: Rig) -> None:
    heard: list[str] = []
    note = rig.task()

    async def on_notification(*, channel: str, notification: jobs.Notification) -> None:
        heard.append(notification["type"])

    listening = asyncio.create_task(rig.manager.listen_for_jobs(on_notification=on_notification))
    worker = await rig.manager.register_worker()

    async def told() -> bool:
        with contextlib.suppress(exceptions.AlreadyEnqueued):
            await note.configure(queueing_lock=str(time.monotonic())).defer_async()
        await rig.manager.fetch_job(queues=["none"], worker_id=worker)
        return "job_inserted" in heard

    seen: Any = told
    await eventually(seen)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
