"""Events on the runner's side: from the outbox into the log, to deliveries and streams, and walks over what lies behind.

Every function takes a connection that is in autocommit and in READ COMMITTED; each call is one transaction. What a handler or a
service asks of the log is here too, in the caller's own transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from jobrunner.policy.floor import NOBODY, Passed
from jobrunner.policy.models import Claimed
from jobrunner.policy.recorded import Batch, Recorded
from jobrunner.policy.subscriptions import Declaration, Difference
from jobrunner.store.jobs import Connection
from jobrunner.store.queries import query

_SEQUENCE = query("sequence")
_REPLAY_STEP = query("replay_step")
_LOAD_DELIVERIES = query("load_deliveries")
_STREAM_BATCH = query("stream_batch")
_SUBSCRIBE = query("subscribe")
ENTITY_EVENTS = query("entity_events")
TAKE_MESSAGE = query("take_message")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a walk over the log; *walk* None: there was nothing to do now."""

    walk: int | None
    delivered: int
    more: bool
    """There is more to do at once."""
    near: bool
    """The next step should be the last: it meets the present."""
    waits: bool
    """Some walk only waits for its rate, or for room among what is delivered and not yet handled."""


@dataclass(frozen=True, slots=True)
class Sequenced:
    """One step from the outbox into the log."""

    moved: int
    """Events; -1 when another runner is at it."""
    delivered: int
    """Deliveries that were made of them."""
    last: int | None
    """The outbox row that was moved last: a full step leaves nothing visible below it."""


async def sequence(conn: Connection, n: int, floor: int, passed: Passed = NOBODY) -> Sequenced:
    """Move up to *n* events from the outbox, above *floor*, into the log, with their deliveries.

    *passed*: the open transactions that the floor has passed; where one has ended meanwhile it is looked at from before it.
    """
    params = {"n": n, "floor": floor, "alone": True, "base": passed.base, "passed": passed.xids}
    row = await (await conn.execute(_SEQUENCE, params)).fetchone()
    assert row is not None  # one row always
    return Sequenced(*row)


async def replay_step(conn: Connection, n: int, *, last: bool) -> Step:
    """One step of one walk, of about *n* events; *last*: under the sequencer's lock, for one that is near the present."""
    row = await (await conn.execute(_REPLAY_STEP, {"n": n, "last": last})).fetchone()
    assert row is not None  # one row always
    return Step(*row)


async def load_deliveries(conn: Connection, deliveries: Sequence[Claimed]) -> None:
    """Give each of *deliveries* its event; one whose event the log no longer has keeps None."""
    cursor = conn.cursor(binary=True)
    await cursor.execute(_LOAD_DELIVERIES, {"args": [job.args for job in deliveries]})
    for n, *columns in await cursor.fetchall():
        deliveries[n - 1].event = Recorded(*columns)


async def load_batch(conn: Connection, job: Claimed, n: int) -> None:
    """Give a stream's *job* its next batch, at most *n* events; None when the subscription is gone."""
    cursor = conn.cursor(binary=True)
    await cursor.execute(_STREAM_BATCH, {"name": job.task, "n": n})
    rows = await cursor.fetchall()
    if rows:
        from_after, upto = rows[0][:2]
        job.batch = Batch(from_after, upto, [Recorded(*row[2:]) for row in rows if row[2] is not None])


async def subscribe(conn: Connection, declared: Declaration) -> Difference:
    """Make *declared* known where its name is not; returns how the one that is there differs. Never changes one."""
    row = await (await conn.execute(_SUBSCRIBE, subscribe_params(declared))).fetchone()
    found: Difference = row[0] if row else {}
    return found


def subscribe_params(declared: Declaration) -> dict[str, Any]:
    """What registration is told."""
    after: int | None = None
    since: datetime | None = None
    match declared.start:
        case datetime():
            since = declared.start
        case "beginning":
            after = 0
        case int():
            after = declared.start - 1
    return {
        "name": declared.name,
        "app": declared.app,
        "spec": Jsonb(declared.as_json()),
        "after": after,
        "since": since,
    }
