"""What psql shows of events: the views count what is there, tell lag from idleness, and never show a payload."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from psycopg.rows import dict_row

from tests.store import calls, log
from tests.store.calls import Connection, Row, column, register, value
from tests.store.log import SUB, claim, publish, publish_many, sequence, step, subscribe

pytestmark = pytest.mark.pg16

VIEWS = [
    "v_log_head",
    "v_outbox",
    "v_event",
    "v_event_type",
    "v_subscription",
    "v_delivery_open",
    "v_key_blocked",
    "v_replay",
    "v_saga",
]


@pytest.fixture
def conn(tx: Connection) -> Connection:
    """Nothing here needs a commit or a second session."""
    return tx


def entomb(conn: Connection, task: str, key: str) -> None:
    """A dead job that still holds its key."""
    conn.execute(
        "insert into jobrunner.jobs (state, task, key, key_pos, holds_key, finished_at) "
        "values ('dead', %s, %s, 1, true, now())",
        [task, key],
    )


def rows(conn: Connection, view: str, where: str = "true", *args: object) -> list[Row]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"select * from jobrunner.{view} where {where}", args).fetchall()


def row(conn: Connection, view: str, where: str = "true", *args: object) -> Row:
    found = rows(conn, view, where, *args)
    assert len(found) == 1, found
    return found[0]


def sub(conn: Connection, name: str = SUB) -> Row:
    return row(conn, "v_subscription", "name = %s", name)


def published(conn: Connection, *events: dict[str, Any]) -> None:
    publish_many(conn, events)
    sequence(conn)


def kill(conn: Connection, *keys: str, error: str = "ValueError: no") -> None:
    """The next deliveries of these keys (all when none is named) die."""
    chosen = [one for one in claim(conn) if not keys or one.key in {f"{SUB} {key}" for key in keys}]
    calls.settle(conn, 1, chosen, "dead", reason="failed", error=error)


def test_no_view_shows_a_payload_or_a_header(tx: Connection) -> None:
    shown = "select distinct column_name from information_schema.columns where table_schema = 'jobrunner' and table_name = any (%s)"

    columns = set(column(tx, shown, VIEWS))

    assert not columns & {"data", "headers", "args", "compensation", "retry", "match"}
    assert "state" not in set(column(tx, shown, ["v_saga"]))


def test_the_outbox_is_empty_or_tells_since_when_it_is_not(conn: Connection) -> None:
    assert row(conn, "v_outbox") == {
        "pending": 0, "oldest_age": None, "oldest_id": None, "head_position": 0, "head_recorded_at": None,
    }  # fmt: skip
    publish(conn)
    conn.execute("update jobrunner.outbox set occurred_at = now() - interval '5 minutes'")
    publish(conn)

    waiting = row(conn, "v_outbox")
    sequence(conn)
    moved = row(conn, "v_outbox")

    assert (waiting["pending"], waiting["head_position"]) == (2, 0)
    assert timedelta(minutes=5) <= waiting["oldest_age"] < timedelta(minutes=6)
    assert (moved["pending"], moved["oldest_age"], moved["head_position"]) == (0, None, 2)


def test_the_head_of_the_log_is_what_the_function_says(conn: Connection) -> None:
    same = "select h.position = v.position from jobrunner.log_head() h, jobrunner.v_log_head v"
    assert value(conn, same)
    conn.execute("insert into jobrunner.log_base (position, recorded_at) values (41, now() - interval '20 days')")
    assert value(conn, same)
    published(conn, {})

    assert row(conn, "v_log_head")["position"] == 42
    assert value(conn, same)


def test_an_event_is_shown_with_its_size_and_its_causes(conn: Connection) -> None:
    event = publish(
        conn, data={"text": "x" * 500}, key="k", subject="order:1", version=3, source="shop", cause_job_id=7
    )
    sequence(conn)

    shown = row(conn, "v_event", "key = 'k'")

    assert (shown["event_id"], shown["version"], shown["subject"], shown["source"]) == (event, 3, "order:1", "shop")
    assert shown["cause_job_id"] == 7
    assert shown["bytes"] > 500


def test_types_are_told_apart_by_version_with_who_listens(conn: Connection) -> None:
    subscribe(conn, "shop.orders", types=["order.*"])
    subscribe(conn, "shop.all", types=["#"])
    published(
        conn,
        {"type": "order.paid"},
        {"type": "order.paid", "version": 2},
        {"type": "user.gone"},
        {"type": "order.paid"},
    )
    conn.execute("select jobrunner.publish_system('job.dead', '{}', null)")
    sequence(conn)

    shown = [(r["type"], r["version"], r["first_position"], r["last_position"], r["n_24h"], r["subscriptions"])
             for r in rows(conn, "v_event_type")]  # fmt: skip

    assert sorted(shown) == [
        ("jobrunner.job.dead", 1, 5, 5, 1, []),
        ("order.paid", 1, 1, 4, 2, ["shop.all", "shop.orders"]),
        ("order.paid", 2, 2, 2, 1, ["shop.all", "shop.orders"]),
        ("user.gone", 1, 3, 3, 1, ["shop.all"]),
    ]


def test_a_day_counts_the_last_24_hours_only(conn: Connection) -> None:
    conn.execute("select jobrunner.make_partitions(now() - interval '2 days', 2)")
    published(conn, {}, {})
    conn.execute("update jobrunner.events set recorded_at = now() - interval '30 hours' where position = 1")

    shown = row(conn, "v_event_type")

    assert (shown["first_position"], shown["last_position"], shown["n_24h"]) == (1, 2, 1)


def test_a_subscription_counts_its_deliveries_by_state(conn: Connection) -> None:
    register(conn, tasks=[SUB])
    subscribe(conn, ordered=True, on_dead="block_key")
    subscribe(conn, "shop.idle", types=["nothing"])
    published(conn, *({"key": key} for key in ("a", "a", "a", "b", "c", "d")))
    first = {one.key: one for one in claim(conn)}
    calls.settle(conn, 1, [first[f"{SUB} a"]], "dead", reason="failed", error="ValueError: no")
    calls.settle(conn, 1, [first[f"{SUB} b"]], "scheduled", delay=60, failed=True)
    calls.settle(conn, 1, [first[f"{SUB} c"]], "succeeded")

    shown, idle = sub(conn), sub(conn, "shop.idle")

    counts = ("ready", "scheduled", "retrying", "blocked", "running", "dead", "blocked_keys")
    assert [shown[name] for name in counts] == [0, 0, 1, 2, 1, 1, 1]
    assert shown["lag_events"] == 4
    assert shown["lag"] >= timedelta(0)
    assert [idle[name] for name in counts] == [0] * 7
    assert (idle["lag_events"], idle["lag"], idle["replaying"], idle["cursor_position"]) == (0, None, False, None)


def test_one_that_catches_up_lags_by_what_its_walk_has_before_it(conn: Connection) -> None:
    conn.execute("select jobrunner.make_partitions(now() - interval '2 days', 2)")
    published(conn, *[{"key": "k"}] * 5)
    conn.execute("update jobrunner.events set recorded_at = now() - interval '1 hour' where position <= 3")
    subscribe(conn, after=0, ordered=True)
    register(conn, tasks=[SUB])

    before = sub(conn)
    step(conn, 2)
    walked = sub(conn)
    log.walk_to_the_end(conn)
    done = sub(conn)

    assert [(one["state"], one["lag_events"], one["blocked"], one["replaying"]) for one in (before, walked, done)] == [
        ("catching_up", 5, 0, True),
        ("catching_up", 5, 2, True),
        ("live", 5, 5, False),
    ]
    assert before["lag"] > timedelta(minutes=59)
    assert done["lag"] < timedelta(minutes=1)  # they have been delivered just now


def test_a_stream_lags_only_while_there_is_something_for_it_to_read(conn: Connection) -> None:
    register(conn, tasks=[SUB])
    subscribe(conn, mode="stream", types=["order.*"], on_dead="pause")
    log.run_all(conn)  # the look that a new stream takes
    published(conn, {"type": "user.new"}, {"type": "user.new"})
    unwanted = sub(conn)
    published(conn, {"type": "order.paid"})
    wanted = sub(conn)
    claims = claim(conn)
    log.advance(conn, log.read(conn))
    calls.settle(conn, 1, claims, "succeeded")

    assert (unwanted["lag_events"], unwanted["lag"], unwanted["head"]) == (0, None, 2)
    assert (wanted["lag_events"], wanted["cursor_position"], wanted["blocked"]) == (3, 0, 1)
    assert wanted["lag"] >= timedelta(0)
    assert (sub(conn)["lag_events"], sub(conn)["cursor_position"]) == (0, 3)


def test_the_lag_of_a_stream_is_that_of_the_first_event_that_it_wants(conn: Connection) -> None:
    conn.execute("select jobrunner.make_partitions(now() - interval '2 days', 2)")
    subscribe(conn, mode="stream", types=["order.*"], on_dead="pause")
    published(conn, {"type": "user.new"}, {"type": "order.paid"})
    conn.execute("update jobrunner.events set recorded_at = now() - make_interval(hours => 3 - position::int)")

    assert timedelta(minutes=59) < sub(conn)["lag"] < timedelta(minutes=61)


def test_a_paused_stream_tells_how_far_it_is_behind(conn: Connection) -> None:
    subscribe(conn, mode="stream", on_dead="pause")
    conn.execute("select jobrunner.op_pause_subscription(%s, 'ann', 'later')", [SUB])
    published(conn, {}, {})

    shown = sub(conn)

    assert (shown["lag_events"], shown["paused_by"], shown["pause_reason"], shown["ready"]) == (2, "ann", "later", 0)
    assert shown["lag"] is not None


def test_a_blocked_key_names_what_died_and_how_many_wait(conn: Connection) -> None:
    register(conn, tasks=[SUB])
    subscribe(conn, ordered=True, on_dead="block_key")
    published(conn, *({"key": key} for key in ("a b", "a b", "a b", "c")))
    kill(conn, "a b", error="ValueError: closed")

    shown = row(conn, "v_key_blocked")

    assert (shown["subscription"], shown["key"], shown["position"], shown["waiting"]) == (SUB, "a b", 1, 2)
    assert (shown["reason"], shown["error"]) == ("failed", "ValueError: closed")
    assert shown["job_id"] == value(conn, "select id from jobrunner.jobs where state = 'dead'")


def test_neither_a_dead_stream_nor_a_dead_compensation_is_a_blocked_key(conn: Connection) -> None:
    register(conn, tasks=[SUB])
    subscribe(conn, mode="stream", on_dead="pause")
    published(conn, {})
    kill(conn)
    conn.execute("update jobrunner.jobs set holds_key = true, key_pos = 1 where state = 'dead'")
    entomb(conn, SUB, f"saga {SUB} k")

    assert rows(conn, "v_key_blocked") == []
    assert (sub(conn)["dead"], sub(conn)["blocked_keys"]) == (2, 0)
    assert sub(conn)["paused_by"] == "on_dead"


def test_open_deliveries_are_shown_with_their_events(conn: Connection) -> None:
    subscribe(conn)
    calls.enqueue(conn, SUB)  # a job of that name that is no delivery
    published(conn, {"key": "a"}, {"type": "user.new"})
    conn.execute("select jobrunner.op_replay(%s, _after => 0, _upto => 1, _actor => 'ann')", [SUB])
    walk = log.walk_to_the_end(conn)
    conn.execute("delete from jobrunner.events where position = 2")

    shown = [(r["position"], r["event_type"], r["key"], r["state"], r["replay"] is not None)
             for r in sorted(rows(conn, "v_delivery_open"), key=lambda r: int(r["job_id"]))]  # fmt: skip

    assert walk == 1
    assert shown == [
        (1, "order.paid", "a", "ready", False),
        (2, None, None, "ready", False),
        (1, "order.paid", "a", "ready", True),
    ]


def test_a_walk_tells_its_progress(conn: Connection) -> None:
    register(conn, tasks=[SUB])
    subscribe(conn)
    published(conn, *[{}] * 8)
    log.run_all(conn)
    walk = value(conn, "select jobrunner.op_replay(%s, _after => 0, _actor => 'ann', _reason => 'lost')", SUB)
    conn.execute("update jobrunner.replays set created_at = now() - interval '2 seconds'")

    begun = row(conn, "v_replay")
    step(conn, 2)
    conn.execute("update jobrunner.replays set created_at = now() - interval '2 seconds'")
    half = row(conn, "v_replay")
    log.walk_to_the_end(conn)
    kill(conn)
    done = row(conn, "v_replay", "id = %s", walk)

    assert (begun["total"], begun["processed"], begun["percentage"], begun["estimated_completion"]) == (8, 0, 0, None)
    assert (half["processed"], half["percentage"], half["message"]) == (2, 25, "2 deliveries made")
    assert 0.5 < half["rate"] <= 1
    assert half["estimated_completion"] is not None
    assert (done["state"], done["processed"], done["percentage"], done["failed"]) == ("done", 8, 100, 8)
    assert (done["estimated_completion"], done["actor"], done["reason"]) == (None, "ann", "lost")


def test_a_walk_that_must_meet_the_present_has_the_head_before_it(conn: Connection) -> None:
    published(conn, *[{}] * 4)
    subscribe(conn, after=0, ordered=True)
    published(conn, *[{}] * 4)

    assert (row(conn, "v_replay")["kind"], row(conn, "v_replay")["total"]) == ("catch_up", 8)
    conn.execute("select jobrunner.op_pause_subscription(%s, 'ann', null)", [SUB])
    assert row(conn, "v_replay")["message"] == "waits: the subscription is paused"


@pytest.mark.parametrize(
    ("status", "timeout", "dead", "shown"),
    [
        ("running", None, None, "running"),
        ("running", "1 hour", None, "running"),
        ("running", "-5 minutes", None, "stuck"),
        ("running", None, "shop.pay k", "stuck"),
        ("running", None, "saga shop.pay k", "running"),
        ("running", None, "shop.pay other", "running"),
        ("compensating", None, None, "compensating"),
        ("compensating", None, "saga shop.pay k", "needs_attention"),
        ("compensating", None, "shop.pay k", "stuck"),
        ("completed", None, "shop.pay k", "completed"),
        ("compensated", "-1 hour", None, "compensated"),
    ],
)
def test_a_saga_is_stuck_or_needs_attention(
    tx: Connection, status: str, timeout: str | None, dead: str | None, shown: str
) -> None:
    tx.execute(
        "insert into jobrunner.sagas (name, key, status, state, compensation, timeout_at, finished_at) values "
        "('shop.pay', 'k', %s, '{}', '[{}, {}]', now() + %s::interval, case when %s then now() end)",
        [status, timeout, status in ("completed", "compensated")],
    )
    if dead is not None:
        entomb(tx, "t", dead)

    found = row(tx, "v_saga")

    assert (found["status"], found["compensations"]) == (shown, 2)
    assert (found["dead_job_id"] is not None) is (dead is not None and shown in ("stuck", "needs_attention"))
