"""The SQL functions in the words of a test: each call is one statement, on a plain psycopg session."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, TypeAlias

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from jobrunner.store.queries import text

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
Row: TypeAlias = dict[str, Any]

TASK = "shop.t"
QUEUE = "default"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a test needs of a claimed row."""

    id: int
    attempt: int
    key: str | None
    args: str
    failures: int
    crashes: int
    task: str
    queue: str
    priority: int
    seq: int


def value(conn: Connection, statement: LiteralString, *args: object) -> Any:
    """The first column of the first row of *statement*; None where there is none."""
    found = conn.execute(statement, args).fetchone()
    return None if found is None else found[0]


def column(conn: Connection, statement: LiteralString, *args: object) -> list[Any]:
    """The first column of every row of *statement*."""
    return [row[0] for row in conn.execute(statement, args).fetchall()]


def enqueue(conn: Connection, task: str = TASK, /, **options: object) -> int:
    """`jobrunner.enqueue` with *options* by name."""
    given = {name: Jsonb(it) if isinstance(it, dict) else it for name, it in options.items()}
    named = ", ".join(f"{name} => %({name})s" for name in given)
    statement = f"select jobrunner.enqueue(%(task)s{', ' if named else ''}{named})"
    found = conn.execute(statement, {"task": task, **given}).fetchone()
    assert found is not None
    return int(found[0])


def enqueue_many(conn: Connection, jobs: Sequence[Mapping[str, object]], **options: bool) -> list[int | None]:
    """`jobrunner.enqueue_many` of *jobs*, each TASK unless it says otherwise."""
    rows = Jsonb([{"task": TASK, **job} for job in jobs])
    found: list[int | None] = value(conn, "select jobrunner.enqueue_many(%s, %s)", rows, options.get("notify", True))
    return found


def fill(conn: Connection, count: int, task: str = TASK, queue: str = QUEUE) -> None:
    """Inserts *count* ready jobs at once."""
    conn.execute(
        "insert into jobrunner.jobs (task, queue, args) select %s, %s, jsonb_build_object('n', n) from generate_series(1, %s) n",
        [task, queue, count],
    )


def register(
    conn: Connection, runner: int = 1, tasks: Iterable[str] = (TASK,), *, version: int = 1, ttl: str = "30 s"
) -> int:
    """Makes a runner known and returns its id."""
    known = [
        {"name": t, "version": version, "queue": QUEUE, "priority": 0, "max_attempts": 10, "retry": {}} for t in tasks
    ]
    conn.execute(
        "select jobrunner.register_v1(%s, %s, 10, 'shop', 'host', 7, '1', null, %s)", [runner, ttl, Jsonb(known)]
    )
    return runner


def claim(
    conn: Connection,
    runner: int = 1,
    n: int = 100,
    *,
    classes: Sequence[tuple[str, int]] = ((QUEUE, 0),),
    floors: Sequence[int] | None = None,
    tasks: Mapping[str, int] | None = None,
    plain: bool = False,
) -> list[Claim]:
    """`claim_v1`, in the ready order."""
    known = tasks or {TASK: 1}
    rows = conn.execute(
        """select c.id, c.attempt, c.key, c.args, c.failures, c.crashes, c.task, c.queue, c.priority, c.seq
           from jobrunner.claim_v1(%s, %s, %s, %s::smallint[], %s::bigint[], %s, %s::smallint[], %s) c
           order by c.priority desc, c.seq""",
        [runner, n, [q for q, _ in classes], [p for _, p in classes], list(floors or [0] * len(classes)),
         list(known), list(known.values()), plain],
    )  # fmt: skip
    return [Claim(*row) for row in rows.fetchall()]


def finish(conn: Connection, runner: int, claims: Sequence[Claim]) -> list[int]:
    """`finish_v1`: the ids that are settled now."""
    ids: list[int] = value(
        conn, "select jobrunner.finish_v1(%s, %s, %s)", runner, [c.id for c in claims], [c.attempt for c in claims]
    )
    return ids


