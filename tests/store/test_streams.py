"""Streams: batches from the log behind a cursor that moves in the handler's transaction; nothing is missed, nothing read twice."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from tests.conftest import Connect
from tests.store import calls
from tests.store.calls import Connection, column, register, seat, settle, value
from tests.store.load import Load
from tests.store.log import SUB, Batch, advance, claim, head, publish, publish_many, read, sequence, states, subscribe
from tests.support import wait_until

pytestmark = pytest.mark.pg16

Background = Callable[..., Future[Any]]
Blocked = Callable[[Connection | int], None]

PUMPS = "select count(*) from jobrunner.jobs where task = %s and finished_at is null"


def pump(conn: Connection) -> bool:
    return bool(value(conn, "select jobrunner.pump_v1(%s)", SUB))


def _stream(conn: Connection, after: int | None = None, **options: object) -> None:
    """A stream whose first pump is done."""
    register(conn)
    subscribe(conn, after=after, mode="stream", **options)
    _run(conn)


def _run(conn: Connection) -> list[int]:
    """One pump: reads a batch, moves the cursor, ends."""
    [claimed] = claim(conn)
    batch = read(conn)
    assert advance(conn, batch)
    settle(conn, 1, [claimed], "succeeded")
    return batch.positions


# --------------------------------------------------------------------------------------------------------------- batches
def test_a_batch_is_what_lies_behind_the_cursor_in_order(tx: Connection) -> None:
    _stream(tx)
    assert read(tx) == Batch(0, 0, [])
    publish_many(tx, [{}] * 5)
    sequence(tx)

    assert read(tx, n=3) == Batch(0, 3, [1, 2, 3])
    assert advance(tx, read(tx, n=3))
    assert read(tx, n=3) == Batch(3, 5, [4, 5])
    assert advance(tx, read(tx, n=3))
    assert read(tx) == Batch(5, 5, [])


def test_what_it_does_not_want_is_passed_over_a_window_at_a_time(tx: Connection) -> None:
    _stream(tx, types=["order.sent"], match={"a": 1})
    publish_many(tx, [{}] * 25)
    publish(tx, "order.sent")
    publish(tx, "order.sent", headers={"a": 1})
    publish_many(tx, [{}] * 5)
    sequence(tx)

    assert read(tx, n=3, window=10) == Batch(0, 10, [])
    assert advance(tx, Batch(0, 10, []))
    assert advance(tx, read(tx, n=3, window=10))
    assert read(tx, n=3, window=10) == Batch(20, 30, [27])
    assert read(tx, n=1, window=10) == Batch(20, 27, [27])


@pytest.mark.parametrize(("after", "expected"), [(None, [4]), (0, [1, 2, 3, 4]), (2, [3, 4])])
def test_a_stream_begins_where_it_says(tx: Connection, after: int | None, expected: list[int]) -> None:
    publish_many(tx, [{}] * 3)
    sequence(tx)
    register(tx)
    subscribe(tx, after=after, mode="stream")
    publish(tx)
    sequence(tx)

    assert _run(tx) == expected


def test_a_stream_that_begins_ahead_of_the_log_stays_there(tx: Connection) -> None:
    """Its cursor went back to the head, and what it was to leave out came."""
    _stream(tx, after=3)
    publish_many(tx, [{}] * 2)
    sequence(tx)
    assert read(tx) == Batch(3, 3, [])
    assert advance(tx, read(tx))
    publish_many(tx, [{}] * 2)
    sequence(tx)

    assert read(tx) == Batch(3, 4, [4])


def test_a_stream_that_is_gone_has_no_batch(tx: Connection) -> None:
    assert tx.execute("select from jobrunner.stream_batch_v1('shop.nobody', 10)").fetchall() == []
    assert value(tx, "select jobrunner.advance_stream_v1('shop.nobody', 0, 1)") is False


# ---------------------------------------------------------------------------------------------------------------- cursor
def test_a_cursor_that_a_person_moved_refuses_the_batch_that_was_under_way(tx: Connection) -> None:
    _stream(tx)
    publish_many(tx, [{}] * 4)
    sequence(tx)
    assert _run(tx) == [1, 2, 3, 4]
    publish(tx)
    sequence(tx)
    batch = read(tx)

    assert value(tx, "select jobrunner.op_replay(%s, 1)", SUB) is None

    assert not advance(tx, batch)
    assert read(tx).positions == [2, 3, 4, 5]


def test_a_batch_counts_once(tx: Connection) -> None:
    _stream(tx)
    publish_many(tx, [{}] * 4)
    sequence(tx)
    batch = read(tx)

    assert (advance(tx, batch), advance(tx, batch)) == (True, False)


def test_of_two_runs_at_once_one_is_refused(
    conn: Connection, connect: Connect, background: Background, blocked: Blocked
) -> None:
    """A zombie and its successor."""
    _stream(conn)
    publish(conn)
    sequence(conn)
    first, second = connect(autocommit=False), connect()
    batch = read(first)
    assert advance(first, batch)
    late = background(advance, second, batch)
    blocked(second)

    first.commit()

    assert late.result(10) is False


def test_a_batch_that_is_rolled_back_is_read_again(conn: Connection, connect: Connect) -> None:
    _stream(conn)
    publish_many(conn, [{}] * 2)
    sequence(conn)
    own = connect(autocommit=False)
    assert advance(own, read(own))
    own.rollback()

    assert read(conn) == Batch(0, 2, [1, 2])


def test_a_stream_passes_over_what_a_person_skipped(tx: Connection) -> None:
    _stream(tx)
    publish_many(tx, [{}] * 6)
    sequence(tx)

    def skip(position: int) -> str:
        return str(value(tx, "select jobrunner.op_skip(%s, %s, 'ann')", SUB, position))

    assert [skip(2), skip(5), skip(2), skip(9)] == ["skipped", "skipped", "over", "skipped"]
    assert read(tx, n=2) == Batch(0, 3, [1, 3])
    assert advance(tx, read(tx, n=2))
    assert skip(1) == "over"
    assert column(tx, "select skips from jobrunner.cursors") == [[5, 9]]
    assert read(tx) == Batch(3, 6, [4, 6])


# ------------------------------------------------------------------------------------------------------------------ pump
def test_a_pump_is_made_when_something_was_recorded_for_the_stream_and_one_is_enough(tx: Connection) -> None:
    _stream(tx, types=["order.*"])
    publish(tx, "other.thing")
    sequence(tx)
    assert value(tx, PUMPS, SUB) == 0

    for _ in range(3):
        publish(tx)
        assert sequence(tx) == (1, 0)
        seat(tx)
    assert value(tx, PUMPS, SUB) == 1

    [running] = claim(tx)
    for _ in range(3):
        publish(tx)
        sequence(tx)
        seat(tx)
    assert value(tx, PUMPS, SUB) == 2, "one runs, one waits behind it"
    settle(tx, 1, [running], "succeeded")
    assert len(claim(tx)) == 1


def test_a_batch_that_is_not_the_end_makes_the_next_pump_itself(tx: Connection) -> None:
    _stream(tx)
    publish_many(tx, [{}] * 3)
    sequence(tx)
    [running] = claim(tx)
    with tx.transaction():
        assert advance(tx, read(tx, n=2))
    settle(tx, 1, [running], "succeeded")

    assert _run(tx) == [3]
    assert claim(tx) == []


def test_a_pump_that_waits_starts_only_after_the_commit_of_who_found_it(conn: Connection, connect: Connect) -> None:
    """Else it reads the log before that, and nobody comes after it."""
    _stream(conn)
    publish(conn)
    sequence(conn)
    seat(conn)
    publish(conn)
    moving = connect(autocommit=False)
    sequence(moving)

    assert claim(conn) == [], "a claim passes over it"

    moving.commit()
    assert _run(conn) == [1, 2]


def test_a_pump_that_is_being_claimed_does_not_count(conn: Connection, connect: Connect) -> None:
    _stream(conn)
    publish(conn)
    sequence(conn)
    seat(conn)
    claiming = connect(autocommit=False)
    [running] = claim(claiming)
    publish(conn)

    sequence(conn)
    claiming.commit()

    assert value(conn, PUMPS, SUB) == 2
    settle(conn, 1, [running], "succeeded")
    assert _run(conn) == [1, 2]


def _lock_nobody(conn: Connection) -> None:
    text = "        and j.finished_at is null\n    for share skip locked;"
    calls.replace(conn, "pump_v1", (text, text.replace("    for share skip locked;", "    ;")))


def test_without_the_lock_on_the_pump_that_waits_an_event_is_missed(conn: Connection, connect: Connect) -> None:
    """The mutant of the two tests above."""
    _lock_nobody(conn)
    _stream(conn)
    publish(conn)
    sequence(conn)
    seat(conn)
    publish(conn)
    moving = connect(autocommit=False)
    sequence(moving)

    assert _run(conn) == [1]
    moving.commit()

    assert claim(conn) == [], "and 2 has nobody"


def test_a_dead_pump_does_not_count_and_one_that_is_retried_later_does(tx: Connection) -> None:
    _stream(tx, types=["order.*"])
    publish(tx)
    sequence(tx)
    [running] = claim(tx)
    settle(tx, 1, [running], "scheduled", delay=60)
    assert not pump(tx)
    tx.execute("select jobrunner.op_retry_now(%s)", [[running.id]])
    [running] = claim(tx)
    settle(tx, 1, [running], "dead")

    publish(tx)
    sequence(tx)

    assert _run(tx) == [1, 3], "2 was told about the dead one"


def test_a_paused_stream_has_no_new_pump_and_reads_all_of_it_when_it_is_resumed(conn: Connection) -> None:
    _stream(conn)
    publish(conn)
    sequence(conn)
    seat(conn)
    conn.execute("select jobrunner.op_pause_subscription(%s)", [SUB])
    assert claim(conn) == []
    conn.execute("select jobrunner.park_v1('default', 10)")
    publish(conn)
    sequence(conn)
    assert list(states(conn).values()) == ["blocked/task"]

    conn.execute("select jobrunner.op_resume_subscription(%s)", [SUB])

    assert _run(conn) == [1, 2]


def test_a_stream_that_is_resumed_while_a_step_that_saw_the_pause_is_open_misses_nothing(
    conn: Connection, connect: Connect, background: Background, blocked: Blocked
) -> None:
    _stream(conn)
    conn.execute("select jobrunner.op_pause_subscription(%s)", [SUB])
    publish(conn)
    moving, resuming = connect(autocommit=False), connect()
    assert sequence(moving) == (1, 0)
    resumed = background(value, resuming, "select jobrunner.op_resume_subscription(%s)", SUB)
    blocked(resuming)

    moving.commit()

    assert resumed.result(10)
    assert _run(conn) == [1]


def test_no_event_is_missed_under_load(conn: Connection, connect: Connect) -> None:
    """Two publishers, a sequencer that often rolls back and is slow to commit, and two runners that claim pumps and sometimes
    fail: each event once, in order, and no pump is left to be made."""
    for runner in (1, 2):
        register(conn, runner, [SUB])
    conn.execute("create table seen (n bigint generated always as identity, position bigint)")
    subscribe(conn, mode="stream")
    load = Load(connect)

    def publisher(own: Connection, dice: random.Random, _: int) -> None:
        if load.quiet.is_set():
            load.over.wait(0.01)
            return
        with own.transaction(force_rollback=dice.random() < 0.1):
            publish(own)
            load.over.wait(dice.random() * 0.004)

    def sequencer(own: Connection, dice: random.Random, _: int) -> None:
        with own.transaction(force_rollback=dice.random() < 0.2):
            sequence(own, dice.randint(1, 10))
            load.over.wait(dice.random() * 0.006)

    def worker(own: Connection, dice: random.Random, runner: int) -> None:
        for claimed in claim(own, runner=runner):
            with own.transaction() as doing:
                batch = read(own, n=5)
                own.cursor().executemany("insert into seen (position) values (%s)", [[p] for p in batch.positions])
                load.over.wait(dice.random() * 0.003)
                assert advance(own, batch)
                doing.force_rollback = failed = dice.random() < 0.1
            while not settle(own, runner, [claimed], "ready" if failed else "succeeded"):
                load.over.wait(0.001)

    with load.running(worker, worker, publisher, publisher, sequencer):
        wait_until(lambda: load.errors or head(conn) > 300, 30, "events")
        load.quiet.set()
        done = "select not exists (select from jobrunner.jobs) and not exists (select from jobrunner.outbox)"
        wait_until(lambda: load.errors or value(conn, done), 30, "the end of the work")

    assert column(conn, "select position from seen order by n") == list(range(1, head(conn) + 1))
    assert value(conn, "select count(*) from jobrunner.finished_jobs") <= head(conn) + 2
