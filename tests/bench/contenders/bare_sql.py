"""bare_sql: jobrunner's own claim and settle statements in a bare loop, without handlers: what the database allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from threading import Thread
from typing import Any, LiteralString

import psycopg

from jobrunner.store.migrate import migrate
from jobrunner.worker.settler import BATCH as SETTLE
from jobrunner.worker.slots import BATCH as CLAIM
from tests.bench.rounds import Contender
from tests.bench.server import Database

NAME = "bare_sql"
RUNNER = 1

REGISTER = """
select jobrunner.register_v1(
    %s, '30 s', 10, 'bench', '', 0, '', null,
    '[{"name": "bench.noop", "version": 1, "queue": "default", "priority": 0, "max_attempts": 10, "retry": {}}]'
)
"""
CLAIMED: LiteralString = """
select id, task, version, queue, priority, seq, attempt, failures, crashes, max_attempts, key, args, headers, run_at,
    created_at, started_at
from jobrunner.claim_v1(
    %s, %s, array['default'], array[0::smallint], array[%s::bigint], array['bench.noop'], array[1::smallint]
)
"""
FINISHED: LiteralString = "select jobrunner.finish_v1(%s, %s, %s)"


def fill(database: Database, jobs: int, *, task: str = "bench.noop", n: int | None = None) -> None:
    """The schema and that many ready jobs of the task, in one queue; their argument is *n*, or they are numbered."""
    with database.connect() as conn:
        migrate(conn)
    insert(database, jobs, task=task, n=n)


def insert(database: Database, jobs: int, *, task: str = "bench.noop", n: int | None = None) -> None:
    """That many more ready jobs."""
    with database.connect() as conn:
        conn.execute(
            """
            insert into jobrunner.jobs (task, args)
            select %s, jsonb_build_object('n', coalesce(%s, n))
            from generate_series(1, %s) n
            """,
            [task, n, jobs],
        )


def took(database: Database, jobs: int) -> float:
    """The seconds from the first claim to the last settled row of the newest *jobs* jobs; sees that nothing is left."""
    with database.connect() as conn:
        row = conn.execute(
            """
            select
                count(*),
                extract(epoch from max(finished_at) - min(started_at)),
                (select count(*) from jobrunner.jobs)
            from jobrunner.finished_jobs
            where id > (select last_value from jobrunner.jobs_id_seq) - %s
            """,
            [jobs],
        ).fetchone()
    assert row is not None
    if row[0] != jobs or row[2] != 0:
        raise RuntimeError(f"{row[0]} of {jobs} jobs are settled and {row[2]} are left")
    return float(row[1])


def register(conn: psycopg.Connection[Any]) -> None:
    """The runner that claims."""
    conn.execute(REGISTER, [RUNNER])


def claim(conn: psycopg.Connection[Any]) -> Iterator[list[tuple[int, int]]]:
    """Claims everything that is ready: ids and attempts, by batches."""
    floor = 0  # the last seq claimed: right here, where nobody else writes
    while rows := conn.execute(CLAIMED, [RUNNER, CLAIM, floor]).fetchall():
        floor = max(row[5] for row in rows)
        yield [(row[0], row[6]) for row in rows]


def settle(conn: psycopg.Connection[Any], batches: Iterable[list[tuple[int, int]]]) -> None:
    """Settles what was claimed."""
    for batch in batches:
        for start in range(0, len(batch), SETTLE):
            ids, attempts = zip(*sorted(batch[start : start + SETTLE]), strict=True)
            conn.execute(FINISHED, [RUNNER, list(ids), list(attempts)])


def _drain(database: Database, jobs: int) -> float:
    claimed: SimpleQueue[list[tuple[int, int]] | None] = SimpleQueue()
    settler = Thread(target=_settle, args=(database, claimed))
    with database.connect() as conn:
        register(conn)
        settler.start()
        for batch in claim(conn):
            claimed.put(batch)
        claimed.put(None)
        settler.join()
    return took(database, jobs)


def _settle(database: Database, claimed: SimpleQueue[list[tuple[int, int]] | None]) -> None:
    with database.connect() as conn:
        settle(conn, iter(claimed.get, None))


CONTENDER = Contender(
    name=NAME,
    how=(
        f"claim_v1 of {CLAIM} and finish_v1 of {SETTLE} in a loop, each on a connection and thread of its own, no "
        "handlers; history kept; from the first started_at to the last finished_at in finished_jobs"
    ),
    install=lambda: "this checkout",
    prepare=fill,
    measure=_drain,
)
