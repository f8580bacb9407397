"""History by day: no enqueue and no end of a job ever waits or fails because of its partitions."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, LiteralString

import pytest

from jobrunner.store.queries import text
from tests.conftest import Connect
from tests.store import calls
from tests.store.calls import (
    Connection,
    claim,
    column,
    depart,
    enqueue,
    finish,
    finish_in_place,
    job,
    register,
    seat,
    settle,
    value,
)

pytestmark = pytest.mark.pg16

PARTITIONS: LiteralString = (
    "select inhrelid::regclass::text from pg_inherits where inhparent = 'jobrunner.finished_jobs'::regclass order by 1"
)

LOG: LiteralString = PARTITIONS.replace("finished_jobs", "events")


def test_a_week_of_partitions_is_made_ahead_in_utc_days(conn: Connection) -> None:
    conn.execute("set timezone = 'Pacific/Kiritimati'")  # 14 hours ahead: half of the time another day
    for table in column(conn, LOG) + column(conn, PARTITIONS):
        conn.execute(f"drop table {table}")

    assert value(conn, "select jobrunner.make_partitions('2030-01-01 10:00Z', 7)") == 8
    week = [f"jobrunner.finished_jobs_p2030010{day}" for day in range(1, 9)]
    assert column(conn, PARTITIONS) == week
    assert [name.replace("events", "finished_jobs") for name in column(conn, LOG)] == week
    assert value(conn, "select jobrunner.make_partitions('2030-01-01 23:59Z', 7)") == 0


def test_a_new_schema_has_a_week_of_partitions(conn: Connection) -> None:
    days = [str(name).removeprefix("jobrunner.finished_jobs_p") for name in column(conn, PARTITIONS)]

    assert len(days) == 8
    age = value(conn, f"select (now() at time zone 'utc')::date - '{days[0]}'::date")
    assert age in (0, 1), "of the day on which the run began"
    assert [name.replace("events", "finished_jobs") for name in column(conn, LOG)] == column(conn, PARTITIONS)


@pytest.mark.parametrize("end", ["finish", "settle", "depart"])
def test_a_missing_partition_is_made_by_whoever_needs_it(conn: Connection, end: str) -> None:
    register(conn)
    job_id = enqueue(conn, key="k" if end == "settle" else None)
    seat(conn)
    claims = claim(conn)
    for name in column(conn, PARTITIONS):
        conn.execute(f"drop table {name}")

    match end:
        case "finish":
            finish(conn, 1, claims)
        case "settle":
            settle(conn, 1, claims, "succeeded")
        case _:
            finish_in_place(conn, 1, claims[0])
            depart(conn, [job_id])

    assert job(conn, job_id)["at"] == "finished_jobs"
    assert len(column(conn, PARTITIONS)) == 1


def test_a_job_ends_in_the_partition_of_its_utc_day_also_in_another_time_zone(conn: Connection) -> None:
    register(conn)
    enqueue(conn)
    conn.execute("set timezone = 'Pacific/Kiritimati'")
    [claimed] = claim(conn)

    conn.execute("select jobrunner.finish_v1(1, %s, %s, null, '2030-01-01 23:59:59.999999Z')", [[claimed.id], [1]])

    assert (
        value(conn, "select tableoid::regclass::text from jobrunner.finished_jobs")
        == "jobrunner.finished_jobs_p20300101"
    )


def test_a_reader_of_the_history_holds_up_neither_new_partitions_nor_ends(conn: Connection, connect: Connect) -> None:
    register(conn)
    enqueue(conn)
    reader = connect(autocommit=False)
    reader.execute("set transaction isolation level repeatable read")
    reader.execute("select count(*) from jobrunner.finished_jobs")
    conn.execute("set lock_timeout = '2 s'")

    assert value(conn, "select jobrunner.make_partitions(now() + interval '30 days', 3)") == 4
    assert len(finish(conn, 1, claim(conn))) == 1


def test_partition_of_would_make_every_end_wait_behind_the_reader(
    conn: Connection, connect: Connect, background: Callable[..., Future[Any]], blocked: Callable[[Connection], None]
) -> None:
    """The mutant of the test above: why LIKE and ATTACH."""
    register(conn)
    enqueue(conn)
    claims = claim(conn)
    reader, maker = connect(autocommit=False), connect()
    reader.execute("select count(*) from jobrunner.finished_jobs")
    made = background(
        maker.execute,
        "create table p partition of jobrunner.finished_jobs for values from ('2040-01-01') to ('2040-01-02')",
    )
    blocked(maker)

    with pytest.raises(Exception, match="lock timeout"):
        finish(conn, 1, claims)

    reader.rollback()
    made.result(10)


def test_a_day_of_which_only_one_table_has_its_partition_gets_the_other(conn: Connection) -> None:
    conn.execute(f"drop table {column(conn, LOG)[3]}")
    conn.execute(f"drop table {column(conn, PARTITIONS)[5]}")

    assert value(conn, "select jobrunner.make_partitions(now(), 5)") == 2
    assert len(column(conn, LOG)) == len(column(conn, PARTITIONS)) == 8


def test_a_reader_of_the_log_holds_up_neither_new_partitions_nor_the_sequencer(
    conn: Connection, connect: Connect
) -> None:
    reader = connect(autocommit=False)
    reader.execute("set transaction isolation level repeatable read")
    reader.execute("select count(*) from jobrunner.events")
    conn.execute("set lock_timeout = '2 s'; select jobrunner.publish('order.paid', '{}')")

    assert value(conn, "select jobrunner.make_partitions(now() + interval '30 days', 1)") == 2
    assert value(conn, "select moved from jobrunner.sequence_v1(10)") == 1


def test_two_sessions_that_miss_the_same_partition_make_it_once(
    conn: Connection, connect: Connect, background: Callable[..., Future[Any]], blocked: Callable[[Connection], None]
) -> None:
    first, second = connect(autocommit=False), connect()
    assert value(first, "select jobrunner.make_partitions('2031-05-05Z', 0)") == 1
    other = background(value, second, "select jobrunner.make_partitions('2031-05-05Z', 0)")
    blocked(second)

    first.commit()

    assert other.result(10) == 0


def test_what_nobody_needs_any_more_is_dropped(conn: Connection) -> None:
    for runner, task in enumerate(("shop.gone", "shop.waiting", "shop.running", "shop.new"), 1):
        register(conn, runner, [task])
    conn.execute("update jobrunner.tasks set seen_at = now() - interval '91 days' where name <> 'shop.new'")
    conn.execute(
        "update jobrunner.runners set lost_at = now() - interval '2 days', ended = 'stopped' where id in (1, 2)"
    )
    enqueue(conn, "shop.waiting")
    conn.execute(
        """insert into jobrunner.audit (actor, action, target, at)
           select 'ann', 'pause', 'day ' || d, now() - d * interval '1 day' from unnest(array[364, 366]) d"""
    )

    for _ in range(2):  # a tombstone goes first, and with it what its runner knew
        conn.execute(text("queries/drop_leftovers.sql"))

    assert column(conn, "select name from jobrunner.tasks order by 1") == ["shop.new", "shop.running", "shop.waiting"]
    assert column(conn, "select target from jobrunner.audit") == ["day 364"]


def test_an_old_partition_is_detached_and_dropped_while_jobs_end(conn: Connection, connect: Connect) -> None:
    conn.execute("select jobrunner.make_partitions('2020-01-01Z', 0)")
    register(conn)
    enqueue(conn)
    open_end = connect(autocommit=False)
    finish(open_end, 1, claim(conn))
    open_end.commit()

    conn.execute("alter table jobrunner.finished_jobs detach partition jobrunner.finished_jobs_p20200101 concurrently")
    conn.execute("drop table jobrunner.finished_jobs_p20200101")

    assert len(column(conn, PARTITIONS)) == 8
    assert not column(conn, "select id from jobrunner.jobs")
    assert calls.value(conn, "select count(*) from jobrunner.finished_jobs") == 1
