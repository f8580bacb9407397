"""pgqueuer: one QueueManager in drain mode, a batch of 500, over asyncpg and uvloop."""

from __future__ import annotations

from typing import Any

import psycopg

from tests.bench import peers
from tests.bench.rounds import Contender
from tests.bench.server import Database
from tests.bench.starts import Starter

NAME = "pgqueuer"
BATCH = 500
"""Of 100 to 5000 the fastest; a pool, several managers in the process and psycopg were not faster."""

CHUNK = 5_000
"""Calls in one statement of a bulk enqueue."""


def _install() -> str:
    peers.python(NAME)
    return peers.pinned(NAME, "pgqueuer", "==")


def _create(database: Database) -> None:
    schema = peers.call([peers.python(NAME), "-m", "pgqueuer", "sql", "install"], database)
    with database.connect() as conn:
        conn.execute(schema.encode())


INSERT = """
with queued as (
    insert into pgqueuer (priority, status, entrypoint, payload)
    select 0, 'queued', %s, convert_to(json_build_object('n', n)::text, 'utf8')
    from generate_series(%s::int, %s::int) n
    returning id, status, entrypoint, priority
)
insert into pgqueuer_log (job_id, status, entrypoint, priority)
select id, status, entrypoint, priority
from queued
"""


def _fill(database: Database, jobs: int) -> None:
    _create(database)
    with database.connect() as conn:
        conn.execute(INSERT, ["noop", 1, jobs])


def _drain(database: Database, jobs: int, batch: int = BATCH, most: int = 0, milliseconds: int = 0) -> float:
    program = [peers.python(NAME), peers.HERE / "pgqueuer_worker.py", "drain", batch, most, milliseconds]
    peers.call(program, database)
    with database.connect() as conn:
        row = conn.execute(
            """
            select
                count(distinct job_id) filter (where status = 'successful'),
                extract(epoch from
                    max(created) filter (where status = 'successful') - min(created) filter (where status = 'picked')
                ),
                (select count(*) from pgqueuer)
            from pgqueuer_log
            """
        ).fetchone()
    assert row is not None
    if row[0] != jobs or row[2] != 0:
        raise RuntimeError(f"pgqueuer settled {row[0]} of {jobs} jobs and left {row[2]}")
    return float(row[1])


CONTENDER = Contender(
    name=NAME,
    how=(
        f"PgQueuer.run(batch_size={BATCH}, mode=drain) of one process on asyncpg and uvloop, async entrypoint that "
        "decodes its JSON payload, durable tables, history in its log; from the first 'picked' to the last "
        "'successful' row of that log"
    ),
    install=_install,
    prepare=_fill,
    measure=_drain,
)


def busy(slots: int, milliseconds: int) -> Contender:
    """So many concurrent tasks whose handlers take so long."""
    return Contender(
        name=NAME,
        how=(
            "PgQueuer.run(max_concurrent_tasks=slots, batch_size=slots // 2, the largest that it allows, mode=drain), "
            "handlers in asyncio.sleep; times as in the drain"
        ),
        install=_install,
        prepare=_fill,
        measure=lambda database, jobs: _drain(database, jobs, slots // 2, slots, milliseconds),
    )


def _enqueue(database: Database, jobs: int) -> float:
    program = [peers.python(NAME), peers.HERE / "pgqueuer_worker.py", "enqueue", str(jobs), str(CHUNK)]
    seconds = float(peers.call(program, database))
    database.expect("pgqueuer", jobs)
    return seconds


ENQUEUE = Contender(
    name=NAME,
    how=f"Queries.enqueue of lists of {CHUNK}, payloads by json.dumps, on asyncpg and uvloop, one transaction",
    install=_install,
    prepare=lambda database, jobs: _create(database),
    measure=_enqueue,
)


def _write(conn: psycopg.Connection[Any], n: int) -> None:
    conn.execute(INSERT, ["stamp", n, n])


START = Starter(
    name=NAME,
    how="the INSERT of its Queries.enqueue; PgQueuer.run() with every setting as it comes, which listens",
    install=_install,
    prepare=_create,
    command=lambda jobs: [peers.python(NAME), peers.HERE / "pgqueuer_worker.py", "stamps", str(jobs)],
    write=_write,
)
