"""The log: every committed event once, at dense positions, in an order that keys can trust; and no stranger holds it up."""

from __future__ import annotations

import random
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psycopg
import pytest

from jobrunner.embedded import EmbeddedServer
from tests.conftest import Connect
from tests.store import calls, log
from tests.store.calls import Connection, column, register, value
from tests.store.log import deliveries, head, outbox, positions, publish, publish_many, sequence, states, subscribe
from tests.support import wait_until

pytestmark = pytest.mark.pg16

Background = Callable[..., Future[Any]]
Blocked = Callable[[Connection | int], None]


def _dense(conn: Connection) -> bool:
    return column(conn, "select position from jobrunner.events order by position") == list(range(1, head(conn) + 1))


def test_positions_are_dense_and_follow_the_order_of_publishing(tx: Connection) -> None:
    subscribe(tx)
    ids = [publish(tx), *publish_many(tx, [{}] * 5), publish(tx)]

    assert [sequence(tx, 3), sequence(tx, 3), sequence(tx, 3), sequence(tx, 3)] == [
        (3, 3),
        (3, 3),
        (1, 1),
        (0, 0),
    ]

    assert list(positions(tx).items()) == [(event_id, n) for n, event_id in enumerate(ids, 1)]
    assert deliveries(tx) == list(range(1, 8))
    assert outbox(tx) == []


def test_a_floor_leaves_what_lies_below_it(tx: Connection) -> None:
    first, second = publish(tx), publish(tx)
    floor = value(tx, "select min(id) from jobrunner.outbox")

    assert sequence(tx, floor=floor) == (1, 0)
    assert (list(positions(tx)), outbox(tx)) == ([second], [first])
    assert sequence(tx) == (1, 0)


def test_a_batch_that_is_rolled_back_leaves_no_hole(conn: Connection, connect: Connect) -> None:
    subscribe(conn)
    ids = publish_many(conn, [{}] * 3)
    other = connect(autocommit=False)
    assert sequence(other, 2) == (2, 2)
    other.rollback()
    assert (positions(conn), deliveries(conn)) == ({}, [])

    sequence(conn)

    assert list(positions(conn).values()) == [1, 2, 3]
    assert list(positions(conn)) == ids


@pytest.mark.parametrize("where", ["the same database", "another database"])
def test_a_transaction_that_stays_open_delays_nobody_elses_events(
    conn: Connection, connect: Connect, bare_dsn: str, where: str
) -> None:
    """Whoever waits for the oldest transaction id waits for it, here or in another database of the server."""
    long = connect(autocommit=False)
    mine = publish(long)
    with psycopg.connect(bare_dsn) as stranger:
        if where == "another database":
            long.commit()
            stranger.execute("create table t (); select pg_current_xact_id()")
        theirs = publish(conn)

        sequence(conn)

        assert theirs in positions(conn)
    long.commit()
    sequence(conn)
    assert set(positions(conn)) == {mine, theirs}
    assert _dense(conn)


def test_a_transaction_with_the_older_id_that_publishes_a_key_later_comes_later(
    conn: Connection, connect: Connect
) -> None:
    """The inversion that ordering by transaction id falls for: B has the lower id, A commits the key first."""
    b = connect(autocommit=False)
    b.execute("select pg_current_xact_id()")
    a = publish(conn, key="k")
    later = publish(b, key="k")
    b.commit()

    sequence(conn)

    assert list(positions(conn)) == [a, later]


def test_the_later_of_a_key_is_never_recorded_before_the_earlier(conn: Connection, connect: Connect) -> None:
    """Also when batches end between them, and another transaction is open around both."""
    around = connect(autocommit=False)
    middle = publish(around)
    ids = [publish(conn, key="k") for _ in range(5)]
    while sequence(conn, 2)[0]:
        pass
    around.commit()
    sequence(conn)

    assert list(positions(conn)) == [*ids, middle]


