"""One procrastinate app, and the processes that run it: python -m tests.bench.frontend schema|own|ours|runner …

The database is found through PGHOST and its kind.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable

import procrastinate
from procrastinate.schema import SchemaManager

from jobrunner.ops.cli.run import load_app
from jobrunner.procrastinate import JobrunnerConnector
from jobrunner.worker.runner import Runner

app = procrastinate.App(connector=procrastinate.PsycopgConnector(min_size=10, max_size=10))


@app.task(name="bench.noop")
async def noop(n: int) -> None:
    """Does nothing."""


async def _drain(connector: procrastinate.PsycopgConnector, concurrency: int) -> None:
    with app.replace_connector(connector):
        async with app.open_async():
            await app.run_worker_async(wait=False, concurrency=concurrency, listen_notify=False)


def own(concurrency: str) -> None:
    """procrastinate's worker on its own tables, until nothing is left."""
    asyncio.run(_drain(procrastinate.PsycopgConnector(min_size=10, max_size=10), int(concurrency)))


def ours(concurrency: str) -> None:
    """The same worker on jobrunner's tables."""
    asyncio.run(_drain(JobrunnerConnector(min_size=10, max_size=10), int(concurrency)))


def runner(slots: str) -> None:
    """What `jobrunner run tests.bench.frontend:app` runs, until nothing is left."""

    async def run() -> None:
        async with Runner(load_app("tests.bench.frontend:app"), slots=int(slots)) as runner:
            await runner.wait_idle("15m")

    asyncio.run(run())


def schema() -> None:
    """Print procrastinate's schema."""
    print(SchemaManager.get_schema())


COMMANDS: dict[str, Callable[..., None]] = {"schema": schema, "own": own, "ours": ours, "runner": runner}

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    COMMANDS[sys.argv[1]](*sys.argv[2:])
