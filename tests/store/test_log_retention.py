"""Retention of the log: a day goes when nobody needs it, positions go on, and nobody waits for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from jobrunner.store import history
from tests.conftest import Connect
from tests.store.calls import Connection, claim, column, enqueue, finish, job, register, settle, value

pytestmark = pytest.mark.pg16

PARTITIONS = (
    "select inhrelid::regclass::text from pg_inherits where inhparent = 'jobrunner.events'::regclass order by 1"
)


@pytest.fixture
async def aconn(dsn: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None) as conn:
        yield conn


def _subscribe(conn: Connection, name: str, **spec: object) -> None:
    given = {"types": ["order.*"], "queue": "default", **spec}
    conn.execute("select jobrunner.subscribe_v1(%s, 'shop', %s, null)", [name, Jsonb(given)])


def _publish(conn: Connection, many: int = 3) -> None:
    for n in range(many):
        conn.execute("select jobrunner.publish('order.paid', '{}', key => %s)", [str(n % 2)])
    conn.execute("select jobrunner.sequence_v1(1000)")


def _age(conn: Connection, days: int = 20) -> str:
    """Moves what is in the log that many days back, partition and all; the name of that day's partition."""
    conn.execute("select jobrunner.make_partitions(now() - %s * interval '1 day', 0)", [days])
    conn.execute("update jobrunner.events set recorded_at = recorded_at - %s * interval '1 day'", [days])
    conn.execute(
        """update jobrunner.jobs
           set args = jsonb_set(args, '{recorded_at}', to_jsonb((args ->> 'recorded_at')::timestamptz - %s * interval '1 day'))
           where args ? 'recorded_at'""",
        [days],
    )
    return str(
        value(conn, "select 'events_p' || to_char(now() at time zone 'utc' - %s * interval '1 day', 'YYYYMMDD')", days)
    )


async def _old(conn: psycopg.AsyncConnection[Any]) -> history.Partition:
    (old,) = await history.old_partitions(conn, "events")
    return old


async def test_a_day_that_nobody_needs_is_dropped_and_positions_go_on(
    conn: Connection, aconn: psycopg.AsyncConnection[Any]
) -> None:
    _publish(conn)
    name = _age(conn)
    old = await _old(aconn)
    assert (old.name, old.attached, old.pending) == (name, True, False)

    assert await history.drop_log(aconn, old) == []

    assert f"jobrunner.{name}" not in column(conn, PARTITIONS)
    assert await history.old_partitions(aconn, "events") == []
    assert value(conn, "select position from jobrunner.log_head()") == 3
    _publish(conn)
    assert column(conn, "select position from jobrunner.events order by 1") == [4, 5, 6]


@pytest.mark.parametrize("left", ["ready", "scheduled", "running", "dead", "key", "paused"])
async def test_an_open_delivery_holds_its_day(conn: Connection, aconn: psycopg.AsyncConnection[Any], left: str) -> None:
    register(conn, tasks=["shop.a"])
    _subscribe(conn, "shop.a", ordered=left == "key")
    _publish(conn)
    if left == "paused":
        conn.execute("select jobrunner.op_pause_subscription('shop.a')")
    claims = claim(conn, tasks={"shop.a": 1}) if left not in ("ready", "key", "paused") else []
    if left == "key":
        conn.execute("select jobrunner.seat_v1(100)")
    if left in ("scheduled", "dead"):
        settle(conn, 1, claims, left, delay=3600)
    _age(conn)

    assert await history.drop_log(aconn, await _old(aconn)) == ["shop.a"]
    assert value(conn, "select count(*) from jobrunner.events") == 3


async def test_a_delivery_that_is_over_holds_nothing(conn: Connection, aconn: psycopg.AsyncConnection[Any]) -> None:
    register(conn, tasks=["shop.a"])
    _subscribe(conn, "shop.a")
    _publish(conn)
    finish(conn, 1, claim(conn, tasks={"shop.a": 1}))
    enqueue(conn, "shop.a")  # no delivery, and no position
    _age(conn)

    assert await history.drop_log(aconn, await _old(aconn)) == []


async def test_one_with_release_lets_go_and_its_deliveries_die_of_it(
    conn: Connection, aconn: psycopg.AsyncConnection[Any]
) -> None:
    register(conn, tasks=["shop.a"])
    _subscribe(conn, "shop.a", on_lag="release", ordered=True, on_dead="block_key")
    _subscribe(conn, "shop.s", on_lag="release", mode="stream", on_dead="pause")
    _publish(conn, 4)
    conn.execute("select jobrunner.seat_v1(100)")
    _age(conn)
    _publish(conn, 1)
    conn.execute("select jobrunner.seat_v1(100)")

    assert await history.drop_log(aconn, await _old(aconn)) == []

    states = conn.execute(
        "select state, reason, holds_key, count(*) from jobrunner.jobs where task = 'shop.a' group by 1, 2, 3 order by 1"
    ).fetchall()
    assert states == [("dead", "expired", False, 4), ("ready", None, True, 1)]
    assert value(conn, "select position from jobrunner.cursors") == 4
    assert (
        value(conn, "select jobs from jobrunner.audit where actor = 'retention' and target = 'subscription shop.a'")
        == 4
    )