def test_what_many_publishers_committed_is_what_the_log_has(conn: Connection, connect: Connect) -> None:
    """Rollbacks, savepoints, open transactions, and two sequencers that compete, one of which often rolls back."""
    subscribe(conn)
    committed: set[uuid.UUID] = set()
    order: dict[str, list[uuid.UUID]] = {}
    lock, over = threading.Lock(), threading.Event()
    errors: list[BaseException] = []

    def guarded(work: Callable[[Connection, random.Random], None], seed: int) -> None:
        try:
            work(sessions[seed], random.Random(seed))
        except BaseException as error:
            errors.append(error)

    def publisher(own: Connection, dice: random.Random) -> None:
        for _ in range(60):
            kept: list[uuid.UUID] = []
            key = f"k{dice.randrange(3)}"
            throw = dice.random()
            with own.transaction(force_rollback=throw < 0.2):
                own.execute("select pg_advisory_xact_lock(hashtext(%s))", [key])  # writers of a key take turns
                kept.append(publish(own, key=key))
                with own.transaction(force_rollback=dice.random() < 0.5) as inner:
                    event_id = publish(own, key=key)
                    if not inner.force_rollback:
                        kept.append(event_id)
                if dice.random() < 0.3:
                    kept += publish_many(own, [{"key": key}, {"key": key}])
                if throw >= 0.2:
                    with lock:
                        order.setdefault(key, []).extend(kept)
            if throw >= 0.2:
                committed.update(kept)

    def sequencer(own: Connection, dice: random.Random) -> None:
        while not over.is_set():
            with own.transaction(force_rollback=dice.random() < 0.3):
                sequence(own, dice.randint(1, 20))

    sessions = [connect() for _ in range(6)]
    threads = [threading.Thread(target=guarded, args=(publisher, n)) for n in range(4)]
    movers = [threading.Thread(target=guarded, args=(sequencer, n)) for n in (4, 5)]
    for thread in threads + movers:
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    for thread in movers:
        thread.join()
    while sequence(conn)[0]:
        pass

    assert errors == []
    recorded = positions(conn)
    assert set(recorded) == committed
    assert len(recorded) == head(conn) and _dense(conn)
    assert deliveries(conn) == list(range(1, head(conn) + 1))
    for key, ids in order.items():
        assert sorted(ids, key=recorded.__getitem__) == ids, f"{key} is out of order"
    assert value(
        conn,
        """select count(*) from (select recorded_at, lag(recorded_at) over (order by position) as before from jobrunner.events) e
           where recorded_at < before""",
    ) == 0  # fmt: skip


def test_of_two_sequencers_one_works_and_the_other_goes_away_at_once(conn: Connection, connect: Connect) -> None:
    publish_many(conn, [{}] * 4)
    first, second = connect(autocommit=False), connect()
    assert sequence(first, 2) == (2, 0)

    assert sequence(second, 2) == (-1, 0)

    first.commit()
    assert sequence(second, 2) == (2, 0)
    assert _dense(conn) and head(conn) == 4


def _move_before_the_lock(conn: Connection) -> None:
    """The head is read in a snapshot that is older than the lock: two events get one position."""
    calls.replace(
        conn,
        "sequence_v1",
        (
            "    if _alone and not pg_try_advisory_xact_lock(727004) then\n        moved := -1;\n        return;\n    end if;\n",
            "",
        ),
        (
            "into _head, _at from jobrunner.log_head() h;",
            "into _head, _at from jobrunner.log_head() h;\n    perform pg_advisory_xact_lock(727004);",
        ),
    )


