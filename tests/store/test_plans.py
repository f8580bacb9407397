"""Promise 7, as PostgreSQL counts it: no hot call reads more than it returns, whatever the statistics say."""

from __future__ import annotations

from typing import LiteralString

import pytest
from psycopg.types.json import Jsonb

from tests.store import calls
from tests.store.calls import TASK, Connection, column, enqueue, fill, register
from tests.store.plans import CLAIM, Touched, autovacuum_off, touched

FULL = 100_000
BATCH = 100

CALLS: dict[str, tuple[LiteralString, int, set[str]]] = {
    "claim": (CLAIM.replace("%s", "0"), 3, {"jobs_ready", "jobs_pkey"}),
    "finish": ("select jobrunner.finish_v1(2, %(plain)s, %(attempts)s)", 3, {"jobs_pkey"}),
    "settle": ("select jobrunner.settle_v1(2, %(failed)s)", 6, {"jobs_pkey", "jobs_waiting"}),
    "settle keyed": ("select jobrunner.settle_v1(2, %(keyed)s)", 12, {"jobs_pkey", "jobs_waiting", "jobs_holding"}),
    "depart": ("select jobrunner.depart_v1(%(ended)s)", 6, {"jobs_pkey", "jobs_waiting", "jobs_holding"}),
    "sweep": ("select jobrunner.sweep_v1(100)", 8, {"jobs_pkey", "jobs_ended", "jobs_waiting", "jobs_holding"}),
    "promote": ("select jobrunner.promote_v1(100)", 3, {"jobs_due", "jobs_pkey"}),
    "seat": ("select jobrunner.seat_v1(100)", 13, {"jobs_arrived", "jobs_holding", "jobs_waiting", "jobs_pkey"}),
    "tick, nothing new": (
        "select jobrunner.tick_v1(array['default'], array[0::smallint], true, null, 1000000000000, 'infinity')",
        1,
        {"jobs_ready", "jobs_due", "jobs_arrived"},
    ),
    "give back": (
        "select jobrunner.give_back_v1(100)",
        8,
        {"jobs_running", "jobs_pkey", "jobs_holding", "jobs_waiting"},
    ),
    "crashed": (  # it gives back all that a runner holds: ten batches here
        "select jobrunner.crashed_v1(2)",
        90,
        {"jobs_running", "jobs_pkey", "jobs_holding", "jobs_waiting"},
    ),
    "park": ("select jobrunner.park_v1('strange', 100)", 4, {"jobs_ready", "jobs_pkey"}),
    "unpark": (
        "select jobrunner.unpark_v1(array['shop.s1'], array[1::smallint], 100)",
        4,
        {"jobs_parked", "jobs_pkey"},
    ),
    "beat": ("select jobrunner.beat_v1(1, 1, true)", 1, {"jobs_pkey"}),
    "fence": ("select jobrunner.fence_v1(2, %(one)s, 1)", 1, {"jobs_pkey"}),
    "finish in place": ("select jobrunner.finish_in_place_v1(2, %(one)s, 1)", 1, {"jobs_pkey"}),
    "verdict": ("select jobrunner.verdict_v1(2, %(plain)s, %(attempts)s)", 3, {"jobs_pkey"}),
    "adopt": ("select jobrunner.adopt_v1(2, 9, %(plain)s, %(attempts)s)", 3, {"jobs_pkey"}),
    "enqueue": ("select jobrunner.enqueue('shop.t', unique_key => 'taken')", 1, {"jobs_pkey"}),
    "cancel": ("select jobrunner.op_cancel(%(waiting)s)", 25, {"jobs_pkey", "jobs_holding", "jobs_waiting"}),
    "cancel what runs": ("select jobrunner.op_cancel(%(plain)s)", 8, {"jobs_pkey", "jobs_holding", "jobs_waiting"}),
    "requeue": ("select jobrunner.op_requeue(%(dead)s)", 5, {"jobs_pkey"}),
    "discard": ("select jobrunner.op_discard(%(dead)s)", 16, {"jobs_pkey", "jobs_holding", "jobs_waiting"}),
    "retry now": ("select jobrunner.op_retry_now(%(later)s)", 4, {"jobs_pkey"}),
    "why": ("select jobrunner.why(%(dead_one)s)", 1, {"jobs_pkey"}),
}
"""The call, how many times its batch one index may give (it has up to 15 statements), and the only indexes it may use."""


