"""What psql shows of jobs, runners, queues and tables: each view on states that the functions of production made."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from psycopg.rows import dict_row

from tests.conftest import Connect
from tests.store import calls, log
from tests.store.calls import (
    TASK,
    Connection,
    Row,
    claim,
    column,
    enqueue,
    finish,
    give_back,
    job,
    lose,
    mark_lost,
    register,
    seat,
    settle,
)
from tests.support import wait_until

pytestmark = pytest.mark.pg16

PAYLOADS = {"args", "headers", "data", "state_data", "compensation", "retry", "match"}
OUTSIDE = {"v_job": {"result"}}
"""Columns that hold payloads, and are empty for who may not read them."""

MINUTE = timedelta(minutes=1)


@pytest.fixture
def conn(tx: Connection) -> Connection:
    """Nothing here needs a commit or a second session, but what says so."""
    return tx


def rows(conn: Connection, view: str, where: str = "true", *args: object) -> list[Row]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"select * from jobrunner.{view} where {where}", args).fetchall()


def row(conn: Connection, view: str, where: str = "true", *args: object) -> Row:
    found = rows(conn, view, where, *args)
    assert len(found) == 1, found
    return found[0]


def fields(found: Row, *names: str) -> tuple[Any, ...]:
    return tuple(found[name] for name in names)


def fail(conn: Connection, state: str = "dead", *, error: str = "ValueError: no", **more: object) -> list[int]:
    """All that is ready starts and fails: dead, or scheduled for another try."""
    kind, _, message = error.partition(": ")
    claims = claim(conn)
    settle(conn, 1, claims, state, failed=True, outcome="failed", error=error, error_type=kind, message=message, **more)
    return [one.id for one in claims]


def near(found: timedelta, minutes: float) -> bool:
    """Whether it is so long, but for what the test took; the time of a transaction stands still."""
    return abs(found - minutes * MINUTE) < MINUTE / 2


def age(conn: Connection, job_id: int, by: str) -> None:
    """As if the job had been written *by* earlier."""
    conn.execute(
        "update jobrunner.jobs set run_at = run_at - %(by)s::interval, created_at = created_at - %(by)s::interval, "
        "started_at = started_at - %(by)s::interval, finished_at = finished_at - %(by)s::interval where id = %(id)s",
        {"by": by, "id": job_id},
    )


# ------------------------------------------------------------------------------------------------- all of them
def test_no_view_has_a_column_for_a_payload(conn: Connection) -> None:
    columns = conn.execute(
        "select table_name, column_name from information_schema.columns "
        "where table_schema = 'jobrunner' and starts_with(table_name, 'v_')"
    ).fetchall()

    assert len({view for view, _ in columns}) > 25
    for view, name in columns:
        assert name not in (PAYLOADS | {"result"}) - OUTSIDE.get(view, set()), f"{view}.{name}"


def test_names_compare_by_bytes_as_in_the_tables(conn: Connection) -> None:
    """Another collation would keep a comparison with a column of a table from its index."""
    loose = conn.execute(
        """select c.relname, a.attname from pg_attribute a
           join pg_class c on c.oid = a.attrelid
           join pg_collation o on o.oid = a.attcollation
           where c.relnamespace = 'jobrunner'::regnamespace and c.relkind = 'v' and a.attnum > 0 and o.collname <> 'C'
               and a.attname in ('state', 'queue', 'task', 'key', 'subject', 'blocked_on')
               and c.relname = any (%s)""",
        [
            [
                "v_job",
                "v_queue",
                "v_front",
                "v_ready_next",
                "v_running",
                "v_retrying",
                "v_dead",
                "v_scheduled",
                "v_stuck",
            ]
        ],
    ).fetchall()

    assert loose == []


# ----------------------------------------------------------------------------------------------------- one job
def test_a_job_is_the_same_row_live_and_over(conn: Connection) -> None:
    register(conn)
    job_id = enqueue(conn, subject="order:42", unique_key="u", args={"secret": 1})
    conn.execute(
        "insert into jobrunner.job_progress (job_id, total, processed, message) values (%s, 10, 4, 'half')", [job_id]
    )
    live = row(conn, "v_job", "id = %s", job_id)
    claimed = claim(conn)
    conn.execute("select jobrunner.op_cancel(array[%s], 'ann')", [job_id])
    asked = row(conn, "v_job", "id = %s", job_id)
    settle(conn, 1, claimed, "succeeded", result={"n": 3})
    over = row(conn, "v_job", "id = %s", job_id)

    told = ("queue", "task", "subject", "total", "processed", "message")
    assert fields(live, "state", "unique_key", *told) == ("ready", "u", "default", TASK, "order:42", 10, 4, "half")
    assert fields(asked, "state", "unique_key", "cancel_requested_by") == ("running", None, "ann")
    assert fields(over, *told) == fields(live, *told)
    assert fields(over, "state", "blocked_on", "holds_key", "result") == ("succeeded", None, False, {"n": 3})
    assert over["progress_since"] is not None


def test_a_page_of_jobs_reads_no_more_rows_than_it_shows(conn: Connection) -> None:
    calls.fill(conn, 5000)
    register(conn)
    finish(conn, 1, claim(conn, n=2000))

    plan = "\n".join(
        column(conn, "explain (analyze, costs off, timing off) select * from jobrunner.v_job order by id desc limit 20")
    )

    assert "Merge Append" in plan, plan
    assert "Seq Scan on jobs" not in plan
    assert "Sort Method" not in plan


def test_the_starts_and_the_causes_of_a_job(conn: Connection) -> None:
    register(conn)
    job_id = enqueue(conn, subject="order:42")
    fail(conn, "scheduled", delay=60)

    assert fields(row(conn, "v_attempt", "job_id = %s", job_id), "attempt", "outcome", "error_type", "message") == (
        1, "failed", "ValueError", "no",
    )  # fmt: skip
    assert [one["job_id"] for one in rows(conn, "v_job_link", "subject = 'order:42'")] == [job_id]


# ------------------------------------------------------------------------------------------------------ queues
def test_a_queue_counts_every_state_and_who_reads_it(conn: Connection) -> None:
    register(conn)
    register(conn, 2)
    conn.execute("update jobrunner.runners set queues = array['mail'] where id = 2")
    dead, retried, late = enqueue(conn), enqueue(conn), enqueue(conn)
    fail(conn)
    conn.execute("select jobrunner.op_requeue(%s)", [[retried, late]])
    age(conn, late, "3 min")
    conn.execute("select jobrunner.op_reschedule(%s, now() + interval '1 hour')", [[retried]])
    conn.execute("update jobrunner.jobs set failures = 1 where id = %s", [retried])
    enqueue(conn, delay="1 hour")
    enqueue(conn, key="k")
    enqueue(conn, "shop.other", queue="empty")
    conn.execute("select jobrunner.op_pause('still', 'ann', 'the printer is on fire')")
    running = claim(conn, n=1)
    found = {one["queue"]: one for one in rows(conn, "v_queue")}

    assert set(found) == {"default", "empty", "still"}
    assert fields(found["default"], "ready", "scheduled", "retrying", "blocked", "running", "dead") == (
        0,
        1,
        1,
        1,
        1,
        1,
    )
    assert fields(found["default"], "runners", "slots", "oldest_ready_age") == (1, 10, None)
    assert fields(found["empty"], "ready", "runners") == (1, 1)
    assert found["empty"]["oldest_ready_age"] < MINUTE
    assert fields(found["still"], "paused_by", "pause_reason", "ready") == ("ann", "the printer is on fire", 0)
    assert dead != running[0].id
    lose(conn, 1)
    assert row(conn, "v_queue", "queue = 'default'")["runners"] == 0


def test_the_front_of_a_queue_is_its_next_job(conn: Connection) -> None:
    enqueue(conn)
    first = enqueue(conn, priority=5)
    mail = enqueue(conn, queue="mail")
    age(conn, mail, "3 min")
    conn.execute("select jobrunner.op_pause('mail', 'ann')")
    found = {one["queue"]: one for one in rows(conn, "v_front")}

    assert {queue: one["id"] for queue, one in found.items()} == {"default": first, "mail": mail}
    assert found["default"]["paused_at"] is None
    assert found["mail"]["paused_at"] is not None
    assert near(found["mail"]["wait"], 3)


def test_what_runs_next_is_in_the_order_of_the_claim_and_says_what_keeps_it(conn: Connection) -> None:
    second, first = enqueue(conn), enqueue(conn, priority=5)
    strange = enqueue(conn, "shop.strange")
    mail = enqueue(conn, queue="mail")

    def kept() -> dict[int, str | None]:
        return {one["id"]: one["blocked_by"] for one in rows(conn, "v_ready_next")}

    assert kept() == dict.fromkeys((first, second, strange, mail), "no_runner")
    register(conn)
    conn.execute("update jobrunner.runners set queues = array['default']")
    assert kept() == {first: None, second: None, strange: "task_unknown", mail: "queue_unread"}
    assert [one["id"] for one in rows(conn, "v_ready_next", "queue = 'default' order by place")] == [
        first,
        second,
        strange,
    ]
    conn.execute("update jobrunner.runners set busy = slots")
    assert kept()[first] == "slots_busy"
    conn.execute("select jobrunner.op_pause('default', 'ann')")
    assert kept()[first] == "queue_paused"
    assert kept()[mail] == "queue_unread"
    conn.execute("select jobrunner.op_resume('default', 'ann'); update jobrunner.runners set busy = 0")
    assert [one.id for one in claim(conn, classes=[("default", 5), ("default", 0)])] == [first, second]


def test_a_ready_delivery_of_a_paused_subscription_says_so(conn: Connection) -> None:
    register(conn, tasks=["shop.ledger"])
    log.subscribe(conn, "shop.ledger")
    log.publish(conn)
    log.sequence(conn)
    conn.execute("select jobrunner.op_pause_subscription('shop.ledger', 'ann')")

    assert row(conn, "v_ready_next", "task = 'shop.ledger'")["blocked_by"] == "subscription_paused"


def test_only_the_next_hundred_of_a_queue_are_looked_at(conn: Connection) -> None:
    calls.fill(conn, 150)
    calls.fill(conn, 50, queue="mail")

    assert dict(conn.execute("select queue, max(place) from jobrunner.v_ready_next group by queue").fetchall()) == {
        "default": 100, "mail": 50,
    }  # fmt: skip


# -------------------------------------------------------------------------------------------- running and stuck
def test_what_runs_says_where_and_for_how_long(conn: Connection) -> None:
    register(conn, ttl="40 s")
    job_id = enqueue(conn)
    claim(conn)
    age(conn, job_id, "10 min")
    found = row(conn, "v_running")

    assert fields(found, "id", "runner", "host", "pid", "runner_state", "attempt") == (job_id, 1, "host", 7, "alive", 1)
    assert near(found["runtime"], 10)
    assert near(found["lease_left"], 2 / 3)
    assert found["cancel_requested_at"] is None
    conn.execute("select jobrunner.op_cancel(array[%s], 'ann')", [job_id])
    assert row(conn, "v_running")["cancel_requested_at"] is not None


def test_a_job_of_a_silent_runner_is_stuck_until_a_live_one_gives_it_back(conn: Connection) -> None:
    register(conn)
    job_id = enqueue(conn)
    claim(conn)
    assert rows(conn, "v_stuck") == []

    lose(conn, 1)
    assert fields(row(conn, "v_stuck"), "id", "reason", "runner", "host", "pid") == (
        job_id,
        "runner_silent",
        1,
        "host",
        7,
    )
    assert row(conn, "v_running")["lease_left"] < timedelta(0)
    mark_lost(conn)
    assert row(conn, "v_stuck")["reason"] == "runner_gone"
    register(conn, 2)
    give_back(conn)
    assert rows(conn, "v_stuck") == []


def test_what_no_runner_promotes_seats_or_lets_pass_is_stuck(conn: Connection) -> None:
    due, arrived = enqueue(conn, delay="1 hour"), enqueue(conn, key="a")
    fresh = enqueue(conn, key="fresh")
    age(conn, due, "62 min")
    age(conn, arrived, "2 min")
    assert {one["id"]: one["reason"] for one in rows(conn, "v_stuck")} == {due: "not_promoted", arrived: "not_seated"}

    calls.promote(conn)
    first, second, third = (enqueue(conn, key="k") for _ in range(3))
    seat(conn)
    assert rows(conn, "v_stuck") == []
    conn.execute("delete from jobrunner.jobs where id = %s", [first])
    assert {one["id"]: one["reason"] for one in rows(conn, "v_stuck")} == {second: "key_unheld"}
    assert {fresh, third} < set(column(conn, "select id from jobrunner.jobs"))


def test_a_line_of_a_key_is_told_with_who_holds_it(conn: Connection) -> None:
    register(conn)
    holder, waiting, _ = (enqueue(conn, key="k") for _ in range(3))
    enqueue(conn, key="alone")
    seat(conn)
    age(conn, waiting, "5 min")

    assert fields(row(conn, "v_key_waiting"), "key", "waiting", "holder", "holder_task", "holder_state") == (
        "k", 2, holder, TASK, "ready",
    )  # fmt: skip
    claim(conn)
    age(conn, holder, "3 min")
    found = row(conn, "v_key_waiting")
    assert found["holder_state"] == "running"
    assert near(found["holder_age"], 3)
    assert near(found["oldest_age"], 5)


# ------------------------------------------------------------------------------------------- failures and death
def test_a_retry_says_what_failed_and_when_it_is_due(conn: Connection) -> None:
    register(conn)
    enqueue(conn, delay="1 hour")
    job_id = enqueue(conn)
    fail(conn, "scheduled", delay=90, error="httpx.ConnectError: no route")

    found = row(conn, "v_retrying")
    assert fields(found, "id", "failures", "error_type", "error") == (
        job_id, 1, "httpx.ConnectError", "httpx.ConnectError: no route",
    )  # fmt: skip
    assert MINUTE < found["due_in"] <= timedelta(seconds=91)


def test_the_dead_are_grouped_by_what_they_died_of(conn: Connection) -> None:
    register(conn, tasks=[TASK, "shop.u"])
    told = [
        (TASK, "OSError: no route to 'mail-1' (port 25, try 3)"),
        (TASK, "OSError: no route to 'mail-22' (port 2525, try 14)"),
        (TASK, "OSError: no route to the moon"),
        (TASK, "KeyError: 3fa85f64-5717-4562-b3fc-2c963f66afa6"),
        (TASK, "KeyError: aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"),
        ("shop.u", "OSError: no route to 'mail-3' (port 1, try 1)"),
    ]
    ids = []
    for task, error in told:
        ids.append(enqueue(conn, task))
        claims = claim(conn, tasks={task: 1})
        settle(conn, 1, claims, "dead", failed=True, outcome="failed", reason="exhausted", error=error)
    ids.append(enqueue(conn))
    settle(conn, 1, claim(conn), "dead", reason="rejected")
    age(conn, ids[0], "2 hours")

    groups = {(one["task"], one["error"]): one for one in rows(conn, "v_dead_group")}
    assert {which: one["n"] for which, one in groups.items()} == {
        (TASK, "OSError: no route to … (port N, try N)"): 2,
        (TASK, "OSError: no route to the moon"): 1,
        (TASK, "KeyError: N"): 2,
        ("shop.u", "OSError: no route to … (port N, try N)"): 1,
        (TASK, "rejected"): 1,
    }
    outage = groups[TASK, "OSError: no route to … (port N, try N)"]
    assert fields(outage, "error_type", "sample_id") == ("OSError", ids[1])
    assert outage["last_at"] - outage["first_at"] > timedelta(minutes=119)
    assert len({one["fingerprint"] for one in groups.values()}) == 5
    assert {one["id"] for one in rows(conn, "v_dead", "fingerprint = %s", outage["fingerprint"])} == set(ids[:2])
    assert groups[TASK, "rejected"]["error_type"] is None


def test_a_fingerprint_stays_the_same_for_ever(conn: Connection) -> None:
    """People paste them into tickets."""
    register(conn)
    enqueue(conn)
    fail(conn, error="ValueError: no 7", reason="exhausted")

    assert fields(row(conn, "v_dead"), "fingerprint", "reason", "error_pattern") == (
        "2c5a75120129", "exhausted", "ValueError: no N",
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- load and past
def test_coming_load_is_by_the_minute_for_an_hour_and_then_by_the_hour(conn: Connection) -> None:
    conn.execute(
        """insert into jobrunner.jobs (state, task, run_at, failures, attempt)
           select 'scheduled', 'shop.t', date_trunc('hour', now()) + interval '2 hours' + n * interval '1 minute', n % 2, n % 2
           from generate_series(0, 9) n""",
    )
    soon = enqueue(conn, delay="10 min")
    enqueue(conn, delay="2 days")
    found = rows(conn, "v_scheduled", "true order by bucket_start")

    assert [fields(one, "n", "retrying") for one in found] == [(1, 0), (10, 5)]
    assert found[0]["bucket_start"] == job(conn, soon)["run_at"].replace(second=0, microsecond=0)
    assert (found[1]["bucket_start"].minute, found[1]["queue"], found[1]["task"]) == (0, "default", TASK)


def test_throughput_counts_every_end_of_the_last_hours_once(conn: Connection) -> None:
    register(conn)
    _, late = enqueue(conn), enqueue(conn)
    claims = claim(conn)
    conn.execute("update jobrunner.jobs set started_at = now() - interval '4 s', run_at = now() - interval '10 s'")
    finish(conn, 1, claims)
    conn.execute("select jobrunner.ensure_partition(now() - interval '3 hours')")
    conn.execute(
        "update jobrunner.finished_jobs set finished_at = finished_at - interval '3 hours' where id = %s", [late]
    )
    enqueue(conn)
    fail(conn, "scheduled", delay=60)
    enqueue(conn)
    settle(conn, 1, claim(conn), "cancelled", outcome="cancelled", reason="requested")
    conn.execute("select jobrunner.op_cancel(array[%s])", [enqueue(conn, queue="mail")])

    found = rows(conn, "v_throughput", "true order by queue, outcome")
    assert [fields(one, "queue", "outcome", "n", "task") for one in found] == [
        ("default", "cancelled", 1, TASK),
        ("default", "failed", 1, TASK),
        ("default", "succeeded", 1, TASK),
        ("mail", "cancelled", 1, TASK),
    ]
    assert fields(found[2], "avg_wait_s", "avg_run_s") == (pytest.approx(6, abs=1), pytest.approx(4, abs=1))
    assert found[3]["avg_run_s"] is None


def test_a_failed_start_counts_also_when_its_job_is_history(conn: Connection) -> None:
    register(conn)
    enqueue(conn)
    fail(conn, "scheduled", delay=0)
    calls.promote(conn)
    finish(conn, 1, claim(conn))

    assert {one["outcome"]: one["task"] for one in rows(conn, "v_throughput")} == {"failed": TASK, "succeeded": TASK}


def test_a_task_says_how_its_last_hour_went(conn: Connection) -> None:
    register(conn, tasks=[TASK, "shop.idle"])
    for _ in range(3):
        enqueue(conn)
    claims = claim(conn)
    conn.execute("update jobrunner.jobs set started_at = now() - interval '2 s'")
    finish(conn, 1, claims)
    enqueue(conn)
    fail(conn, "scheduled", delay=60)
    found = {one["task"]: one for one in rows(conn, "v_task")}

    assert fields(found[TASK], "n_1h", "failed_1h", "runners") == (4, 1, 1)
    assert float(found[TASK]["fail_ratio_1h"]) == 0.25
    assert float(found[TASK]["p50_s"]) == pytest.approx(2, abs=1)
    assert fields(found["shop.idle"], "n_1h", "fail_ratio_1h", "p95_s") == (0, None, None)
    lose(conn, 1)
    assert row(conn, "v_task", "task = %s", TASK)["runners"] == 0


def test_a_task_that_nobody_knows_is_told_parked_or_not(conn: Connection) -> None:
    register(conn)
    first = enqueue(conn, "shop.strange", queue="mail")
    enqueue(conn, "shop.strange", queue="mail")
    age(conn, first, "5 min")
    told = ("queue", "task", "version", "jobs", "ready", "last_known")
    assert fields(row(conn, "v_task_unknown"), *told) == ("mail", "shop.strange", 1, 2, 2, None)

    conn.execute("select jobrunner.park_v1('mail', 10)")
    found = row(conn, "v_task_unknown")
    assert fields(found, *told) == ("mail", "shop.strange", 1, 2, 0, None)
    assert near(found["oldest_age"], 5)
    register(conn, 2, ["shop.strange"])
    conn.execute("select jobrunner.unpark_v1(array['shop.strange'], array[1::smallint], 10)")
    assert rows(conn, "v_task_unknown") == []


# ------------------------------------------------------------------------------------------- runners and tables
def test_a_runner_says_which_tasks_it_knows_and_for_how_long_it_is_trusted(conn: Connection) -> None:
    register(conn, tasks=["shop.b", "shop.a"], ttl="40 s")

    assert fields(row(conn, "v_runner"), "tasks", "ttl") == (["shop.a", "shop.b"], timedelta(seconds=40))


def test_tables_are_told_with_their_size_and_the_days_ahead(conn: Connection) -> None:
    calls.fill(conn, 1000)
    found = {one["table_name"]: one for one in rows(conn, "v_table_health")}

    assert {"jobs", "finished_jobs", "attempts", "audit", "events"} <= set(found)
    assert not [name for name in found if "_p2" in name], "the days of a table are one row"
    assert found["jobs"]["bytes"] > 100_000
    assert fields(found["jobs"], "oldest_partition", "partitions_ahead") == (None, None)
    assert found["finished_jobs"]["partitions_ahead"] in (6, 7), "6 where midnight has passed since the run began"
    assert isinstance(found["finished_jobs"]["oldest_partition"], date)


def test_dead_rows_are_counted_over_the_days_of_a_table(connect: Connect) -> None:
    own = connect()
    register(own)
    for _ in range(3):
        enqueue(own)
    finish(own, 1, claim(own))

    def counted() -> bool:  # a session reports what it did now and then; 15 can be asked to do it at once
        if own.info.server_version >= 150000:
            own.execute("select pg_stat_force_next_flush()")
        found = row(own, "v_table_health", "table_name = 'finished_jobs'")
        return fields(found, "live", "dead") == (3, 0)

    wait_until(counted, what="three live rows and no dead one")


def test_who_holds_an_old_snapshot_is_named(conn: Connection, connect: Connect) -> None:
    holder = connect(autocommit=False, application_name="report")
    watcher = connect()
    assert rows(watcher, "v_blocker", "application = 'report'") == []

    holder.execute("set transaction isolation level repeatable read")
    holder.execute("select 1 as forgotten")
    found = row(watcher, "v_blocker", "application = 'report'")

    assert fields(found, "kind", "pid", "name") == ("idle_in_tx", holder.info.backend_pid, None)
    assert found["query_head"] == "select 1 as forgotten"
    assert timedelta(0) <= found["age"] < 5 * MINUTE
    holder.rollback()
    assert rows(watcher, "v_blocker", "application = 'report'") == []