@pytest.mark.parametrize("mutant", [None, _move_before_the_lock])
def test_a_sequencer_that_waited_for_the_lock_sees_where_the_log_stands(
    conn: Connection,
    connect: Connect,
    background: Background,
    blocked: Blocked,
    mutant: Callable[[Connection], None] | None,
) -> None:
    """Why lock and head are statements apart; the try-lock is made a wait here, so that the race is sure."""
    if mutant:
        mutant(conn)
    else:
        calls.replace(
            conn,
            "sequence_v1",
            ("if _alone and not pg_try_advisory_xact_lock(727004) then", "if pg_advisory_xact_lock(727004) is null then"),
        )  # fmt: skip
    publish_many(conn, [{}] * 4)
    first, second = connect(autocommit=False), connect()
    sequence(first, 2)
    waits = background(sequence, second)
    blocked(second)

    first.commit()
    waits.result(10)

    assert (column(conn, "select position from jobrunner.events order by 1") == [1, 2, 3, 4]) is (mutant is None)


@pytest.mark.parametrize("at", ["the partition", "the log", "the deliveries", "the links", "the commit"])
def test_a_sequencer_that_is_killed_half_way_leaves_all_to_the_next(
    conn: Connection, connect: Connect, background: Background, blocked: Blocked, at: str
) -> None:
    """Killed at each statement: a lock makes it wait there."""
    subscribe(conn)
    ids = publish_many(conn, [{}] * 3)
    stand, victim = connect(autocommit=False), connect(autocommit=False)
    pid = victim.info.backend_pid
    match at:
        case "the partition":
            for name in column(
                conn, "select inhrelid::regclass from pg_inherits where inhparent = 'jobrunner.events'::regclass"
            ):
                conn.execute(f"drop table {name}")
            stand.execute("select pg_advisory_xact_lock(727003)")
        case "the log":
            stand.execute("lock table jobrunner.events in share mode")
        case "the deliveries":
            stand.execute("lock table jobrunner.jobs in share mode")
        case "the links":
            stand.execute("lock table jobrunner.job_links in share mode")
    moving = background(sequence, victim)
    if at == "the commit":
        moving.result(10)
    else:
        blocked(victim)
    assert sequence(conn) == (-1, 0)

    assert value(conn, "select pg_terminate_backend(%s)", pid)
    wait_until(lambda: not column(conn, "select pid from pg_stat_activity where pid = %s", pid), what="its end")
    stand.rollback()
    if at != "the commit":
        with pytest.raises(psycopg.OperationalError):
            moving.result(10)

    assert sequence(conn) == (3, 3)
    assert list(positions(conn)) == ids and _dense(conn)
    assert deliveries(conn) == [1, 2, 3]


def test_a_missing_partition_is_made_by_the_sequencer_and_no_publish_needs_one(conn: Connection) -> None:
    for name in column(
        conn, "select inhrelid::regclass from pg_inherits where inhparent = 'jobrunner.events'::regclass"
    ):
        conn.execute(f"drop table {name}")
    ids = publish_many(conn, [{}] * 2)

    assert sequence(conn) == (2, 0)

    assert list(positions(conn)) == ids
    assert value(conn, "select max(tableoid::regclass::text) from jobrunner.events") == value(
        conn, "select 'jobrunner.events_p' || to_char(now() at time zone 'utc', 'YYYYMMDD')"
    )


def _clock(conn: Connection, at: str) -> None:
    """The sequencer's clock says *at*: the function with another clock in it."""
    changed = ("greatest(h.recorded_at, clock_timestamp())", f"greatest(h.recorded_at, '{at}'::timestamptz)")
    calls.replace(conn, "sequence_v1", changed)


def test_at_midnight_the_log_goes_on_in_the_next_day(conn: Connection) -> None:
    """In UTC, whatever the session's time zone; the day was not made ahead."""
    subscribe(conn)
    conn.execute("set timezone = 'Pacific/Kiritimati'")
    for at in ("2030-01-01 23:59:59.999999Z", "2030-01-02 00:00:00Z", "2030-01-02 00:00:01Z"):
        _clock(conn, at)
        publish(conn)
        assert sequence(conn) == (1, 1)

    assert column(conn, "select tableoid::regclass::text from jobrunner.events order by position") == [
        "jobrunner.events_p20300101",
        "jobrunner.events_p20300102",
        "jobrunner.events_p20300102",
    ]
    assert _dense(conn)
    found = conn.execute(
        "select n, position from jobrunner.load_deliveries_v1(array(select args::text from jobrunner.jobs order by id))"
    )
    assert found.fetchall() == [(1, 1), (2, 2), (3, 3)]


