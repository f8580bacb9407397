"""Promise 7 for events, as PostgreSQL counts it: no call reads more than its batch needs, whatever the statistics say."""

from __future__ import annotations

from typing import Any, LiteralString

import pytest

from tests.conftest import Connect
from tests.store import calls
from tests.store.calls import Connection, column, register, value
from tests.store.log import advance, publish, read, sequence, subscribe
from tests.store.plans import Touched, touched

FULL = 100_000
BATCH = 100
TABLES = ("jobrunner.jobs", "jobrunner.outbox", "jobrunner.events")
QUEUED = ("shop.a", "shop.b", "shop.ordered")

CALLS: dict[str, tuple[LiteralString, int, int]] = {
    "publish": ("select jobrunner.publish('order.paid', '{}', key => 'k')", 0, 1),
    "sequence": ("select jobrunner.sequence_v1(100)", 4, 40),
    "does anything wait": ("select jobrunner.outbox_waits_v1(0)", 1, 1),
    "head": ("select jobrunner.log_head()", 8, 8),
    "position at": ("select jobrunner.position_at(%(at)s)", 4, 300),
    "load deliveries": ("select jobrunner.load_deliveries_v1(%(deliveries)s)", 2, 4),
    "stream batch": ("select jobrunner.stream_batch_v1('shop.feed', 100)", 2, 8),
    "advance": ("select jobrunner.advance_stream_v1('shop.feed', %(half)s, %(half)s + 100)", 1, 20),
    "pump": ("select jobrunner.pump_v1('shop.feed')", 1, 8),
    "walk": ("select jobrunner.replay_step_v1(100, false, 100)", 20, 30),
    "last step of a walk": ("select jobrunner.replay_step_v1(100, true, 100)", 20, 30),
    "register": ('select jobrunner.subscribe_v1(\'shop.new\', \'shop\', \'{"types": ["#"], "queue": "q"}\', 0)', 1, 20),
}
"""The call, how many times its batch one index may give (what was rolled back is read again), and the blocks a row may cost."""


