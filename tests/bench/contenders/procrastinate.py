"""procrastinate: its own worker (not our front end for it), ten jobs at once."""

from __future__ import annotations

from tests.bench import peers
from tests.bench.rounds import Contender
from tests.bench.server import Database

NAME = "procrastinate"
CONCURRENCY = 10
"""Of 1 to 30 the fastest, with a pool of as many connections."""
SHARE = 20
CHUNK = 5_000
"""Calls in one statement of a bulk enqueue."""


def _install() -> str:
    peers.python(NAME)
    return peers.pinned(NAME, "procrastinate", "==")


def _create(database: Database) -> None:
    schema = peers.call([peers.python(NAME), peers.HERE / "procrastinate_worker.py", "schema"], database)
    with database.connect() as conn:
        conn.execute("set client_min_messages = warning")
        conn.execute(schema.encode())


def _fill(database: Database, jobs: int) -> None:
    _create(database)
    with database.connect() as conn:
        conn.execute(
            """
            insert into procrastinate_jobs (queue_name, task_name, args)
            select 'bench', 'noop', jsonb_build_object('n', n)
            from generate_series(1, %s) n
            """,
            [jobs],
        )


def _drain(database: Database, jobs: int, concurrency: int = CONCURRENCY, milliseconds: int = 0) -> float:
    program = [peers.python(NAME), peers.HERE / "procrastinate_worker.py", "drain", concurrency, milliseconds]
    peers.call(program, database)
    return took(database, jobs)


def took(database: Database, jobs: int) -> float:
    """The seconds from the first start to the last success of *jobs* jobs; sees that nothing is left."""
    with database.connect() as conn:
        row = conn.execute(
            """
            select
                count(*) filter (where type = 'succeeded'),
                extract(epoch from max(at) filter (where type = 'succeeded') - min(at) filter (where type = 'started')),
                (select count(*) from procrastinate_jobs where status <> 'succeeded')
            from procrastinate_events
            """
        ).fetchone()
    assert row is not None
    if row[0] != jobs or row[2] != 0:
        raise RuntimeError(f"procrastinate settled {row[0]} of {jobs} jobs and left {row[2]}")
    return float(row[1])


CONTENDER = Contender(
    name=NAME,
    how=(
        f"run_worker_async(wait=False, concurrency={CONCURRENCY}, listen_notify=False) of one process, pool of 10, "
        f"uvloop, async task, jobs kept; 1/{SHARE} of the jobs (its rate was the same with 3,000, 20,000 and 200,000); "
        "from the first 'started' to the last 'succeeded' row of procrastinate_events"
    ),
    install=_install,
    prepare=_fill,
    measure=_drain,
    share=SHARE,
)


def busy(slots: int, milliseconds: int) -> Contender:
    """So many concurrent jobs whose handlers take so long."""
    return Contender(
        name=NAME,
        how="run_worker_async(concurrency=slots), pool of 10, handlers in asyncio.sleep; times as in the drain",
        install=_install,
        prepare=_fill,
        measure=lambda database, jobs: _drain(database, jobs, slots, milliseconds),
        share=SHARE // 2,
    )


def _enqueue(database: Database, jobs: int) -> float:
    program = [peers.python(NAME), peers.HERE / "procrastinate_worker.py", "enqueue", str(jobs), str(CHUNK)]
    seconds = float(peers.call(program, database))
    database.expect("procrastinate_jobs", jobs)
    return seconds


ENQUEUE = Contender(
    name=NAME,
    how=f"task.batch_defer_async of {CHUNK} at a time, on its own pool: each batch is a transaction",
    install=_install,
    prepare=lambda database, jobs: _create(database),
    measure=_enqueue,
)
