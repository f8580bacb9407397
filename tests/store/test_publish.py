"""Publish: in whatever transaction the caller is, within bounds, and a notification exactly when a runner sleeps."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.conftest import Connect
from tests.store import calls, log
from tests.store.calls import Connection, column, value
from tests.store.log import TYPE, outbox, publish, publish_many, sequence, subscribe

pytestmark = pytest.mark.pg16

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("", {}, "type must be words"),
    ("order..paid", {}, "type must be words"),
    (".order", {}, "type must be words"),
    ("order.", {}, "type must be words"),
    ("order.*", {}, "type must be words"),
    ("order.#", {}, "type must be words"),
    ("order paid", {}, "type must be words"),
    ("order\n", {}, "type must be words"),
    ("örder", {}, "type must be words"),
    ("a" * 201, {}, "at most 200 bytes"),
    ("jobrunner", {}, "belong to jobrunner itself"),
    ("jobrunner.job.dead", {}, "belong to jobrunner itself"),
    (TYPE, {"data": Jsonb([1])}, "data must be a JSON object"),
    (TYPE, {"data": Jsonb(None)}, "data must be a JSON object"),
    (TYPE, {"headers": Jsonb("x")}, "headers must be a JSON object"),
    (TYPE, {"data": {"a": "x" * 1_100_000}}, "larger than 1 MB"),
    (TYPE, {"data": {"a": "x" * 600_000}, "headers": {"a": "x" * 600_000}}, "larger than 1 MB"),
    (TYPE, {"version": 0}, "version must be between 1 and 32767"),
    (TYPE, {"key": ""}, "key must have 1 to 512 bytes"),
    (TYPE, {"key": "é" * 257}, "key must have 1 to 512 bytes"),
    (TYPE, {"key": "a\nb"}, "key must have 1 to 512 bytes and no control character"),
    (TYPE, {"subject": ""}, "subject must have 1 to 512 bytes"),
    (TYPE, {"subject": "a\x7f"}, "subject must have 1 to 512 bytes and no control character"),
    (TYPE, {"source": "s" * 513}, "source must have at most 512 bytes"),
    (TYPE, {"source": "a\tb"}, "source must have at most 512 bytes and no control character"),
]


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(("name", "options", "sentence"), REFUSED)
def test_what_is_out_of_bounds_is_refused_in_a_sentence_and_nothing_is_written(
    tx: Connection, name: str, options: dict[str, Any], sentence: str, many: bool
) -> None:
    given = {at: it.obj if isinstance(it, Jsonb) else it for at, it in options.items()}
    call = (
        partial(publish_many, tx, [{}, {"type": name, **given}, {}]) if many else partial(publish, tx, name, **options)
    )
    with pytest.raises(psycopg.Error) as refused, tx.transaction():
        call()

    assert refused.value.sqlstate == "JR003"
    assert sentence in str(refused.value)
    assert "event 2 of the call: " in str(refused.value) or not many
    assert outbox(tx) == []


@pytest.mark.parametrize("nothing", ["type", "data", "version", "headers"])
def test_null_is_refused_in_a_sentence_too(tx: Connection, nothing: str) -> None:
    given = {"type": "'t'", "data": "'{}'", nothing: "null"}
    with pytest.raises(psycopg.Error) as refused:
        tx.execute(f"select jobrunner.publish({', '.join(f'{at} => {it}' for at, it in given.items())})")

    assert refused.value.sqlstate == "JR003"


def test_data_that_lies_compressed_in_a_table_counts_as_large_as_it_is(tx: Connection) -> None:
    tx.execute("create table docs as select jsonb_build_object('a', repeat('x', 20000000)) as doc")
    assert value(tx, "select pg_column_size(doc) < 1000000 from docs")

    with pytest.raises(psycopg.Error, match="larger than 1 MB"):
        tx.execute("select jobrunner.publish('t', doc) from docs")


def test_the_bounds_themselves_are_accepted_and_all_of_it_reaches_the_log(tx: Connection) -> None:
    given: dict[str, Any] = {
        "data": {"a": [1, "é", None]},
        "version": 32767,
        "key": "k" * 512,
        "subject": "é" * 256,
        "headers": {"h": 1},
        "source": "s" * 512,
    }
    one = publish(tx, "a" * 200, **given)
    [two] = publish_many(tx, [{"type": "A-b_1.2", **given}])
    sequence(tx)

    for event_id, name in ((one, "a" * 200), (two, "A-b_1.2")):
        row = value(tx, "select to_jsonb(e) from jobrunner.events e where event_id = %s", event_id)
        assert {**given, "type": name}.items() <= row.items()


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_an_event_exists_exactly_when_its_transaction_committed(
    conn: Connection, connect: Connect, isolation: str
) -> None:
    own = connect(autocommit=False)
    own.execute(f"set transaction isolation level {isolation}")
    ids = [publish(own), publish(own, key="k"), *publish_many(own, [{}, {"key": "k"}])]
    assert (outbox(conn), sequence(conn)) == ([], (0, 0))

    own.commit()
    assert outbox(conn) == ids

    own.execute(f"set transaction isolation level {isolation}")
    publish(own)
    own.rollback()
    assert sequence(conn) == (4, 0)
    assert list(log.positions(conn)) == ids


def test_a_savepoint_takes_its_events_back_and_no_others(conn: Connection, connect: Connect) -> None:
    own = connect(autocommit=False)
    before = publish(own)
    with own.transaction(force_rollback=True):
        publish(own)
    with own.transaction():
        released = publish(own)
    own.commit()

    assert outbox(conn) == [before, released]


def test_a_trigger_of_the_users_own_publishes_with_the_row(conn: Connection) -> None:
    conn.execute("""
        create table orders (id int primary key);
        create function tell() returns trigger language plpgsql as $$
        begin
            perform jobrunner.publish('order.made', to_jsonb(new), key => new.id::text);
            return null;
        end $$;
        create constraint trigger tell after insert on orders deferrable initially deferred for each row execute function tell();
        """)
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute("insert into orders values (1), (1)")
    conn.execute("insert into orders values (2), (3)")

    assert column(conn, "select key from jobrunner.outbox order by id") == ["2", "3"]


def test_events_of_many_transactions_lie_in_the_order_of_their_calls(tx: Connection) -> None:
    ids = [*publish_many(tx, [{"data": {"n": n}} for n in range(200)]), publish(tx), *publish_many(tx, [{}, {}])]

    assert outbox(tx) == ids
    assert publish_many(tx, []) == []


def test_an_event_id_is_the_callers_or_a_new_one_that_tells_the_time(tx: Connection) -> None:
    mine, other = uuid.uuid4(), uuid.uuid4()

    assert publish(tx, event_id=mine) == mine
    assert publish_many(tx, [{"event_id": str(other)}, {}])[0] == other
    made = publish(tx)
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    now = value(tx, "select extract(epoch from clock_timestamp()) * 1000")
    assert abs((made.int >> 80) - now) < 60_000


def test_causes_come_from_the_handlers_session_unless_given(conn: Connection) -> None:
    tree, cause, other = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    with conn.transaction():
        conn.execute(
            """select set_config('jobrunner.cause_job_id', '77', true), set_config('jobrunner.cause_event', %s, true),
                      set_config('jobrunner.correlation_id', %s, true)""",
            [str(cause), str(tree)],
        )
        inherited = [publish(conn), *publish_many(conn, [{}])]
        given = [
            publish(conn, cause_job_id=5, correlation_id=other),
            *publish_many(conn, [{"cause_job_id": 5, "correlation_id": str(other)}]),
        ]
        mixed = [publish(conn, correlation_id=other), *publish_many(conn, [{"correlation_id": str(other)}])]
    plain = [publish(conn), *publish_many(conn, [{}])]
    sequence(conn)

    links = "select cause_job_id, cause_event, correlation_id from jobrunner.events where event_id = any (%s)"
    assert set(conn.execute(links, [inherited]).fetchall()) == {(77, cause, tree)}
    assert set(conn.execute(links, [given]).fetchall()) == {(5, None, other)}
    assert set(conn.execute(links, [mixed]).fetchall()) == {(77, cause, other)}
    assert set(conn.execute(links, [plain]).fetchall()) == {(None, None, None)}


def somebody_sleeps(conn: Connection, until: str = "1 hour", bucket: str = "jobrunner.outbox") -> None:
    conn.execute(
        """select setval(
               format('jobrunner.asleep_%%s', hashtext(%s) & 15)::regclass,
               (extract(epoch from clock_timestamp() + %s::interval) * 1000)::bigint
           )""",
        [bucket, until],
    )


def test_a_transaction_that_notified_cannot_be_prepared_and_without_it_can(conn: Connection, connect: Connect) -> None:
    """With a runner asleep: otherwise the first would pass by luck."""
    somebody_sleeps(conn)
    own = connect(autocommit=False)
    publish(own)
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="cannot PREPARE a transaction that has executed"):
        own.execute("prepare transaction 'one'")
    own.rollback()

    ids = [publish(own, notify=False), *publish_many(own, [{}], notify=False)]
    own.execute("prepare transaction 'two'")
    own.commit()
    assert sequence(conn) == (0, 0), "not before the second phase"
    conn.execute("commit prepared 'two'")
    own.execute("set local jobrunner.notify = off")
    ids += [publish(own), *publish_many(own, [{}])]
    own.execute("prepare transaction 'three'")
    own.commit()
    conn.execute("commit prepared 'three'")

    assert sequence(conn)[0] == 4
    assert list(log.positions(conn)) == ids


@pytest.mark.parametrize(
    ("sleeps", "queue", "notified"),
    [
        (None, None, False),
        ("-1 hour", "jobrunner.outbox", False),
        ("1 hour", "jobrunner.outbox", True),
        ("1 hour", "bulk", False),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_a_notification_is_sent_exactly_when_a_runner_sleeps(
    conn: Connection, connect: Connect, sleeps: str | None, queue: str, notified: bool, many: bool
) -> None:
    assert value(conn, "select hashtext('jobrunner.outbox') & 15 <> hashtext('bulk') & 15"), "two buckets"
    ears = connect()
    ears.execute("listen jobrunner")
    if sleeps:
        somebody_sleeps(conn, sleeps, queue)

    with conn.transaction():
        for _ in range(3):  # one notification a transaction, however many events
            if many:
                publish_many(conn, [{}, {}])
            else:
                publish(conn)

    conn.execute("notify jobrunner, 'end'")
    heard = [note.payload for note in ears.notifies(timeout=10, stop_after=2 if notified else 1)]
    assert heard == (["outbox", "end"] if notified else ["end"])


def test_a_publish_takes_no_lock_that_another_could_wait_for(conn: Connection, connect: Connect) -> None:
    """Not of the same key, and not while a sequencer, or a registration with its lock, has not committed."""
    open_one, sequencing = connect(autocommit=False), connect(autocommit=False)
    publish(open_one, key="k", subject="s")
    publish(conn)
    sequence(sequencing)
    subscribe(sequencing)
    conn.execute("set lock_timeout = '1s'")

    publish(conn, key="k", subject="s")
    publish_many(conn, [{"key": "k"}])

    sequencing.commit()
    open_one.commit()
    assert sequence(conn)[0] == 3
    assert calls.value(conn, "select count(*) from jobrunner.outbox") == 0
