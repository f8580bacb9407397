"""Inline mode: what the code under test enqueues or publishes has run when its call returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from itertools import product
from typing import Any
from unittest.mock import patch

from psycopg import AsyncConnection

from jobrunner.testing.connections import Either
from jobrunner.testing.draining import drain
from jobrunner.testing.results import Run
from jobrunner.worker.app import App

_CALLS = ("enqueue", "enqueue_many", "publish", "publish_many")


@contextmanager
def inline(conn: Either, /, *apps: App, raises: bool = True, limit: int = 1000) -> Iterator[list[Run]]:
    """Inside, each `enqueue` and `publish` of *apps* in this transaction drains before it returns; gives the list of all runs.

    For code that goes on with what its jobs have done, such as a test of several requests in a row. What is not due yet waits for a
    `drain(until=…)`. Note what this cannot show: in production a job starts after the commit, here in the middle of the
    transaction, and sees none of what the code writes after its call. Where that matters, call `drain` where the commit would be.

    A plain `with`, also for an async connection. *raises* and *limit* as of `drain`: a handler's exception comes out of the call.
    """
    runs: list[Run] = []
    is_draining = False

    def drains(call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def instead(on: Either, *args: Any, **options: Any) -> Any:
            nonlocal is_draining
            if is_draining or on.pgconn is not conn.pgconn:  # in a handler: the drain that runs it goes on with this
                return call(on, *args, **options)
            if isinstance(on, AsyncConnection):
                return later(on, call(on, *args, **options))
            answer = call(on, *args, **options)
            is_draining = True
            try:
                runs.extend(drain(on, *apps, raises=raises, limit=limit).runs)
            finally:
                is_draining = False
            return answer

        return instead

    async def later(on: AsyncConnection[Any], calling: Awaitable[Any]) -> Any:
        nonlocal is_draining
        answer = await calling
        is_draining = True
        try:
            runs.extend((await drain(on, *apps, raises=raises, limit=limit)).runs)
        finally:
            is_draining = False
        return answer

    with ExitStack() as patched:
        for app, name in product(apps, _CALLS):
            patched.enter_context(patch.object(app, name, drains(getattr(app, name))))
        yield runs