def settle(conn: Connection, runner: int, claims: Sequence[Claim], state: str, **more: object) -> list[int]:
    """`settle_v1` with the same end for all of *claims*: the ids that are settled now."""
    if state == "scheduled":
        more.setdefault("delay", 0)
    rows = Jsonb([{"id": c.id, "attempt": c.attempt, "state": state, **more} for c in claims])
    ids: list[int] = value(conn, "select jobrunner.settle_v1(%s, %s)", runner, rows)
    return ids


def finish_in_place(conn: Connection, runner: int, claimed: Claim) -> bool:
    """`finish_in_place_v1` in the transaction of *conn*."""
    return bool(value(conn, "select jobrunner.finish_in_place_v1(%s, %s, %s)", runner, claimed.id, claimed.attempt))


def depart(conn: Connection, ids: Sequence[int]) -> int:
    return int(value(conn, "select jobrunner.depart_v1(%s::bigint[])", list(ids)))


def sweep(conn: Connection, n: int = 1000) -> int:
    """`sweep_v1` of all that ended in place, also just now."""
    return int(value(conn, "select jobrunner.sweep_v1(%s)", n))


def seat(conn: Connection, n: int = 1000, floor: int = 0) -> tuple[int, int]:
    """`seat_v1`: (seen, seated)."""
    row = conn.execute("select seen, seated from jobrunner.seat_v1(%s, %s)", [n, floor]).fetchone()
    assert row is not None
    return row[0], row[1]


def promote(conn: Connection, n: int = 1000) -> int:
    return int(value(conn, "select jobrunner.promote_v1(%s)", n))


def lose(conn: Connection, runner: int) -> None:
    """Makes a runner silent for longer than its ttl."""
    conn.execute("update jobrunner.runners set beat_at = beat_at - interval '1 day' where id = %s", [runner])


def mark_lost(conn: Connection) -> int:
    return int(value(conn, "select jobrunner.mark_lost_v1()"))


def give_back(conn: Connection, n: int = 1000) -> int:
    return int(value(conn, "select jobrunner.give_back_v1(%s)", n))


def crashed(conn: Connection, runner: int) -> tuple[int, int]:
    """Jobs given back, jobs still held."""
    row = conn.execute("select * from jobrunner.crashed_v1(%s)", [runner]).fetchone()
    assert row is not None
    return row[0], row[1]


def verdicts(conn: Connection, runner: int, claims: Sequence[Claim]) -> dict[int, str]:
    """`verdict_v1` by job id."""
    rows = conn.execute(
        "select id, verdict from jobrunner.verdict_v1(%s, %s, %s)",
        [runner, [c.id for c in claims], [c.attempt for c in claims]],
    )
    return dict(rows.fetchall())


def job(conn: Connection, job_id: int) -> Row:
    """The row of a job, live or finished; `at` says which table it lies in."""
    with conn.cursor(row_factory=dict_row) as rows:
        live = rows.execute("select 'jobs' as at, j.* from jobrunner.jobs j where j.id = %s", [job_id]).fetchall()
        over = rows.execute(
            "select 'finished_jobs' as at, f.* from jobrunner.finished_jobs f where f.id = %s", [job_id]
        ).fetchall()
    found = live + over
    assert len(found) == 1, f"job {job_id} is in {len(found)} places"
    return found[0]


def state(conn: Connection, job_id: int) -> str:
    """Its state, with what it is blocked on: "ready", "blocked/key"."""
    row = job(conn, job_id)
    return f"blocked/{row['blocked_on']}" if row["state"] == "blocked" else str(row["state"])


def replace(conn: Connection, function: str, *changes: tuple[str, str]) -> None:
    """Makes a mutant: the text of a function with each (old, new) changed; every old text must be there."""
    body = str(text(f"functions/{function}.sql"))
    for old, new in changes:
        assert old in body, f"{function} no longer has {old!r}: the mutant needs a new text"
        body = body.replace(old, new)
    conn.execute(body)
