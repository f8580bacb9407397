"""What the tests of the worker share: a claimed row without a database, a lender that lends nothing, a list of events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any, LiteralString

from jobrunner.policy.models import Claimed
from jobrunner.telemetry import Telemetry
from tests.conftest import Connection
from tests.support import eventually

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def claimed(task: str = "shop.t", *, job_id: int = 7, attempt: int = 1, args: str = "{}", **others: Any) -> Claimed:
    """One row as a claim gives it."""
    values: dict[str, Any] = {
        "version": 1, "queue": "default", "priority": 0, "seq": job_id, "failures": 0, "crashes": 0, "max_attempts": 10,
        "key": None, "headers": None, "run_at": NOW, "created_at": NOW, "started_at": NOW, **others,
    }  # fmt: skip
    return Claimed(id=job_id, task=task, attempt=attempt, args=args, **values)


class NoLender:
    """For handlers that ask for no connection."""

    runner_id = 1

    def __init__(self) -> None:
        self.progress: list[dict[str, Any]] = []

    def note_progress(self, job_id: int, progress: dict[str, Any]) -> None:
        self.progress.append(progress)

    def lend(self) -> Any:
        raise AssertionError("no connection here")

    def take_back(self, conn: Any) -> None:
        raise AssertionError("no connection here")

    async def lend_async(self) -> Any:
        raise AssertionError("no connection here")

    async def take_back_async(self, conn: Any) -> None:
        raise AssertionError("no connection here")


class Events:
    """Every event of a telemetry, in order."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.seen: list[tuple[str, int, dict[str, Any]]] = []
        telemetry.attach(lambda *event: self.seen.append(event))

    def named(self, name: str) -> list[dict[str, Any]]:
        """The facts of the events of that name."""
        return [facts for event, _, facts in self.seen if event == name]

    async def wait_for(self, name: str, times: int = 1, deadline: float = 10) -> list[dict[str, Any]]:
        """Returns once there were so many of them."""
        await eventually(lambda: len(self.named(name)) >= times, deadline, f"{name} × {times}")
        return self.named(name)


async def within(seconds: float, awaitable: Awaitable[Any]) -> Any:
    """Its result; fails the test when it takes longer."""
    async with asyncio.timeout(seconds):
        return await awaitable


def backend(conn: Connection, purpose: str) -> int | None:
    """The pid of a runner's session for *purpose* (claim, settle, heartbeat, listen, handler) in this database."""
    found = conn.execute(
        "select pid from pg_stat_activity where datname = current_database() and application_name = %s",
        [f"jobrunner {purpose}"],
    ).fetchone()
    return None if found is None else int(found[0])


def terminate(conn: Connection, purpose: str) -> None:
    """Ends that session, as an administrator or a failover would."""
    conn.execute("select pg_terminate_backend(%s)", [backend(conn, purpose)])


def one(conn: Connection, statement: LiteralString, *args: object) -> Any:
    """The only row of *statement*; its only value when it has one column."""
    rows = conn.execute(statement, args).fetchall()
    assert len(rows) == 1, rows
    return rows[0] if len(rows[0]) > 1 else rows[0][0]


def state(conn: Connection, job_id: int) -> str | None:
    """Where the job is now."""
    found = conn.execute("select state from jobrunner.v_job where id = %s", [job_id]).fetchone()
    return None if found is None else str(found[0])
