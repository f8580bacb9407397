"""The apps with subscriptions of bin/bench events, and the processes that run them: python -m tests.bench.eventful serve|stamps …

The database is found through PGHOST and its kind.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable

from jobrunner.policy.events import Event
from jobrunner.worker.app import App
from jobrunner.worker.context import Context
from jobrunner.worker.runner import Runner
from tests.bench.server import Database

KEYS = 1000


class Happened(Event, name="bench.happened", key="k"):
    """A small event."""

    n: int
    k: str


def happened(n: int) -> Happened:
    """The event of that number."""
    return Happened(n=n, k=f"k{n % KEYS}")


def app_with(subscriptions: int, *, ordered: bool = False) -> App:
    """An app with so many subscriptions to it, which do nothing."""
    app = App("bench")

    async def nothing(ctx: Context, event: Happened) -> None: ...

    for number in range(subscriptions):
        app.on(Happened, name=f"bench.s{number}", ordered=ordered)(nothing)
    return app


def publish(database: Database, events: int, *, first: int = 0) -> None:
    """Leave so many events in the outbox, in one transaction."""
    with database.connect() as conn, conn.transaction():
        for start in range(first, first + events, 5000):
            conn.execute(
                """
                select jobrunner.publish_many((
                    select jsonb_agg(jsonb_build_object(
                        'type', 'bench.happened', 'source', 'bench', 'key', 'k' || n %% %(keys)s::int,
                        'data', jsonb_build_object('n', n, 'k', 'k' || n %% %(keys)s::int)
                    ))
                    from generate_series(%(from)s::int, %(to)s::int) n
                ))
                """,
                {"keys": KEYS, "from": start, "to": min(start + 5000, first + events) - 1},
            )


def serve(subscriptions: str, queue: str = "") -> None:
    """Run an app with so many subscriptions until stdin ends, on all queues or one."""

    async def run() -> None:
        async with Runner(app_with(int(subscriptions)), queues=[queue] if queue else None):
            await asyncio.to_thread(sys.stdin.read)

    asyncio.run(run())


def stamps(events: str) -> None:
    """Run a subscription until it has had so many events; print their numbers and when its handler began."""
    app, seen, ended = App("bench"), [], asyncio.Event()

    @app.on(Happened, name="bench.stamp")
    async def stamp(ctx: Context, event: Happened) -> None:
        seen.append((event.n, time.monotonic()))
        if len(seen) == int(events):
            ended.set()

    async def run() -> None:
        async with Runner(app):
            await ended.wait()

    asyncio.run(run())
    print(json.dumps(seen))


COMMANDS: dict[str, Callable[..., None]] = {"serve": serve, "stamps": stamps}

if __name__ == "__main__":
    logging.basicConfig()
    COMMANDS[sys.argv[1]](*sys.argv[2:])
