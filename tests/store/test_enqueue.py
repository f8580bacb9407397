"""Enqueue: in whatever transaction the caller is, within bounds, and a notification exactly when somebody sleeps."""

from __future__ import annotations

import time
import uuid
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.store.calls import TASK, Connection, column, enqueue, enqueue_many, job, state, value

pytestmark = pytest.mark.pg16

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("", {}, "task must have 1 to 200 bytes"),
    ("é" * 101, {}, "task must have 1 to 200 bytes"),
    ("a\nb", {}, "no control character"),
    (TASK, {"queue": ""}, "queue must have 1 to 200 bytes"),
    (TASK, {"queue": "q\x7f"}, "queue must have 1 to 200 bytes and no control character"),
    (TASK, {"key": ""}, "key must have 1 to 512 bytes"),
    (TASK, {"key": "é" * 257}, "key must have 1 to 512 bytes"),
    (TASK, {"unique_key": "k" * 513}, "unique_key must have 1 to 512 bytes"),
    (TASK, {"subject": "a\tb"}, "subject must have 1 to 512 bytes"),
    (TASK, {"headers": psycopg.types.json.Jsonb([1])}, "headers must be a JSON object"),
    (TASK, {"args": psycopg.types.json.Jsonb([1])}, "args must be a JSON object"),
    (TASK, {"args": {"a": "x" * 1_100_000}}, "larger than 1 MB"),
    (TASK, {"delay": "-1 s"}, "delay must be between 0 and 5 years"),
    (TASK, {"delay": "6 years"}, "delay must be between 0 and 5 years"),
    (TASK, {"delay": "1 s", "run_at": "2026-01-01"}, "run_at or delay, not both"),
    (TASK, {"run_at": "infinity"}, "run_at must be within 5 years"),
    (TASK, {"run_at": "-infinity"}, "run_at must be within 5 years"),  # no client could read it
    (TASK, {"version": 0}, "version must be between 1 and 32767"),
    (TASK, {"max_attempts": 0}, "max_attempts must be between 1 and 1000"),
    (TASK, {"max_attempts": 1001}, "max_attempts must be between 1 and 1000"),
    (TASK, {"unique_key": "k", "unique_until": "never"}, "unique_until must be start or finish"),
]