def test_a_clock_that_goes_back_neither_reverses_the_log_nor_loses_its_place(conn: Connection) -> None:
    subscribe(conn)
    for at in ("2030-05-05 12:00Z", "2020-01-01 00:00Z", "2030-05-05 11:59Z", "2030-05-06 12:00Z"):
        _clock(conn, at)
        publish(conn)
        assert sequence(conn) == (1, 1)
    calls.replace(conn, "sequence_v1")
    publish(conn)  # years before the head
    sequence(conn)

    days = column(conn, "select recorded_at::date::text from jobrunner.events order by position")
    assert days == ["2030-05-05", "2030-05-05", "2030-05-05", "2030-05-06", "2030-05-06"]
    assert _dense(conn) and deliveries(conn) == [1, 2, 3, 4, 5]
    assert value(conn, "select jobrunner.position_at('2030-05-06Z')") == 3


def test_positions_go_on_where_they_were_when_the_old_days_were_dropped(tx: Connection) -> None:
    publish_many(tx, [{}] * 3)
    sequence(tx)
    tx.execute(
        "insert into jobrunner.log_base (position, recorded_at) select position, recorded_at from jobrunner.log_head()"
    )
    tx.execute("delete from jobrunner.events")
    assert head(tx) == 3

    publish(tx)
    sequence(tx)

    assert list(positions(tx).values()) == [4]
    assert value(tx, "select jobrunner.position_at('-infinity')") == 3
    assert value(tx, "select jobrunner.position_at('infinity')") == 4


def test_the_position_of_an_instant_is_that_of_the_last_event_before_it(conn: Connection) -> None:
    assert value(conn, "select jobrunner.position_at('infinity')") == 0
    for day in range(1, 8):
        _clock(conn, f"2030-01-0{day} 00:00Z")
        publish_many(conn, [{}] * day)
        sequence(conn)

    for at, expected in (("2030-01-01", 0), ("2030-01-01 00:00:01", 1), ("2030-01-04", 6), ("2030-01-04 12:00", 10)):
        assert value(conn, "select jobrunner.position_at(%s::timestamp at time zone 'utc')", at) == expected
    assert value(conn, "select jobrunner.position_at('infinity')") == 28
    assert value(conn, "select jobrunner.position_at(null)") is None


def test_a_row_of_the_outbox_that_somebody_holds_stalls_only_itself(conn: Connection, connect: Connect) -> None:
    held, free = publish(conn), publish(conn)
    person = connect(autocommit=False)
    person.execute("select from jobrunner.outbox where event_id = %s for update", [held])

    assert sequence(conn) == (1, 0)
    assert (list(positions(conn)), outbox(conn)) == ([free], [held])

    person.rollback()
    assert sequence(conn) == (1, 0)


def test_another_isolation_level_is_refused(connect: Connect) -> None:
    own = connect(autocommit=False)
    own.execute("set transaction isolation level repeatable read")
    with pytest.raises(psycopg.Error, match="needs READ COMMITTED") as refused:
        sequence(own)
    assert refused.value.sqlstate == "JR002"


def test_a_session_sees_what_it_publishes_in_its_own_transaction_without_the_lock(tx: Connection) -> None:
    """`_alone => false`: for a test that rolls everything back."""
    publish(tx)
    assert tx.execute("select moved, delivered from jobrunner.sequence_v1(10, 0, false)").fetchone() == (1, 0)


