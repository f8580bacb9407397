"""An app: what one service declares by name, and the ways in: enqueue one, enqueue many, in the caller's transaction.

Its event side is in `publishing`, `reading`, `subscribing`, `sagas` and `dispatching`.
"""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, Unpack, overload

from psycopg import AsyncConnection, Connection

from jobrunner.errors import ConfigError, UnknownTask
from jobrunner.policy.backoff import Backoff
from jobrunner.policy.durations import duration
from jobrunner.policy.models import Job, Options, check_integer
from jobrunner.store.calls import ENQUEUE, ENQUEUE_MANY, enqueue_many_params, enqueue_params
from jobrunner.worker.bulk import many, many_async
from jobrunner.worker.context import Context, current
from jobrunner.worker.dispatching import Dispatching
from jobrunner.worker.places import check_function
from jobrunner.worker.publishing import Publishing
from jobrunner.worker.reading import Reading
from jobrunner.worker.sagas import Sagas
from jobrunner.worker.statements import one, one_async, will_be_prepared
from jobrunner.worker.subscribing import Subscribing
from jobrunner.worker.task import Task

if TYPE_CHECKING:
    import procrastinate
    from procrastinate import Blueprint

P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """What `app.task(…)` with options gives: it makes a task of the function below it."""

    def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> Task[P, R]:
        """The task."""


