"""Runners: register, beat, go on under a new id, say good-bye. The beat is sync, because it lives in a thread of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from jobrunner.policy.models import Json
from jobrunner.store.jobs import Connection
from jobrunner.store.migrate import OLDEST_SCHEMA, SCHEMA_VERSION
from jobrunner.store.queries import query

REGISTER = query("register")
_ADOPT = query("adopt")
_STOP = query("stop")
_CRASHED = query("crashed")
_BEAT = query("beat")
_MAKE_PARTITIONS = query("make_partitions")


@dataclass(frozen=True, slots=True)
class Registration:
    """What the database is told about a runner."""

    ttl: timedelta
    slots: int
    app: str
    host: str
    pid: int
    version: str
    queues: list[str] | None
    tasks: list[dict[str, Json]]
    poll: float
    """Seconds between two looks when nothing wakes it."""


def register_params(runner: int, about: Registration) -> dict[str, Any]:
    """The parameters of REGISTER."""
    return {
        "runner": runner,
        "ttl": about.ttl,
        "slots": about.slots,
        "app": about.app,
        "host": about.host,
        "pid": about.pid,
        "version": about.version,
        "queues": about.queues,
        "tasks": Jsonb(about.tasks),
        "about": Jsonb({"poll": about.poll, "schema_oldest": OLDEST_SCHEMA, "schema_newest": SCHEMA_VERSION}),
    }


async def register(conn: Connection, runner: int, about: Registration) -> None:
    """Make *runner* and its tasks known. Atomic."""
    await conn.execute(REGISTER, register_params(runner, about))


async def adopt(conn: Connection, old: int, new: int, ids: Sequence[int], attempts: Sequence[int]) -> set[int]:
    """Take the jobs in hand over from *old* to *new*, fenced; returns the ids that are still this runner's."""
    cursor = await conn.execute(_ADOPT, {"old": old, "new": new, "ids": list(ids), "attempts": list(attempts)})
    row = await cursor.fetchone()
    return set(row[0]) if row else set()


async def stop(conn: Connection, runner: int) -> int:
    """Say good-bye; returns how many jobs went back."""
    row = await (await conn.execute(_STOP, {"runner": runner})).fetchone()
    return int(row[0]) if row else 0


async def crashed(conn: Connection, runner: int) -> tuple[int, int]:
    """The process of *runner* is dead: (jobs given back, jobs that a transaction still holds). Call it again for those."""
    row = await (await conn.execute(_CRASHED, {"runner": runner})).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


async def make_partitions(conn: Connection, days: int) -> int:
    """Make the history's partitions for today and *days* ahead; returns how many were missing."""
    row = await (await conn.execute(_MAKE_PARTITIONS, {"days": days})).fetchone()
    return int(row[0]) if row else 0


def beat(
    conn: psycopg.Connection[tuple[Any, ...]], runner: int, busy: int, *, listening: bool
) -> tuple[bool, list[int]]:
    """One heartbeat: (still alive, ids of its jobs that a person wants cancelled)."""
    row = conn.execute(_BEAT, {"runner": runner, "busy": busy, "listening": listening}).fetchone()
    assert row is not None
    return bool(row[0]), list(row[1])