async def test_one_that_could_not_pass_its_turn_while_it_expired_does_so_the_next_time(
    conn: Connection, aconn: psycopg.AsyncConnection[Any], connect: Connect
) -> None:
    register(conn, tasks=["shop.a"])
    _subscribe(conn, "shop.a", on_lag="release", ordered=True)
    for _ in range(3):
        conn.execute("select jobrunner.publish('order.paid', '{}', key => 'k')")
    conn.execute("select jobrunner.sequence_v1(1000)")
    conn.execute("select jobrunner.seat_v1(100)")
    first, _, third = column(conn, "select id from jobrunner.jobs order by id")
    person = connect(autocommit=False)
    person.execute("select from jobrunner.jobs where id = %s for no key update", [third])

    assert value(conn, "select jobrunner.free_log_v1(2)") == ["shop.a"]
    assert (job(conn, first)["state"], job(conn, first)["holds_key"]) == ("dead", True)
    person.rollback()
    assert value(conn, "select jobrunner.free_log_v1(2)") == []

    assert (job(conn, first)["state"], job(conn, first)["holds_key"]) == ("dead", False)
    assert (job(conn, third)["state"], job(conn, third)["holds_key"]) == ("ready", True)


async def test_a_running_walk_and_a_stream_that_is_behind_hold_their_day(
    conn: Connection, aconn: psycopg.AsyncConnection[Any]
) -> None:
    _publish(conn)
    for name in ("shop.walk", "shop.stream"):
        mode = "stream" if name == "shop.stream" else "queue"
        spec = Jsonb({"types": ["order.*"], "queue": "q", "mode": mode, "on_dead": "pause"})
        conn.execute("select jobrunner.subscribe_v1(%s, 'shop', %s, 0)", [name, spec])
    _age(conn)

    assert await history.drop_log(aconn, await _old(aconn)) == ["shop.stream", "shop.walk"]

    conn.execute("update jobrunner.replays set state = 'cancelled', finished_at = now()")
    conn.execute("select jobrunner.advance_stream_v1('shop.stream', 0, 3)")
    assert await history.drop_log(aconn, await _old(aconn)) == []


async def test_a_quiet_stream_is_sent_on_its_way_and_holds_nothing_for_ever(
    conn: Connection, aconn: psycopg.AsyncConnection[Any]
) -> None:
    _subscribe(conn, "shop.stream", mode="stream", types=["never.comes"])
    conn.execute("delete from jobrunner.jobs")  # the one of its registration has run
    _publish(conn)
    _age(conn)
    assert value(conn, "select count(*) from jobrunner.jobs") == 0

    assert await history.drop_log(aconn, await _old(aconn)) == ["shop.stream"]
    assert value(conn, "select count(*) from jobrunner.jobs where task = 'shop.stream'") == 1
    assert value(conn, "select upto from jobrunner.stream_batch_v1('shop.stream', 10)") == 3


async def test_a_reader_of_the_old_day_keeps_it_and_holds_up_nobody(
    conn: Connection, connect: Connect, aconn: psycopg.AsyncConnection[Any]
) -> None:
    _publish(conn)
    _age(conn)
    reader = connect(autocommit=False)
    reader.execute("select count(*) from jobrunner.events")

    with pytest.raises(psycopg.errors.LockNotAvailable):
        await history.drop_log(aconn, await _old(aconn))
    conn.execute("set lock_timeout = '1s'")
    _publish(conn, 1)
    reader.rollback()

    old = await _old(aconn)
    assert old.pending
    assert await history.drop_log(aconn, old) == []
    assert column(conn, "select position from jobrunner.events") == [4]


async def test_what_events_leave_behind_goes_when_its_time_has_come(
    conn: Connection, aconn: psycopg.AsyncConnection[Any]
) -> None:
    conn.execute(
        """insert into jobrunner.inbox (consumer, message_id, expires_at)
           select 'c', n::text, now() + n * interval '1 hour' from generate_series(-6000, 3) n where n <> 0"""
    )
    conn.execute(
        """insert into jobrunner.sagas (name, key, state, status, finished_at)
           select 's', n::text, '{}', 'completed', now() - n * interval '1 day' from generate_series(29, 31) n"""
    )
    conn.execute(
        """insert into jobrunner.replays (subscription, kind, from_after, upto, at_position, actor, state, finished_at)
           select 's', 'replay', 0, 1, 1, 'ann', 'done', now() - n * interval '1 day' from unnest(array[364, 366]) n"""
    )

    assert await history.drop_event_leftovers(aconn) is True
    assert await history.drop_event_leftovers(aconn) is False

    assert column(conn, "select message_id from jobrunner.inbox order by 1") == ["1", "2", "3"]
    assert column(conn, "select key from jobrunner.sagas order by 1") == ["29"]
    assert value(conn, "select count(*) from jobrunner.replays") == 1
