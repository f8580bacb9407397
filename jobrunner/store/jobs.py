"""Jobs on the runner's side: claim, settle, and what keeps them moving. All over batches, all fenced in SQL.

Every function takes a connection that is in autocommit and in READ COMMITTED; each call is one transaction.
Errors of psycopg pass through untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias, cast

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from jobrunner.policy.floor import Class, Floors, Mark, Passed, Snapshot
from jobrunner.policy.models import Claimed
from jobrunner.policy.outcomes import Place
from jobrunner.store.queries import query

Connection: TypeAlias = AsyncConnection[tuple[Any, ...]]

_CLAIM = query("claim")
_FINISH = query("finish")
_SETTLE = query("settle")
_PUT_ELSEWHERE = query("procrastinate_retry")
_DEPART = query("depart")
_UNDEPARTED = query("undeparted")
_SWEEP = query("sweep")
_VERDICT = query("verdict")
_TICK = query("tick")
_RESCUE = query("rescue")
_PARK = query("park")
_UNPARK = query("unpark")
_REPAIR_KEYS = query("repair_keys")
_WRITE_PROGRESS = query("write_progress")
_IS_BUSY = query("is_busy")


@dataclass(frozen=True, slots=True)
class Known:
    """What a runner can run: task names and, in the same order, the newest version of each."""

    tasks: list[str]
    versions: list[int]


@dataclass(frozen=True, slots=True)
class Tick:
    """What one look around saw; see sql/functions/tick_v1.sql."""

    snapshot: Snapshot
    mark: Mark
    promoted: int
    seen: int
    seated: int
    due_in: float | None
    found: list[Class]
    drawn: int
    """The id of its own transaction: whoever had one when the tick before ended has a lower one."""
    outbox: bool
    """Whether publishers left something."""


async def claim(
    conn: Connection, runner: int, n: int, order: Sequence[Class], floors: Floors, known: Known, *, plain: bool
) -> list[Claimed]:
    """Up to *n* jobs, now running on *runner*, from the classes in *order* above their floors; in no particular order.

    *plain*: only jobs that may wait in hand (no key, never crashed). Raises JR001 when the runner was declared lost.
    """
    cursor = conn.cursor(binary=True)
    await cursor.execute(
        _CLAIM,
        {
            "runner": runner,
            "n": n,
            "queues": [queue for queue, _ in order],
            "priorities": [priority for _, priority in order],
            "floors": [floors.ready[found] for found in order],
            "tasks": known.tasks,
            "versions": known.versions,
            "plain": plain,
        },
    )
    return [Claimed(*row) for row in await cursor.fetchall()]


async def finish(
    conn: Connection, runner: int, ids: Sequence[int], attempts: Sequence[int], results: Sequence[str | None] | None
) -> set[int]:
    """Move successes without a key into history; returns the ids that are settled now.

    *ids* ascending; *results*: JSON text or None for each, or None for all. Safe to repeat: see `verdict`.
    """
    row = await _row(
        conn,
        _FINISH,
        {"runner": runner, "ids": list(ids), "attempts": list(attempts), "results": results and list(results)},
    )
    return set(row[0])


async def settle(conn: Connection, runner: int, rows: Sequence[dict[str, Any]]) -> set[int]:
    """Write every other end of an attempt; returns the ids that are settled now. *rows* as in sql/functions/settle_v1.sql."""
    row = await _row(conn, _SETTLE, {"runner": runner, "rows": Jsonb(list(rows))})
    return set(row[0])


async def put_elsewhere(conn: Connection, runner: int, row: dict[str, Any], at: datetime, place: Place) -> str:
    """The end of an attempt after which the job waits in another place, from *at* on: settled or stale. *row* as for `settle`.

    Raises LockNotAvailable when someone holds the row, or the next of the key that it leaves.
    """
    return str((await _row(conn, _PUT_ELSEWHERE, {**elsewhere_params(runner, row, place), "at": at}))[0])


def elsewhere_params(runner: int, row: dict[str, Any], place: Place) -> dict[str, Any]:
    """What the statement takes, but for the time. *row* as for `settle`."""
    failure = {name: row[name] for name in ("error", "error_type", "message", "traceback") if name in row}
    return {
        "id": row["id"],
        "attempt": row["attempt"],
        "runner": runner,
        "priority": place.priority,
        "queue": place.queue,
        "lock": place.key,
        "failure": Jsonb(failure),
    }


async def verdict(
    conn: Connection, runner: int, ids: Sequence[int], attempts: Sequence[int]
) -> dict[int, Literal["settled", "busy", "stale"]]:
    """What became of settlements that were not accepted, by id."""
    cursor = await conn.execute(_VERDICT, {"runner": runner, "ids": list(ids), "attempts": list(attempts)})
    return dict(cast("list[tuple[int, Literal['settled', 'busy', 'stale']]]", await cursor.fetchall()))


async def depart(conn: Connection, runner: int, ids: Sequence[int]) -> int:
    """Move jobs that ended in place to history and pass the turn of their keys on; returns how many it took care of."""
    return int((await _row(conn, _DEPART, {"ids": sorted(ids), "runner": runner}))[0])


async def undeparted(conn: Connection, ids: Sequence[int]) -> set[int]:
    """Those of *ids* that ended in place and are still where they were."""
    cursor = await conn.execute(_UNDEPARTED, {"ids": list(ids)})
    return {job_id for (job_id,) in await cursor.fetchall()}


async def sweep(conn: Connection, n: int) -> int:
    """Depart up to *n* jobs that ended in place and were left behind by a crash; returns how many."""
    return int((await _row(conn, _SWEEP, {"n": n}))[0])


async def tick(conn: Connection, floors: Floors, passed: Passed, *, any_queue: bool, asleep: timedelta | None) -> Tick:
    """Promote what is due, seat what has arrived, and see what a claim must know; *asleep* says so to enqueuers."""
    order = sorted(floors.ready)
    row = await _row(
        conn,
        _TICK,
        {
            "queues": [queue for queue, _ in order],
            "priorities": [priority for _, priority in order],
            "any": any_queue,
            "asleep": asleep,
            "arrived_floor": floors.arrived,
            "due_floor": floors.due,
            "outbox_floor": floors.outbox,
            "base": passed.base,
            "passed": passed.xids,
        },
    )
    snapshot, stamp, at, promoted, seen, seated, due_in, queues, priorities, drawn, outbox = row
    return Tick(
        snapshot=Snapshot.parse(snapshot),
        mark=Mark(cast("int", stamp), cast("datetime", at)),
        promoted=promoted,
        seen=seen,
        seated=seated,
        due_in=due_in,
        found=list(zip(queues or [], priorities or [], strict=True)),
        drawn=drawn,
        outbox=outbox,
    )


async def rescue(conn: Connection, n: int) -> tuple[int, int]:
    """One scan for dead runners: (declared lost, jobs given back), about *n* jobs at the most."""
    lost, rescued = await _row(conn, _RESCUE, {"n": n})
    return lost, rescued


async def park(conn: Connection, queue: str, n: int) -> tuple[int, int]:
    """Put ready jobs of unknown tasks out of the way: (parked, looked at) among the first *n* of *queue*."""
    parked, seen = await _row(conn, _PARK, {"queue": queue, "n": n})
    return parked, seen


async def unpark(conn: Connection, known: Known, n: int) -> int:
    """Make up to *n* parked jobs ready that are known here; returns how many."""
    return int((await _row(conn, _UNPARK, {"tasks": known.tasks, "versions": known.versions, "n": n}))[0])


async def repair_keys(conn: Connection) -> int:
    """Give the turn to the first in line of each key that nobody holds; returns how many keys."""
    return int((await _row(conn, _REPAIR_KEYS, {}))[0])


async def write_progress(conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """How far jobs are: {id, total, processed, failed, message} each."""
    await conn.execute(_WRITE_PROGRESS, {"rows": Jsonb(list(rows))})


async def is_busy(conn: Connection, tasks: Sequence[str]) -> bool:
    """Whether any job of *tasks* runs, is about to, or is due, or an event may become one."""
    return bool((await _row(conn, _IS_BUSY, {"tasks": list(tasks)}))[0])


async def _row(conn: Connection, statement: Any, params: dict[str, Any]) -> tuple[Any, ...]:
    row = await (await conn.execute(statement, params)).fetchone()
    assert row is not None  # each of these statements returns exactly one
    return row