def test_a_delivery_points_at_its_event_and_belongs_to_its_tree(tx: Connection) -> None:
    subscribe(tx, queue="mail", priority=3, max_attempts=4)
    tree = uuid.uuid4()
    root, child = publish(tx, version=2), publish(tx, correlation_id=tree, data={"n": 1})
    sequence(tx)

    made = tx.execute(
        """select j.state, j.queue, j.priority, j.max_attempts, j.version, j.key, l.correlation_id, l.cause_event
           from jobrunner.jobs j join jobrunner.job_links l on l.job_id = j.id order by j.id"""
    ).fetchall()
    assert made == [
        ("ready", "mail", 3, 4, 2, None, root, root),
        ("ready", "mail", 3, 4, 1, None, tree, child),
    ]
    loaded = tx.execute(
        """select n, position, event_id, correlation_id, data from jobrunner.load_deliveries_v1(
               array(select args::text from jobrunner.jobs order by id desc)
               || '{"position": 9, "recorded_at": "2020-01-01Z"}'::text
           )"""
    ).fetchall()
    assert loaded == [(1, 2, child, tree, '{"n": 1}'), (2, 1, root, root, "{}")]


@pytest.fixture
def other_server(pg_major: int) -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start(major=pg_major, settings={"fsync": "off"}) as running:
        yield running


def test_a_dump_that_is_restored_into_a_fresh_cluster_goes_on_where_it_was(
    dsn: str, conn: Connection, other_server: EmbeddedServer, psql: Path, pg_dump: Path
) -> None:
    """A fresh cluster counts its transactions from the beginning: nothing may hang on their ids."""
    conn.execute("do $$ begin for _ in 1 .. 3000 loop perform pg_current_xact_id(); commit; end loop; end $$")
    register(conn)
    subscribe(conn, ordered=True)
    subscribe(conn, "shop.feed", mode="stream")
    publish_many(conn, [{"key": "k"}] * 3)
    sequence(conn)
    assert log.advance(conn, log.read(conn, "shop.feed", 2), "shop.feed")
    waiting = publish(conn, key="k")  # still in the outbox
    assert value(conn, "select max(xact) from jobrunner.outbox") > 3000
    dump = subprocess.run([pg_dump, "-d", dsn], check=True, capture_output=True)
    subprocess.run(
        [psql, "-d", other_server.dsn, "-X", "-q", "-v", "ON_ERROR_STOP=1"],
        input=dump.stdout,
        check=True,
        capture_output=True,
    )

    with psycopg.connect(other_server.dsn, autocommit=True, prepare_threshold=None) as there:
        assert value(there, "select pg_current_xact_id()::text::bigint < 3000"), "or it proves nothing"
        new = publish(there, key="k")
        assert sequence(there) == (2, 2)
        assert list(positions(there).items())[3:] == [(waiting, 4), (new, 5)]
        assert [log.position(claimed) for claimed in log.run_all(there)] == [1, 2, 3, 4, 5]
        assert log.read(there, "shop.feed").positions == [3, 4, 5]
        assert len(log.claim(there, "shop.feed")) == 1


def test_a_newer_version_than_any_runner_knows_waits_and_the_others_go_on(tx: Connection) -> None:
    """A rolling deploy: the new code publishes already, the old one is still alone."""
    register(tx, 1, [log.SUB], version=1)
    subscribe(tx)
    publish(tx, version=2)
    publish(tx, version=1)
    sequence(tx)

    assert [log.position(claimed) for claimed in log.claim(tx)] == [2]

    tx.execute("select jobrunner.park_v1('default', 100)")
    assert states(tx)[1] == "blocked/task"
    register(tx, 2, [log.SUB], version=2)
    tx.execute("select jobrunner.unpark_v1(array[%s], array[2::smallint], 100)", [log.SUB])
    assert [log.position(claimed) for claimed in log.claim(tx, runner=2, version=2)] == [1]