def _everything(conn: Connection, many: int) -> dict[str, object]:
    """*many* jobs in every state, and the arguments of the calls."""
    register(conn)
    register(conn, 2)
    register(conn, 3)
    fill(conn, many)
    fill(conn, many // 5, "shop.s1", "strange")
    conn.execute(
        """insert into jobrunner.jobs (task, key, state, blocked_on)
           select 'shop.t', 'k' || n / 10, 'blocked', 'arrival' from generate_series(1, %(n)s) n;""",
        {"n": many // 5},
    )
    calls.seat(conn, 1000)
    for state, columns, values, count in (
        ("scheduled", "run_at", "now() + (n - 1000) * interval '1 s'", many),
        ("blocked", "blocked_on", "'task'", many),
        ("dead", "finished_at", "now()", many),
        ("running", "runner_id", "3", many // 10),
        ("running", "runner_id", "2", min(many, 1000)),
    ):
        task = "shop.s1" if columns == "blocked_on" else TASK
        conn.execute(
            f"""insert into jobrunner.jobs (task, state, attempt, {columns})
                select %s, %s, 1, {values} from generate_series(1, %s) n""",
            [task, state, count],
        )
    conn.execute("update jobrunner.jobs set state = 'running', runner_id = 2, attempt = 1 where holds_key")
    conn.execute(
        """update jobrunner.jobs set state = 'succeeded', finished_at = now(), runner_id = null
           where id = any (array(select id from jobrunner.jobs where holds_key order by id limit 50))"""
    )
    conn.execute(
        """insert into jobrunner.cancel_requests (job_id, actor)
           select id, 'ann' from jobrunner.jobs where state = 'scheduled' order by id limit 20"""
    )
    calls.lose(conn, 3)
    calls.mark_lost(conn)
    enqueue(conn, unique_key="taken")
    plain = column(conn, "select id from jobrunner.jobs where runner_id = 2 and key is null limit 100")
    keyed = column(conn, "select id from jobrunner.jobs where runner_id = 2 and key is not null limit 50")
    dead = column(conn, "select id from jobrunner.jobs where state = 'dead' order by id desc limit 100")
    failed = {"attempt": 1, "delay": 1, "failed": True, "outcome": "failed"}
    return {
        "plain": plain,
        "one": plain[0] if plain else 1,
        "attempts": [1] * len(plain),
        "failed": Jsonb([{"id": job_id, "state": "scheduled", **failed} for job_id in plain]),
        "keyed": Jsonb([{"id": job_id, "attempt": 1, "state": "succeeded"} for job_id in keyed]),
        "ended": column(conn, "select id from jobrunner.jobs where state = 'succeeded'"),
        "dead": dead,
        "dead_one": dead[0] if dead else 1,
        "later": column(conn, "select id from jobrunner.jobs where state = 'scheduled' order by id desc limit 100"),
        "waiting": [
            *column(conn, "select id from jobrunner.jobs where state = 'ready' limit 50"),
            *column(conn, "select id from jobrunner.jobs where state = 'scheduled' limit 50"),
        ],
    }  # fmt: skip


@pytest.mark.pg16
@pytest.mark.parametrize(
    "planned",
    [
        "on what is there",
        "on an empty table",
        "on a full table that is small now",
        "after a few jobs came and went",
    ],
)
def test_every_hot_call_reads_by_its_index_and_no_more_than_its_batch_needs(conn: Connection, planned: str) -> None:
    autovacuum_off(conn)
    if planned == "on an empty table":
        conn.execute("analyze")
        _plan(conn, _everything(conn, 0))
        conn.execute(EMPTY)
    if planned == "on a full table that is small now":
        _everything(conn, FULL // 5)
        conn.execute("analyze")
        conn.execute(EMPTY)
    if planned == "after a few jobs came and went":  # a page and no row: a scan of it costs next to nothing
        fill(conn, 20)
        calls.enqueue(conn, key="k")
        calls.seat(conn)
        conn.execute("delete from jobrunner.jobs")
        conn.execute("analyze")
    arguments = _everything(conn, FULL // 50 if planned == "on a full table that is small now" else FULL // 2)
    if planned == "on what is there":
        conn.execute("analyze")

    wrong: dict[str, Touched] = {}
    for name, (statement, times, indexes) in CALLS.items():
        for _ in range(7):  # from the sixth on, PostgreSQL may keep a plan
            read = touched(conn, statement, arguments, keep=False)
            if read.seq_scans or read.entries.keys() - indexes or read.most > times * BATCH:
                wrong[name] = read
                break
    assert wrong == {}


EMPTY: LiteralString = (
    "truncate jobrunner.jobs, jobrunner.runners, jobrunner.runner_tasks, jobrunner.tasks, jobrunner.unique_keys"
)


def _plan(conn: Connection, arguments: dict[str, object]) -> None:
    """Makes the session keep plans of today."""
    for statement, _, _ in CALLS.values():
        for _ in range(7):
            touched(conn, statement, arguments, keep=False)


PLANNER: LiteralString = """set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
set jit = off
"""


@pytest.mark.parametrize(("function", "call"), [("claim_v1", "claim")])
def test_without_its_settings_a_call_reads_the_whole_table_on_old_statistics(
    conn: Connection, function: str, call: str
) -> None:
    """The mutant of the test above: on a large table such a plan ran for minutes."""
    autovacuum_off(conn)
    calls.replace(conn, function, (PLANNER, ""))
    _everything(conn, FULL // 5)
    conn.execute("analyze")
    conn.execute(EMPTY)
    arguments = _everything(conn, FULL // 50)

    statement, times, _ = CALLS[call]
    read = touched(conn, statement, arguments, keep=False)

    assert read.seq_scans > 0 or read.most > times * BATCH, read
