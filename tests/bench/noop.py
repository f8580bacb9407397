"""The app of the benchmarks, and the processes that run it: python -m tests.bench.noop drain|enqueue|stamps …

The database is found through PGHOST and its kind.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from jobrunner.policy.backoff import Backoff
from jobrunner.policy.models import Job
from jobrunner.worker.app import App
from jobrunner.worker.context import Context
from jobrunner.worker.runner import Runner
from tests.bench.sampling import Sampler

app = App("bench")


class Started:
    """What `stamp` saw of the jobs that were wanted: the argument of each, and the machine's monotonic clock."""

    def __init__(self) -> None:
        self.wanted = 0
        self.seen: list[tuple[int, float]] = []
        self.all = asyncio.Event()


started = Started()


@app.task
async def noop(ctx: Context, n: int) -> None:
    """Does nothing, like the handlers of the peers."""


@app.task
def threaded(ctx: Context, n: int) -> None:
    """Does nothing in a thread."""


@app.task(retry=Backoff(attempts=2, base="1s", jitter="none"))
async def mishap(ctx: Context, n: int) -> None:
    """Fails."""
    raise ValueError(f"job {n} is one of those that fail")


def mixed(first: int, jobs: int) -> Iterator[Job]:
    """Calls of all kinds, numbered from *first*."""
    for n in range(first, first + jobs):
        if n % 50 == 0:
            yield mishap.job(n)
        elif n % 10 == 1:
            yield threaded.job(n)
        else:
            yield noop.job(n).using(key=f"k{n // 10 % 20}") if n % 10 == 2 else noop.job(n)


@app.task
async def nap(ctx: Context, n: int) -> None:
    """Takes that many milliseconds."""
    await asyncio.sleep(n / 1000)


@app.task
async def stamp(ctx: Context, n: int) -> None:
    """Notes when it started."""
    started.seen.append((n, time.monotonic()))
    if len(started.seen) == started.wanted:
        started.all.set()


def drain(slots: str, sampled: str = "") -> None:
    """Run what waits until nothing is left; with *sampled*, write into that file where the time of this process went."""

    async def run() -> None:
        async with Runner(app, slots=int(slots)) as runner:
            await runner.wait_idle("15m")

    if not sampled:
        asyncio.run(run())
        return
    with Sampler() as sampler:
        asyncio.run(run())
    Path(sampled).write_text(json.dumps(sampler.report()))


def enqueue(jobs: str) -> None:
    """Enqueue that many calls from a list of numbers in one transaction; print the seconds to the end of its commit."""
    numbers = list(range(int(jobs)))
    with psycopg.connect("") as conn:
        began = time.perf_counter()
        ids = app.enqueue_many(conn, (noop.job(n) for n in numbers))
        conn.commit()
        print(time.perf_counter() - began)
    assert len(ids) == len(numbers)


def stamps(jobs: str) -> None:
    """Say "ready", run `stamp` until that many have started; print what they saw."""

    async def run() -> None:
        async with Runner(app):
            print("ready", flush=True)
            await started.all.wait()

    started.wanted = int(jobs)
    asyncio.run(run())
    print(json.dumps(started.seen))


COMMANDS: dict[str, Callable[..., None]] = {"drain": drain, "enqueue": enqueue, "stamps": stamps}

if __name__ == "__main__":
    logging.basicConfig()
    COMMANDS[sys.argv[1]](*sys.argv[2:])