@pytest.mark.parametrize(("task", "options", "sentence"), REFUSED)
def test_what_is_out_of_bounds_is_refused_in_a_sentence(
    tx: Connection, task: str, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(psycopg.Error) as refused:
        enqueue(tx, task, **options)

    assert refused.value.sqlstate == "JR003"
    assert sentence in str(refused.value)


def test_arguments_that_lie_compressed_in_a_table_count_as_large_as_they_are(tx: Connection) -> None:
    tx.execute("create table docs as select jsonb_build_object('a', repeat('x', 20000000)) as doc")
    assert value(tx, "select pg_column_size(doc) < 1000000 from docs")

    with pytest.raises(psycopg.Error, match="larger than 1 MB"):
        tx.execute("select jobrunner.enqueue('shop.t', doc) from docs")


def test_bulk_refuses_the_same_and_says_which(tx: Connection) -> None:
    with pytest.raises(psycopg.Error, match="job 2 of the call: key must have 1 to 512 bytes") as refused:
        enqueue_many(tx, [{}, {"key": ""}])

    assert refused.value.sqlstate == "JR003"


@pytest.mark.parametrize("priority", [-32768, 32767])
def test_the_bounds_themselves_are_accepted(tx: Connection, priority: int) -> None:
    job_id = enqueue(
        tx,
        "é" * 100,
        queue="q" * 200,
        key="k" * 512,
        subject="s" * 512,
        priority=priority,
        max_attempts=1000,
        version=32767,
    )

    assert job(tx, job_id)["priority"] == priority


def test_a_job_gets_what_its_task_declares_unless_it_says_otherwise(tx: Connection) -> None:
    tx.execute(
        "insert into jobrunner.tasks (name, version, queue, priority, max_attempts) values ('shop.t', 3, 'mail', 7, 2)"
    )
    names = ["version", "queue", "priority", "max_attempts"]

    declared, own = enqueue(tx), enqueue(tx, version=1, queue="own", priority=1, max_attempts=9)
    many = enqueue_many(tx, [{}, {"version": 1, "queue": "own", "priority": 1, "max_attempts": 9}])

    for job_id, expected in zip([declared, own, *many], [[3, "mail", 7, 2], [1, "own", 1, 9]] * 2, strict=True):
        assert job_id is not None
        assert [job(tx, job_id)[name] for name in names] == expected


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_a_job_exists_exactly_when_its_transaction_committed(
    conn: Connection, connect: Connect, isolation: str
) -> None:
    own = connect(autocommit=False)
    own.execute(f"set transaction isolation level {isolation}")
    ids = [
        enqueue(own),
        enqueue(own, key="k"),
        enqueue(own, unique_key="u"),
        *enqueue_many(own, [{}, {"unique_key": "v"}]),
    ]
    assert column(conn, "select id from jobrunner.jobs") == []

    own.commit()

    assert column(conn, "select id from jobrunner.jobs order by seq") == ids
    own.execute(f"set transaction isolation level {isolation}")
    enqueue(own, unique_key="w")
    own.rollback()
    assert len(column(conn, "select id from jobrunner.jobs")) == len(ids)
    assert not column(conn, "select job_id from jobrunner.unique_keys where unique_key = 'w'")


def test_a_savepoint_takes_its_jobs_back_and_no_others(conn: Connection, connect: Connect) -> None:
    own = connect(autocommit=False)
    before = enqueue(own)
    with own.transaction(force_rollback=True):
        enqueue(own, unique_key="u")
    with own.transaction():
        released = enqueue(own, unique_key="u")

    own.commit()

    assert column(conn, "select id from jobrunner.jobs order by id") == [before, released]


def _somebody_sleeps(conn: Connection, until: str = "1 hour", queue: str = "default") -> None:
    conn.execute("select jobrunner.tick_v1(array[%s], array[0::smallint], false, %s, 0, '-infinity')", [queue, until])


def test_a_transaction_that_notified_cannot_be_prepared_and_without_it_can(conn: Connection, connect: Connect) -> None:
    """With a runner asleep: otherwise the first would pass by luck."""
    _somebody_sleeps(conn)
    own = connect(autocommit=False)
    enqueue(own)
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="cannot PREPARE a transaction that has executed"):
        own.execute("prepare transaction 'one'")
    own.rollback()

    ids = [enqueue(own, notify=False), *enqueue_many(own, [{}], notify=False)]
    own.execute("prepare transaction 'two'")
    own.commit()
    conn.execute("commit prepared 'two'")
    own.execute("set local jobrunner.notify = off")
    ids += [enqueue(own), *enqueue_many(own, [{}])]
    own.execute("prepare transaction 'three'")
    own.commit()
    conn.execute("commit prepared 'three'")

    assert column(conn, "select id from jobrunner.jobs order by id") == ids


