"""The functions of events in the words of a test, as calls.py has those of jobs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from tests.store import calls
from tests.store.calls import Claim, Connection, Row, column, value

TYPE = "order.paid"
SUB = "shop.ledger"


@dataclass(frozen=True, slots=True)
class Batch:
    """What a stream reads at once."""

    after: int
    upto: int
    positions: list[int]


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of a walk over the log did."""

    walk: int | None
    delivered: int
    more: bool
    near: bool


def publish(conn: Connection, type: str = TYPE, /, data: dict[str, Any] | None = None, **options: object) -> UUID:  # noqa: A002
    """`jobrunner.publish` with *options* by name."""
    given = {name: Jsonb(it) if isinstance(it, dict) else it for name, it in {"data": data or {}, **options}.items()}
    named = ", ".join(f"{name} => %({name})s" for name in given)
    found = conn.execute(f"select jobrunner.publish(%(type)s, {named})", {"type": type, **given}).fetchone()
    assert found is not None
    event: UUID = found[0]
    return event


def publish_many(conn: Connection, events: Sequence[Any], **options: bool) -> list[UUID]:
    """`jobrunner.publish_many` of *events*, each of TYPE and without data unless it says otherwise."""
    rows = Jsonb([{"type": TYPE, "data": {}, **event} for event in events])
    ids: list[UUID] = value(conn, "select jobrunner.publish_many(%s, %s)", rows, options.get("notify", True))
    return ids


def sequence(conn: Connection, n: int = 1000, floor: int = 0) -> tuple[int, int]:
    """`sequence_v1`: (moved, delivered)."""
    row = conn.execute("select moved, delivered from jobrunner.sequence_v1(%s, %s)", [n, floor]).fetchone()
    assert row is not None
    return row[0], row[1]


def positions(conn: Connection) -> dict[UUID, int]:
    """Where each event of the log lies, in order."""
    return dict(conn.execute("select event_id, position from jobrunner.events order by position").fetchall())


def head(conn: Connection) -> int:
    return int(value(conn, "select position from jobrunner.log_head()"))


def spec(**options: object) -> dict[str, object]:
    """What a subscription is declared to be: every type, on the queue of the tests, unless *options* say otherwise."""
    return {"types": ["#"], "queue": calls.QUEUE, **options}


def subscribe(conn: Connection, name: str = SUB, /, after: int | None = None, **options: object) -> dict[str, Any]:
    """`subscribe_v1`: how the one that is there differs."""
    found: dict[str, Any] = value(
        conn, "select jobrunner.subscribe_v1(%s, 'shop', %s, %s)", name, Jsonb(spec(**options)), after
    )
    return found


def apply(conn: Connection, name: str = SUB, /, **options: object) -> dict[str, Any]:
    """`apply_subscription`: what it changed."""
    found: dict[str, Any] = value(
        conn, "select jobrunner.apply_subscription(%s, 'shop', %s, 'ann', 'because')", name, Jsonb(spec(**options))
    )
    return found


def subscription(conn: Connection, name: str = SUB) -> Row:
    found: Row = value(conn, "select to_jsonb(s) from jobrunner.subscriptions s where name = %s", name)
    return found


def deliveries(conn: Connection, name: str = SUB) -> list[int]:
    """The positions of all its deliveries, open or over, in the order in which they were made."""
    return column(
        conn,
        """select (args ->> 'position')::bigint
           from (select id, task, args from jobrunner.jobs union all select id, task, args from jobrunner.finished_jobs) j
           where task = %s order by id""",
        name,
    )


def states(conn: Connection, name: str = SUB) -> dict[int, str]:
    """The state of each open delivery by its position."""
    return dict(
        conn.execute(
            """select (args ->> 'position')::bigint, state || coalesce('/' || blocked_on, '')
               from jobrunner.jobs where task = %s order by id""",
            [name],
        ).fetchall()
    )


def position(claimed: Claim) -> int:
    return int(json.loads(claimed.args)["position"])


def claim(
    conn: Connection, *names: str, n: int = 100, runner: int = 1, version: int = 1, priorities: Sequence[int] = (0, -1)
) -> list[Claim]:
    """Seats what has arrived, and claims what is ready of these subscriptions (SUB)."""
    calls.seat(conn)
    return calls.claim(
        conn, runner, n, classes=[(calls.QUEUE, p) for p in priorities], tasks=dict.fromkeys(names or [SUB], version)
    )


def run_all(conn: Connection, *names: str, runner: int = 1) -> list[Claim]:
    """Claims and ends, until there is nothing to claim: what ran, in that order."""
    ran: list[Claim] = []
    while claims := claim(conn, *names, runner=runner):
        assert sorted(calls.settle(conn, runner, claims, "succeeded")) == sorted(c.id for c in claims)
        ran += claims
    return ran


def step(conn: Connection, n: int = 1000, *, last: bool = False, open: int = 10000) -> Step:  # noqa: A002
    """`replay_step_v1`."""
    row = conn.execute(
        "select walk, delivered, more, near from jobrunner.replay_step_v1(%s, %s, %s)", [n, last, open]
    ).fetchone()
    assert row is not None
    return Step(*row)


def walk_to_the_end(conn: Connection, n: int = 1000) -> int:
    """As a runner does it: steps until none has anything to do, a last one whenever one is near; returns the deliveries."""
    made = 0
    while (done := step(conn, n)).walk is not None:
        made += done.delivered
        if done.near:
            made += step(conn, n, last=True).delivered
    return made


def walks(conn: Connection) -> list[tuple[str, str, int]]:
    """Kind, state, and deliveries of every walk."""
    return conn.execute("select kind, state, delivered from jobrunner.replays order by id").fetchall()


def read(conn: Connection, name: str = SUB, n: int = 100, window: int = 10000) -> Batch:
    """`stream_batch_v1`."""
    rows = conn.execute(
        "select from_after, upto, position from jobrunner.stream_batch_v1(%s, %s, %s)", [name, n, window]
    ).fetchall()
    return Batch(rows[0][0], rows[0][1], [row[2] for row in rows if row[2] is not None])


def advance(conn: Connection, batch: Batch, name: str = SUB) -> bool:
    return bool(value(conn, "select jobrunner.advance_stream_v1(%s, %s, %s)", name, batch.after, batch.upto))


def outbox(conn: Connection) -> list[UUID]:
    return column(conn, "select event_id from jobrunner.outbox order by id")