class App(Publishing, Reading, Subscribing, Sagas, Dispatching):
    """One service: its tasks and subscriptions. Handlers never need it; whoever enqueues, publishes and runs does."""

    @overload
    def task(self, function: Callable[Concatenate[Context, P], R], /) -> Task[P, R]: ...

    @overload
    def task(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        queue: str = "default",
        priority: int = 0,
        version: int = 1,
        retry: Backoff | None = None,
        timeout: str | float | None = None,
        slots: int | None = None,
        executor: Literal["default", "process"] = "default",
        on_lease_uncertain: Literal["cancel", "continue"] = "cancel",
    ) -> Decorator: ...

    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        queue: str = "default",
        priority: int = 0,
        version: int = 1,
        retry: Backoff | None = None,
        timeout: str | float | None = None,
        slots: int | None = None,
        executor: Literal["default", "process"] = "default",
        on_lease_uncertain: Literal["cancel", "continue"] = "cancel",
    ) -> Any:
        """Register a function as a task, `app.function` unless *name* is given. Its first parameter is the Context.

        *version* is that of its arguments; *timeout* bounds one run (none by default); *slots*: at most so many of its jobs at a
        time in one runner. What waits for such a slot is walked over by others' claims: give the task a queue of its own.
        *executor*: "process" for what computes. Its function, not async and at the top of a module, is imported by a process that
        dies at the timeout and may crash alone; there is no `ctx.transaction()` (see docs/processes.md).

        Raises:
            ConfigError: the name is taken, or the function cannot be a task.
        """

        def register(wrapped: Callable[..., Any]) -> Task[..., Any]:
            full = name or f"{self.name}.{wrapped.__name__}"
            if on_lease_uncertain not in ("cancel", "continue"):
                raise ConfigError(f"on_lease_uncertain of {full}", 'must be "cancel" or "continue"')
            if executor not in ("default", "process"):
                raise ConfigError(f"the executor of {full}", 'must be "default" or "process"')
            if executor == "process":
                check_function(full, wrapped)
            limit = None if timeout is None else duration(timeout, what=f"the timeout of {full}")
            if limit is not None and not limit:
                raise ConfigError(f"the timeout of {full}", "must be longer than zero; leave it out for none")
            Job(full, queue=queue, priority=priority, version=version)
            if slots is not None:
                check_integer(f"the slots of {full}", slots, 1, 10_000)
            made: Task[..., Any] = Task(
                name=full,
                function=wrapped,
                queue=queue,
                priority=priority,
                version=version,
                retry=retry or Backoff(),
                timeout=limit,
                on_lease_uncertain=on_lease_uncertain,
                slots=slots,
                executor=executor,
            )
            self._add(made)
            return made

        return register if function is None else register(function)

    def include(self, blueprint: Blueprint, *, namespace: str | None = None) -> procrastinate.App:
        """Run the tasks of a procrastinate Blueprint, or App, beside this app's own: under the names that they have there, with
        their retry strategies, contexts, middlewares and periodic schedules. *namespace* goes before each name, as in
        `add_tasks_from`. Returns the procrastinate App that they belong to; who defers outside of a runner opens it.

        Tasks that are declared later are not seen. See docs/procrastinate.md.

        Raises:
            ConfigError: a name is taken, or there is nothing to include.
        """
        from jobrunner.procrastinate.including import include  # slow to import, and only who calls this needs it

        return include(self, blueprint, namespace)

    @overload
    def enqueue(self, conn: Connection[Any], job: Job, **options: Unpack[Options]) -> int: ...

    @overload
    def enqueue(self, conn: AsyncConnection[Any], job: Job, **options: Unpack[Options]) -> Awaitable[int]: ...

    def enqueue(
        self, conn: Connection[Any] | AsyncConnection[Any], job: Job, **options: Unpack[Options]
    ) -> int | Awaitable[int]:
        """Write *job* in the caller's transaction and return its id; an awaitable on an async connection.

        Never begins or commits. With a unique key that is taken: the id of the job that has it, and nothing is written.
        Inside a handler the new job is linked to the one that runs. Atomic with everything else in the transaction.

        Raises, before any SQL:
            InvalidJob: names, options or arguments that the database would refuse.
        Raises:
            UnknownTask: the name has this app's prefix and no such task exists.
        """
        self._check(job)
        job = job.using(**options) if options else job
        ctx = current.get()
        params = enqueue_params(
            job,
            notify=not will_be_prepared(conn),
            cause=ctx.job_id or None if ctx else None,
            correlation=ctx.correlation_id if ctx else None,
        )
        if isinstance(conn, AsyncConnection):
            return one_async(conn, ENQUEUE, params)
        return int(one(conn, ENQUEUE, params))

    @overload
    def enqueue_many(
        self, conn: Connection[Any], jobs: Iterable[Job], *, progress: Callable[[int], None] | None = None
    ) -> list[int | None]: ...

    @overload
    def enqueue_many(
        self, conn: AsyncConnection[Any], jobs: Iterable[Job], *, progress: Callable[[int], None] | None = None
    ) -> Awaitable[list[int | None]]: ...

    def enqueue_many(
        self,
        conn: Connection[Any] | AsyncConnection[Any],
        jobs: Iterable[Job],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[int | None] | Awaitable[list[int | None]]:
        """Write *jobs* in the caller's transaction, thousands in one statement; returns their ids in order.

        None stands where a unique key was taken. *progress* is called with how many are written, after each 5,000, while no
        statement is under way. On an autocommit connection without a transaction each 5,000 commit by themselves; in a transaction
        it is all or nothing. While the server writes 5,000, the next are drawn from *jobs*, which may read from *conn*.

        Raises: what `enqueue` raises. Earlier chunks are then written: roll back.
        """
        params = partial(self._many_params, conn)
        if isinstance(conn, AsyncConnection):
            return many_async(conn, ENQUEUE_MANY, jobs, params, progress)
        return many(conn, ENQUEUE_MANY, jobs, params, progress)

    def _many_params(self, conn: Connection[Any] | AsyncConnection[Any], jobs: list[Job]) -> dict[str, Any]:
        for job in jobs:
            self._check(job)
        ctx = current.get()
        return enqueue_many_params(
            jobs,
            notify=not will_be_prepared(conn),
            cause=ctx.job_id or None if ctx else None,
            correlation=ctx.correlation_id if ctx else None,
        )

    def _check(self, job: Job) -> None:
        # Another app's task is another service's business; a wrong name with our own prefix is a mistake.
        if job.task not in self.tasks and job.task.startswith(f"{self.name}."):
            raise UnknownTask(job.task, difflib.get_close_matches(job.task, self.tasks, 3))
