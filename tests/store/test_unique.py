"""Uniqueness: a skipped enqueue never misses a later start, and no change of state ever raises a conflict."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.store import calls
from tests.store.calls import Connection, claim, column, enqueue, finish, job, promote, register, settle, state

pytestmark = pytest.mark.pg16

Background = Callable[..., Future[Any]]
Blocked = Callable[[Connection], None]


def test_while_a_job_waits_another_enqueue_returns_that_job(conn: Connection) -> None:
    first = enqueue(conn, unique_key="u")

    assert enqueue(conn, unique_key="u") == first
    assert enqueue(conn, "shop.other", unique_key="u") != first, "a unique key is a task's own"


@pytest.mark.parametrize(("until", "again_while_running"), [("start", True), ("finish", False)])
def test_the_key_is_free_again_from_the_start_or_from_the_finish(
    conn: Connection, until: str, again_while_running: bool
) -> None:
    register(conn)
    first = enqueue(conn, unique_key="u", unique_until=until)
    claims = claim(conn)

    second = enqueue(conn, unique_key="u", unique_until=until)
    assert (second != first) == again_while_running

    finish(conn, 1, claims)
    assert enqueue(conn, unique_key="u", unique_until=until) not in (
        {first} if again_while_running else {first, second}
    )


@pytest.mark.parametrize("end", ["dead", "cancelled", "succeeded"])
def test_every_end_gives_a_key_up_that_was_held_until_the_finish(conn: Connection, end: str) -> None:
    register(conn)
    first = enqueue(conn, unique_key="u", unique_until="finish")
    settle(conn, 1, claim(conn), end)

    assert enqueue(conn, unique_key="u") != first


def test_a_retry_keeps_a_key_until_the_finish_and_takes_none_back_after_the_start(conn: Connection) -> None:
    register(conn)
    to_start, to_finish = enqueue(conn, unique_key="s"), enqueue(conn, unique_key="f", unique_until="finish")
    claims = claim(conn)
    after = enqueue(conn, unique_key="s")

    settle(conn, 1, claims, "scheduled", failed=True, outcome="failed")
    promote(conn)

    assert [state(conn, job_id) for job_id in (to_start, to_finish, after)] == ["ready"] * 3
    assert enqueue(conn, unique_key="f") == to_finish
    assert enqueue(conn, unique_key="s") == after


def test_a_skipped_enqueue_is_followed_by_a_start_after_its_commit(conn: Connection, connect: Connect) -> None:
    """Otherwise the job would read the rows from before the commit, and nothing would run after it."""
    register(conn)
    job_id = enqueue(conn, unique_key="u")
    user = connect(autocommit=False)
    assert enqueue(user, unique_key="u") == job_id

    assert claim(conn) == []

    user.commit()
    assert [claimed.id for claimed in claim(conn)] == [job_id]


def test_a_skip_without_the_lock_would_miss_it(conn: Connection, connect: Connect) -> None:
    """The mutant of the test above."""
    calls.replace(conn, "take_unique_key", ("and j.state <> 'running' for share;", ";"))
    register(conn)
    job_id = enqueue(conn, unique_key="u")
    user = connect(autocommit=False)
    enqueue(user, unique_key="u")

    assert [claimed.id for claimed in claim(conn)] == [job_id]


def test_an_enqueue_against_a_claim_that_has_not_committed_waits_and_writes_its_own(
    conn: Connection, connect: Connect, background: Background, blocked: Blocked
) -> None:
    register(conn)
    first = enqueue(conn, unique_key="u")
    claiming, user = connect(autocommit=False), connect()
    assert len(claim(claiming)) == 1
    second = background(enqueue, user, unique_key="u")
    blocked(user)

    claiming.commit()

    assert second.result(10) != first
    assert [claimed.id for claimed in claim(conn)] == [second.result()]


def test_a_claim_that_is_rolled_back_leaves_the_waiting_enqueue_with_the_first_job(
    conn: Connection, connect: Connect, background: Background, blocked: Blocked
) -> None:
    register(conn)
    first = enqueue(conn, unique_key="u")
    claiming, user = connect(autocommit=False), connect()
    claim(claiming)
    second = background(enqueue, user, unique_key="u")
    blocked(user)

    claiming.rollback()

    assert second.result(10) == first


@pytest.mark.parametrize("commit", [True, False])
def test_the_second_enqueuer_waits_for_the_first(
    conn: Connection, connect: Connect, background: Background, blocked: Blocked, commit: bool
) -> None:
    one, two = connect(autocommit=False), connect()
    first = enqueue(one, unique_key="u")
    second = background(enqueue, two, unique_key="u")
    blocked(two)

    one.commit() if commit else one.rollback()

    assert (second.result(10) == first) == commit
    assert len(column(conn, "select id from jobrunner.jobs")) == 1


def test_in_repeatable_read_a_key_taken_meanwhile_is_a_serialization_failure(
    conn: Connection, connect: Connect
) -> None:
    user = connect(autocommit=False)
    user.execute("set transaction isolation level repeatable read")
    user.execute("select 1 from jobrunner.settings")
    enqueue(conn, unique_key="u")

    with pytest.raises(psycopg.errors.SerializationFailure):
        enqueue(user, unique_key="u")


def test_two_bulk_calls_in_opposite_order_do_not_deadlock(
    conn: Connection, connect: Connect, background: Background, blocked: Blocked
) -> None:
    one, two = connect(autocommit=False), connect(autocommit=False)
    names = [f"u{n}" for n in range(20)]
    calls.enqueue_many(one, [{"unique_key": name} for name in names])
    other = background(calls.enqueue_many, two, [{"unique_key": name} for name in reversed(names)])
    blocked(two)

    one.commit()

    assert other.result(10) == [None] * 20


def test_the_key_of_a_job_that_was_deleted_by_hand_is_free(conn: Connection) -> None:
    first = enqueue(conn, unique_key="u")
    conn.execute("delete from jobrunner.jobs where id = %s", [first])

    second = enqueue(conn, unique_key="u")

    assert column(conn, "select id from jobrunner.jobs") == [second]
    assert enqueue(conn, unique_key="u") == second


@pytest.mark.parametrize("savepoints", [0, 1, 2])
def test_a_key_twice_in_one_bulk_call_is_taken_once(conn: Connection, savepoints: int) -> None:
    """The first job has its key, and is not written yet, when the second asks for it."""
    with ExitStack() as stack:
        for _ in range(1 + savepoints):
            stack.enter_context(conn.transaction())
        ids = calls.enqueue_many(conn, [{"unique_key": "u"}, {"unique_key": "u"}])

    assert ids[1] is None
    assert column(conn, "select id from jobrunner.jobs") == [ids[0]]


def test_cancelling_a_waiting_job_frees_its_key(conn: Connection) -> None:
    first = enqueue(conn, unique_key="u")
    conn.execute("select jobrunner.op_cancel(%s)", [[first]])

    second = enqueue(conn, unique_key="u")

    assert second != first
    assert job(conn, first)["at"] == "finished_jobs"