@pytest.mark.parametrize(
    ("sleeps", "options", "notified"),
    [
        (None, {}, False),
        ("-1 hour", {}, False),
        ("1 hour", {}, True),
        ("1 hour", {"key": "k"}, True),
        ("1 hour", {"delay": 60}, False),
        ("1 hour", {"queue": "bulk"}, False),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_a_notification_is_sent_exactly_when_somebody_sleeps_on_the_queue(
    conn: Connection, connect: Connect, sleeps: str | None, options: dict[str, object], notified: bool, many: bool
) -> None:
    assert value(conn, "select hashtext('default') & 15 <> hashtext('bulk') & 15"), "two buckets"
    ears = connect()
    ears.execute("listen jobrunner")
    if sleeps:
        _somebody_sleeps(conn, sleeps)

    if many:
        enqueue_many(conn, [options])
    else:
        enqueue(conn, **({"delay": "60 s"} if "delay" in options else options))

    conn.execute("notify jobrunner, 'end'")
    heard = [note.payload for note in ears.notifies(timeout=10, stop_after=2 if notified else 1)]
    assert heard == (["", "end"] if notified else ["end"])


def test_bulk_returns_ids_in_input_order_and_none_where_a_unique_key_was_taken(conn: Connection) -> None:
    taken = enqueue(conn, unique_key="b")

    ids = enqueue_many(
        conn,
        [
            {"args": {"n": 0}},
            {"unique_key": "c", "args": {"n": 1}},
            {"unique_key": "b"},
            {"unique_key": "a", "args": {"n": 3}},
            {"unique_key": "c"},
        ],
    )

    assert [job_id is None for job_id in ids] == [False, False, True, False, True]
    assert [job(conn, job_id)["args"] for job_id in ids if job_id] == [{"n": 0}, {"n": 1}, {"n": 3}]
    assert taken not in ids
    assert enqueue_many(conn, []) == []


def test_bulk_with_many_unique_keys_takes_time_in_proportion(conn: Connection) -> None:
    """It was quadratic: ten times the keys took fifty times as long."""

    def seconds(count: int, prefix: str) -> float:
        start = time.perf_counter()
        assert None not in enqueue_many(conn, [{"unique_key": f"{prefix}{n}"} for n in range(count)])
        return time.perf_counter() - start

    small = min(seconds(1000, prefix) for prefix in "abc")
    assert seconds(10_000, "d") < 25 * small


def test_bulk_keeps_the_order_of_a_key(conn: Connection) -> None:
    ids = enqueue_many(conn, [{"key": "k"} for _ in range(50)])

    assert column(conn, "select id from jobrunner.jobs order by seq") == ids


def test_bulk_keeps_the_order_of_the_array_however_it_is_joined(conn: Connection) -> None:
    """A plan that hashes the array hands its rows to the insert in another order."""
    conn.execute("insert into jobrunner.tasks (name) select 't' || n from generate_series(1, 3) n")
    conn.execute("set enable_nestloop = off")
    conn.execute("set enable_mergejoin = off")

    ids = enqueue_many(conn, [{"task": f"t{n % 4}"} for n in range(500)])

    assert column(conn, "select id from jobrunner.jobs order by seq") == ids


def test_causes_come_from_the_handlers_session_unless_given(conn: Connection) -> None:
    tree = uuid.uuid4()
    links = "select cause_job_id, correlation_id, subject from jobrunner.job_links where job_id = %s"
    with conn.transaction():
        conn.execute(
            "select set_config('jobrunner.cause_job_id', '77', true), set_config('jobrunner.correlation_id', %s, true)",
            [str(tree)],
        )
        inherited = enqueue(conn, subject="book:1")
        [bulk, given] = enqueue_many(conn, [{"subject": "book:1"}, {"cause_job_id": 5, "correlation_id": str(tree)}])
    plain = enqueue(conn)

    assert conn.execute(links, [inherited]).fetchall() == [(77, tree, "book:1")]
    assert conn.execute(links, [bulk]).fetchall() == [(77, tree, "book:1")]
    assert conn.execute(links, [given]).fetchall() == [(5, tree, None)]
    assert conn.execute(links, [plain]).fetchall() == []


def test_a_job_for_later_is_scheduled_and_one_for_earlier_is_ready(conn: Connection) -> None:
    assert state(conn, enqueue(conn, delay="1 s")) == "scheduled"
    assert state(conn, enqueue(conn, delay="0 s")) == "ready"
    assert state(conn, enqueue(conn, run_at="2020-01-01Z")) == "ready"
    assert state(conn, enqueue(conn, run_at="2020-01-01Z", key="k")) == "blocked/arrival"
