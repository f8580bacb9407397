"""runner.errors(): what goes wrong as an async iterator that never slows a handler."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobrunner import App, Backoff, Context, Event, Job, Runner
from jobrunner.errors import ConfigError, InvalidArguments
from tests.conftest import Connection
from tests.worker.rig import within

FAST: dict[str, Any] = {"lease": "3s", "poll": "100ms", "grace": "2s"}
ONCE = Backoff(attempts=1)


class Placed(Event, name="order.placed"):
    n: int


async def test_every_kind_of_error_comes_with_its_job_and_event(dsn: str, conn: Connection) -> None:
    app = App("shop")

    @app.task(retry=ONCE)
    async def raises(ctx: Context) -> None:
        raise ValueError("a")

    @app.task(retry=ONCE, timeout="10ms")
    async def slow(ctx: Context) -> None:
        await asyncio.sleep(60)

    @app.task(retry=ONCE, timeout="10ms")
    def slow_thread(ctx: Context) -> None:
        while not ctx.cancelled:
            pass

    @app.task(retry=ONCE)
    def picky(ctx: Context, n: int) -> None: ...

    @app.on(Placed, retry=ONCE)
    def handler(ctx: Context, event: Placed) -> None:
        raise KeyError(event.n)

    found: dict[str, Any] = {}
    async with Runner(app, dsn, **FAST) as runner:
        errors = runner.errors()
        app.enqueue_many(conn, [raises.job(), slow.job(), slow_thread.job(), Job("shop.picky", {"n": "x"})])
        app.publish(conn, Placed(n=5))

        async def read() -> None:
            async for job, event, exception in errors:
                found[job.task] = (event and event.type, type(exception))
                if len(found) == 5:
                    break

        await within(10, read())

    assert found == {
        "shop.raises": (None, ValueError),
        "shop.slow": (None, TimeoutError),
        "shop.slow_thread": (None, TimeoutError),
        "shop.picky": (None, InvalidArguments),
        "shop.handler": ("order.placed", KeyError),
    }


async def test_a_full_buffer_drops_the_oldest_and_counts_it(dsn: str, conn: Connection) -> None:
    app = App("shop")

    @app.task(retry=ONCE)
    async def raises(ctx: Context, n: int) -> None:
        raise ValueError(n)

    async with Runner(app, dsn, **FAST, slots=1) as runner:
        few, all_ = runner.errors(buffer=3), runner.errors()
        app.enqueue_many(conn, [raises.job(n) for n in range(10)])
        await runner.wait_idle(10)

    assert [exception.args[0] async for _, _, exception in few] == [7, 8, 9]
    assert few.dropped == 7
    assert [exception.args[0] async for _, _, exception in all_] == list(range(10))
    assert all_.dropped == 0


async def test_it_ends_with_its_runner(dsn: str) -> None:
    app = App("shop")

    @app.task
    async def nothing(ctx: Context) -> None: ...

    async with Runner(app, dsn, **FAST) as runner:
        waiting = asyncio.create_task(_read(runner.errors()))
        with pytest.raises(ConfigError, match="buffer"):
            runner.errors(buffer=0)

    assert await within(5, waiting) == []
    assert await within(5, _read(runner.errors())) == [], "it has stopped"


async def _read(errors: Any) -> list[Any]:
    return [error async for error in errors]