def _everything(conn: Connection, many: int) -> dict[str, Any]:
    """*many* events in the log, in the outbox, and open deliveries; and the arguments of the calls."""
    register(conn)
    conn.execute("select jobrunner.make_partitions(now() - interval '1 day', 1)")
    conn.execute(
        """insert into jobrunner.events (
               position, recorded_at, xact, occurred_at, event_id, version, type, source, key, data, headers
           )
           select
               n, now() - interval '1 s' + n * interval '1 us', 1, now(), gen_random_uuid(), 1, 'order.paid', '', 'k' || n %% 100,
               '{}', '{}'
           from generate_series(1, %s) n""",
        [many],
    )
    for name in QUEUED:
        subscribe(conn, name, ordered=name == "shop.ordered", queue="deliveries")
    subscribe(conn, "shop.feed", mode="stream", after=many // 2, queue="deliveries")
    subscribe(conn, "shop.behind", after=many // 2, ordered=True, queue="deliveries")
    conn.execute("update jobrunner.replays set at_position = greatest(upto - 50, 0)")
    conn.execute("select jobrunner.op_replay('shop.a', 10)")
    conn.execute(
        """insert into jobrunner.jobs (task, queue, args)
           select 'shop.b', 'deliveries', jobrunner.delivery_args(e.position, e.recorded_at, e.type) from jobrunner.events e"""
    )
    conn.execute(
        """insert into jobrunner.jobs (task, queue, key, state, blocked_on, key_pos, args)
           select 'shop.ordered', 'deliveries', 'shop.ordered ' || e.key, 'blocked', 'key', e.position, '{}' from jobrunner.events e
           where e.position % 5 = 0"""
    )
    calls.fill(conn, many // 5)
    conn.execute(
        """insert into jobrunner.outbox (event_id, version, type, source, key, data, headers)
           select gen_random_uuid(), 1, 'order.paid', '', 'k' || n %% 100, '{}', '{}' from generate_series(1, %s) n""",
        [many],
    )
    deliveries = column(
        conn,
        """select jobrunner.delivery_args(position, recorded_at, type)::text from jobrunner.events
           where position %% %s = 1 limit 100""",
        max(many // 100, 1),
    )
    return {
        "half": many // 2,
        "deliveries": deliveries,
        "at": value(conn, "select min(recorded_at) + interval '777 us' from jobrunner.events"),
    }


EMPTY: LiteralString = """
truncate jobrunner.jobs, jobrunner.events, jobrunner.outbox, jobrunner.replays, jobrunner.subscriptions, jobrunner.cursors,
    jobrunner.runners, jobrunner.runner_tasks, jobrunner.tasks
"""


@pytest.mark.pg16
@pytest.mark.parametrize("planned", ["on what is there", "on empty tables", "on full tables that are small now"])
def test_every_call_about_events_reads_by_its_index_and_no_more_than_its_batch_needs(
    conn: Connection, planned: str
) -> None:
    for table in ("jobs", "outbox", "replays", "subscriptions"):
        conn.execute(f"alter table jobrunner.{table} set (autovacuum_enabled = off)")
    for partition in column(
        conn, "select inhrelid::regclass from pg_inherits where inhparent = 'jobrunner.events'::regclass"
    ):
        conn.execute(f"alter table {partition} set (autovacuum_enabled = off)")
    if planned == "on empty tables":
        conn.execute("analyze")
        _plan(conn, _everything(conn, 0))
        conn.execute(EMPTY)
    if planned == "on full tables that are small now":
        _everything(conn, FULL // 5)
        conn.execute("analyze")
        conn.execute(EMPTY)
    arguments = _everything(conn, {"on what is there": FULL, "on empty tables": FULL // 5}.get(planned, FULL // 50))
    if planned == "on what is there":
        conn.execute("analyze")

    wrong: dict[str, Touched] = {}
    for name, (statement, times, blocks) in CALLS.items():
        for _ in range(7):  # from the sixth on, PostgreSQL may keep a plan
            read = touched(conn, statement, arguments, keep=False, tables=TABLES)
            if read.seq_scans or read.most > times * BATCH or read.blocks > blocks * BATCH:
                wrong[name] = read
                break
    assert wrong == {}


def _plan(conn: Connection, arguments: dict[str, Any]) -> None:
    """Makes the session keep plans of today."""
    for statement, _, _ in CALLS.values():
        for _ in range(7):
            touched(conn, statement, arguments, keep=False)


def _one_by_one(conn: Connection, times: int) -> list[Touched]:
    """Events one by one, each recorded and read by a pump: what the recording of each read of the log and the outbox."""
    did: list[Touched] = []
    for _ in range(times):
        publish(conn)
        floor = value(conn, "select max(id) - 1 from jobrunner.outbox")
        did.append(touched(conn, "select jobrunner.sequence_v1(100, %s)", [floor], tables=TABLES[1:]))
        calls.seat(conn, floor=floor)
        [claimed] = calls.claim(conn, tasks={"shop.feed": 1}, floors=[floor])
        assert advance(conn, read(conn, "shop.feed"), "shop.feed")
        calls.settle(conn, 1, [claimed], "succeeded")
    return did


def test_a_step_costs_the_same_after_many_under_a_pinned_snapshot(conn: Connection, connect: Connect) -> None:
    """The head is read from the log: a row that each step updates would be slower with each."""
    register(conn)
    subscribe(conn)
    subscribe(conn, "shop.feed", mode="stream")
    pin = connect(autocommit=False)
    pin.execute("set transaction isolation level repeatable read")
    pin.execute("select 1")

    first = _one_by_one(conn, 20)
    _one_by_one(conn, 150)
    last = _one_by_one(conn, 20)

    assert max(it.most for it in last) <= max(it.most for it in first)
    assert sum(it.blocks for it in last) <= 1.2 * sum(it.blocks for it in first)


def test_a_pump_that_runs_is_found_without_walking_over_those_before_it(conn: Connection, connect: Connect) -> None:
    register(conn)
    subscribe(conn, "shop.feed", mode="stream")
    pin = connect(autocommit=False)
    pin.execute("set transaction isolation level repeatable read")
    pin.execute("select 1")
    _one_by_one(conn, 50)
    publish(conn)
    sequence(conn)
    calls.seat(conn)
    assert len(calls.claim(conn, tasks={"shop.feed": 1})) == 1

    assert touched(conn, "select jobrunner.pump_v1('shop.feed')").most <= 5


@pytest.mark.parametrize("function", ["sequence_v1"])
def test_without_its_settings_a_call_reads_a_whole_table_on_old_statistics(conn: Connection, function: str) -> None:
    """The mutant of the test above."""
    settings: LiteralString = """set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
"""
    calls.replace(conn, function, (settings, ""))
    _everything(conn, FULL // 5)
    conn.execute("analyze")
    conn.execute(EMPTY)
    arguments = _everything(conn, FULL // 50)

    call = {"sequence_v1": "sequence", "load_deliveries_v1": "load deliveries"}[function]
    read_ = touched(conn, CALLS[call][0], arguments, keep=False, tables=TABLES)

    assert read_.seq_scans > 0 or read_.most > CALLS[call][1] * BATCH, read_
