"""An app on one of the two connectors, its workers, and what both sides of a comparison are asked."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import procrastinate
import psycopg
import pytest
from procrastinate import builtin_tasks, jobs, manager

from jobrunner.worker.app import App
from jobrunner.worker.runner import Runner
from tests.support import eventually


def fresh_app(connector: Any, **options: Any) -> procrastinate.App:
    """An app whose builtin task has its own name: each further app of a process puts another `builtin:` before it."""
    builtin_tasks.builtin.tasks = {_BUILTIN: builtin_tasks.remove_old_jobs}
    builtin_tasks.remove_old_jobs.name = _BUILTIN
    return procrastinate.App(connector=connector, **options)


_BUILTIN = "procrastinate.builtin_tasks.remove_old_jobs"


def _takes_connection(call: Any) -> bool:
    return "connection" in inspect.signature(call).parameters


defers_on_connections = pytest.mark.skipif(
    not _takes_connection(jobs.JobDeferrer), reason="procrastinate has configure(connection=) since 3.8"
)
manages_on_connections = pytest.mark.skipif(
    not _takes_connection(manager.JobManager.get_job_status),
    reason="procrastinate cancels and reads on a connection of its caller since 3.10",
)


class Rig:
    """One app; `ran` is what its tasks did, in order."""

    def __init__(self, app: procrastinate.App, kind: str, dsn: str) -> None:
        self.app, self.kind, self.dsn = app, kind, dsn
        self.manager = app.job_manager
        self.ran: list[Any] = []
        self._workers: list[asyncio.Task[None]] = []

    @property
    def ours(self) -> bool:
        """Whether the tables are jobrunner's."""
        return self.kind == "ours"

    def task(self, **options: Any) -> Any:
        """A task that notes its argument."""

        @self.app.task(name=options.pop("name", "note"), **options)
        async def note(n: Any = None) -> None:
            self.ran.append(n)

        return note

    def start(self, **options: Any) -> asyncio.Task[None]:
        """A worker in the background."""
        options = {"install_signal_handlers": False, "shutdown_graceful_timeout": 2, **options}
        worker = asyncio.create_task(self.app.run_worker_async(**options))
        self._workers.append(worker)
        return worker

    async def drain(self, **options: Any) -> None:
        """A worker until nothing is left."""
        async with asyncio.timeout(20):
            await self.app.run_worker_async(wait=False, install_signal_handlers=False, **options)

    async def stop(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def job(self, job_id: int) -> jobs.Job:
        """The one job of that id."""
        (found,) = await self.manager.list_jobs_async(id=job_id)
        return found

    async def status(self, job_id: int) -> str:
        """In the words of procrastinate."""
        return (await self.manager.get_job_status_async(job_id)).value

    async def until(self, job_id: int, status: str) -> None:
        """Returns once the job has that status."""

        async def there() -> bool:
            return await self.status(job_id) == status

        seen: Any = there
        await eventually(seen, what=f"job {job_id} {status}")


class RunnerRig(Rig):
    """Its worker is a Runner. What a worker is told by an option, a runner reads from the app's worker_defaults."""

    def runner(self, **options: Any) -> Runner:
        """One that is not started."""
        app = App("mine")
        self.app.worker_defaults = {**self.app.worker_defaults, **options}  # type: ignore[typeddict-item]
        app.include(self.app)
        grace = options.get("shutdown_graceful_timeout", 2)
        return Runner(app, self.dsn, queues=options.get("queues"), slots=options.get("concurrency", 1), grace=grace)

    def start(self, **options: Any) -> asyncio.Task[None]:
        """A runner in the background."""
        runner = self.runner(**options)

        async def until_cancelled() -> None:
            async with runner:
                await asyncio.Event().wait()

        worker = asyncio.create_task(until_cancelled())
        self._workers.append(worker)
        return worker

    async def drain(self, **options: Any) -> None:
        """A runner until nothing is left for it."""
        async with self.runner(**options) as runner:
            if (queues := options.get("queues")) is None:
                await runner.wait_idle(20)
                return
            with psycopg.connect(self.dsn, autocommit=True) as conn:
                left = "select 1 from jobrunner.jobs where queue = any (%s) and state <> 'dead'"
                await eventually(lambda: conn.execute(left, [queues]).fetchone() is None)
