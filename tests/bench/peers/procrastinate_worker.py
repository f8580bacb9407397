"""schema: prints procrastinate's schema. drain N MS: drains its queue, N jobs at once, each for that long. enqueue JOBS CHUNK:
fills it and prints the seconds.

The database is found through PGHOST and its kind.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import procrastinate
import uvloop  # type: ignore[import-not-found, unused-ignore]

milliseconds = 0
app = procrastinate.App(connector=procrastinate.PsycopgConnector(min_size=10, max_size=10))


@app.task(name="noop", queue="bench")
async def noop(n: int) -> None:
    if milliseconds:
        await asyncio.sleep(milliseconds / 1000)


async def drain(concurrency: int) -> None:
    async with app.open_async():
        await app.run_worker_async(queues=["bench"], wait=False, concurrency=concurrency, listen_notify=False)


async def enqueue(jobs: int, chunk: int) -> None:
    numbers = list(range(jobs))
    async with app.open_async():
        began = time.perf_counter()
        for start in range(0, jobs, chunk):
            calls: list[dict[str, Any]] = [{"n": n} for n in numbers[start : start + chunk]]
            await noop.batch_defer_async(*calls)
        print(time.perf_counter() - began)


if sys.argv[1] == "schema":
    print(app.schema_manager.get_schema())
elif sys.argv[1] == "drain":
    milliseconds = int(sys.argv[3])
    uvloop.run(drain(int(sys.argv[2])))
else:
    uvloop.run(enqueue(int(sys.argv[2]), int(sys.argv[3])))
