"""drain BATCH MOST MS: drains pgqueuer's queue, at most so many at once (0: no limit), each for that long. enqueue JOBS CHUNK:
fills it and prints the seconds. stamps JOBS: says "ready", runs that many jobs, and prints when each started.

The database is found through PGHOST and its kind.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg  # type: ignore[import-not-found]
import uvloop  # type: ignore[import-not-found, unused-ignore]
from pgqueuer import PgQueuer  # type: ignore[import-not-found]
from pgqueuer.db import AsyncpgDriver  # type: ignore[import-not-found]
from pgqueuer.models import Job  # type: ignore[import-not-found]
from pgqueuer.queries import Queries  # type: ignore[import-not-found]
from pgqueuer.types import QueueExecutionMode  # type: ignore[import-not-found]


async def drain(batch_size: int, most: int, milliseconds: int) -> None:
    connection = await asyncpg.connect()
    worker = PgQueuer(AsyncpgDriver(connection))

    @worker.entrypoint("noop")  # type: ignore[untyped-decorator]
    async def noop(job: Job) -> None:
        json.loads(job.payload)["n"]
        if milliseconds:
            await asyncio.sleep(milliseconds / 1000)

    await worker.run(batch_size=batch_size, max_concurrent_tasks=most, mode=QueueExecutionMode.drain)
    await connection.close()


async def enqueue(jobs: int, chunk: int) -> None:
    connection = await asyncpg.connect()
    queries = Queries(AsyncpgDriver(connection))
    numbers = list(range(jobs))
    began = time.perf_counter()
    async with connection.transaction():
        for start in range(0, jobs, chunk):
            payloads = [json.dumps({"n": n}).encode() for n in numbers[start : start + chunk]]
            await queries.enqueue(["noop"] * len(payloads), payloads, [0] * len(payloads))
    print(time.perf_counter() - began)
    await connection.close()


async def stamps(jobs: int) -> None:
    connection = await asyncpg.connect()
    worker = PgQueuer(AsyncpgDriver(connection))
    seen: list[tuple[int, float]] = []

    @worker.entrypoint("stamp")  # type: ignore[untyped-decorator]
    async def stamp(job: Job) -> None:
        at = time.monotonic()
        seen.append((json.loads(job.payload)["n"], at))
        if len(seen) == jobs:
            worker.shutdown.set()

    print("ready", flush=True)
    await worker.run()
    print(json.dumps(seen))
    await connection.close()


COMMANDS: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {"drain": drain, "enqueue": enqueue, "stamps": stamps}
uvloop.run(COMMANDS[sys.argv[1]](*(int(number) for number in sys.argv[2:])))
