"""Jobs of one key: one at a time, in order, and whoever holds a row stops nobody but its own key."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from jobrunner.store.queries import text
from tests.conftest import Connect
from tests.store import calls
from tests.store.calls import (
    Claim,
    Connection,
    claim,
    column,
    depart,
    enqueue,
    finish_in_place,
    job,
    register,
    seat,
    settle,
    state,
    sweep,
    value,
)  # fmt: skip

pytestmark = pytest.mark.pg16

Background = Callable[..., Future[Any]]
Blocked = Callable[[Connection], None]


def _holder(conn: Connection, key: str = "k") -> Claim:
    register(conn)
    enqueue(conn, key=key)
    seat(conn)
    [claimed] = claim(conn)
    return claimed


def test_the_first_of_a_key_is_ready_and_the_others_wait_in_order(conn: Connection) -> None:
    register(conn)
    ids = [enqueue(conn, key="k") for _ in range(3)]
    assert [state(conn, job_id) for job_id in ids] == ["blocked/arrival"] * 3

    assert seat(conn) == (3, 3)

    assert [state(conn, job_id) for job_id in ids] == ["ready", "blocked/key", "blocked/key"]
    ran = []
    for _ in ids:
        [claimed] = claim(conn)
        ran.append(claimed.id)
        assert claim(conn) == []
        settle(conn, 1, [claimed], "succeeded")
    assert ran == ids


@pytest.mark.parametrize("end", ["dead", "cancelled", "succeeded"])
def test_every_end_passes_the_turn_on(conn: Connection, end: str) -> None:
    holder = _holder(conn)
    behind = enqueue(conn, key="k")
    seat(conn)

    settle(conn, 1, [holder], end)

    assert state(conn, behind) == "ready"


@pytest.mark.parametrize("end", ["scheduled", "ready"])
def test_another_try_keeps_the_turn(conn: Connection, end: str) -> None:
    holder = _holder(conn)
    behind = enqueue(conn, key="k")
    seat(conn)

    settle(conn, 1, [holder], end, outcome="failed")

    assert job(conn, holder.id)["holds_key"]
    assert state(conn, behind) == "blocked/key"


def test_an_end_while_a_seat_step_holds_the_holder_waits_for_it(conn: Connection, connect: Connect) -> None:
    """The defect that this protects from: the job was dead, held its key for ever, and nothing would ever take it from it."""
    holder = _holder(conn)
    behind = enqueue(conn, key="k")
    seating = connect(autocommit=False)
    assert seat(seating) == (1, 1)

    assert settle(conn, 1, [holder], "dead") == [], "it must be sent again"

    seating.commit()
    assert settle(conn, 1, [holder], "dead") == [holder.id]
    assert (job(conn, holder.id)["holds_key"], state(conn, behind)) == (False, "ready")


def test_an_end_whose_next_in_line_is_held_by_a_users_transaction_waits_and_the_others_settle(
    conn: Connection, connect: Connect
) -> None:
    holder = _holder(conn)
    behind = enqueue(conn, key="k", unique_key="u")
    plain = enqueue(conn)
    seat(conn)
    claims = [holder, *claim(conn)]
    user = connect(autocommit=False)
    assert enqueue(user, key="k", unique_key="u") == behind

    assert settle(conn, 1, claims, "succeeded") == [plain]

    user.commit()
    assert settle(conn, 1, [holder], "succeeded") == [holder.id]
    assert state(conn, behind) == "ready"


def test_a_sweep_leaves_a_job_whose_next_in_line_is_held_for_later(conn: Connection, connect: Connect) -> None:
    holder = _holder(conn)
    behind = enqueue(conn, key="k")
    seat(conn)
    finish_in_place(conn, 1, holder)
    person = connect(autocommit=False)
    person.execute("update jobrunner.jobs set headers = '{}' where id = %s", [behind])

    assert sweep(conn) == 0

    person.rollback()
    assert sweep(conn) == 1
    assert state(conn, behind) == "ready"


PAUSE = "and pg_advisory_xact_lock_shared(99) is not null"
"""Between the snapshot and the lock of a statement: waits for who holds 99."""


def _depart_with_a_pause(conn: Connection) -> None:
    calls.replace(
        conn,
        "depart_v1",
        ("> '-infinity'         -- bare", f"> '-infinity' {PAUSE}       -- bare"),
    )


def _depart_in_one_statement(conn: Connection) -> None:
    before, _, rest = text("functions/depart_v1.sql").partition("    select array_agg(l.id)")
    _, _, after = rest.partition("    with me as materialized (")
    assert before and after
    locking = f"""
        with held as materialized (
            select j.id from jobrunner.jobs j where j.id = any (_ids) and j.finished_at is not null {PAUSE}
            order by j.id for update skip locked
        ),
        me as materialized ("""
    after = after.replace("any (_held)", "any (array(select h.id from held h))").replace(
        "return cardinality(_held)", "return 1"
    )
    conn.execute(before + locking + after)


@pytest.mark.parametrize(
    ("depart_is", "turn"), [(_depart_with_a_pause, "ready"), (_depart_in_one_statement, "blocked/key")]
)
def test_a_waiter_seated_while_the_holder_departs_gets_its_turn(
    conn: Connection,
    connect: Connect,
    background: Background,
    blocked: Blocked,
    depart_is: Callable[[Connection], None],
    turn: str,
) -> None:
    """And in one statement it would not: the mutant is the second case."""
    holder = _holder(conn)
    finish_in_place(conn, 1, holder)
    depart_is(conn)
    latch, departing = connect(), connect()
    latch.execute("select pg_advisory_lock(99)")
    departed = background(depart, departing, [holder.id])
    blocked(departing)

    behind = enqueue(conn, key="k")
    assert seat(conn) == (1, 1)
    latch.execute("select pg_advisory_unlock(99)")
    departed.result(10)

    assert state(conn, behind) == turn


def test_a_seat_step_leaves_a_key_whose_holder_is_just_ending(conn: Connection, connect: Connect) -> None:
    holder = _holder(conn)
    behind = enqueue(conn, key="k")
    ending = connect(autocommit=False)
    settle(ending, 1, [holder], "succeeded")

    assert seat(conn) == (1, 0)

    ending.commit()
    assert seat(conn) == (1, 1)
    assert state(conn, behind) == "ready"


def test_a_seat_step_that_does_not_hold_the_holder_would_lose_the_waiter(conn: Connection, connect: Connect) -> None:
    """The mutant of the test above."""
    calls.replace(conn, "seat_rows_v1", ("            for key share skip locked\n", ""))
    holder = _holder(conn)
    behind = enqueue(conn, key="k")
    ending = connect(autocommit=False)
    settle(ending, 1, [holder], "succeeded")

    assert seat(conn) == (1, 1)

    ending.commit()
    assert state(conn, behind) == "blocked/key"
    assert column(conn, "select id from jobrunner.jobs where holds_key") == []


def test_only_one_session_seats_at_a_time_and_the_other_does_not_wait(conn: Connection, connect: Connect) -> None:
    enqueue(conn, key="k")
    seating = connect(autocommit=False)
    seat(seating)

    assert seat(conn) == (-1, 0)


def test_a_delayed_job_takes_its_place_when_it_is_due(conn: Connection) -> None:
    late = enqueue(conn, key="k", delay="1 hour")
    early = enqueue(conn, key="k")
    seat(conn)
    assert (state(conn, late), state(conn, early)) == ("scheduled", "ready")

    conn.execute("select jobrunner.promote_v1(10, '-infinity', now() + interval '2 hours')")
    seat(conn)

    assert state(conn, late) == "blocked/key"


def test_one_key_with_many_waiters_does_not_touch_another(conn: Connection) -> None:
    _holder(conn)
    for _ in range(20):
        enqueue(conn, key="k")
    other = enqueue(conn, key="other")
    seat(conn)

    assert [claimed.id for claimed in claim(conn)] == [other]


def test_a_key_whose_holder_was_deleted_by_hand_is_repaired(conn: Connection) -> None:
    holder = _holder(conn)
    behind = [enqueue(conn, key="k") for _ in range(2)]
    enqueue(conn, key="healthy")
    seat(conn)
    conn.execute("delete from jobrunner.jobs where id = %s", [holder.id])

    assert value(conn, "select jobrunner.repair_keys_v1()") == 1

    assert [state(conn, job_id) for job_id in behind] == ["ready", "blocked/key"]
    assert value(conn, "select jobrunner.repair_keys_v1()") == 0


def test_nobody_overtakes_an_earlier_arrival_of_his_key_that_somebody_holds(conn: Connection, connect: Connect) -> None:
    first, second, third = enqueue(conn, key="k"), enqueue(conn, key="k", unique_key="u"), enqueue(conn, key="k")
    other = enqueue(conn, key="l")
    user = connect(autocommit=False)
    assert enqueue(user, unique_key="u") == second

    assert seat(conn) == (4, 2)
    assert [state(conn, job_id) for job_id in (first, second, third, other)] == [
        "ready", "blocked/arrival", "blocked/arrival", "ready",
    ]  # fmt: skip

    user.commit()
    assert seat(conn) == (2, 2)
    assert column(conn, "select id from jobrunner.jobs where key = 'k' order by key_pos") == [first, second, third]


@pytest.mark.parametrize("held", ["holder", "arrival"])
def test_a_page_of_arrivals_that_cannot_be_seated_is_no_wall_for_other_keys(
    conn: Connection, connect: Connect, held: str
) -> None:
    holder = enqueue(conn, key="k")
    seat(conn)
    arrivals = [enqueue(conn, key="k") for _ in range(10)]
    other = enqueue(conn, key="l")
    late = enqueue(conn, key="k")
    person = connect(autocommit=False)
    person.execute("select from jobrunner.jobs where id = %s for update", [holder if held == "holder" else arrivals[0]])

    assert seat(conn, 10) == (12, 1)
    assert (state(conn, other), state(conn, late)) == ("ready", "blocked/arrival")

    person.rollback()
    assert seat(conn) == (11, 11)
    line = column(conn, "select id from jobrunner.jobs where key = 'k' order by key_pos")
    assert line == [holder, *arrivals, late]


def test_a_sweep_looks_behind_those_that_cannot_depart(conn: Connection, connect: Connect) -> None:
    register(conn)
    for n in range(10):
        enqueue(conn, key=f"k{n}")
        enqueue(conn, key=f"k{n}")
    plain = enqueue(conn)
    seat(conn)
    for claimed in claim(conn):
        finish_in_place(conn, 1, claimed)
    conn.execute("update jobrunner.jobs set finished_at = now() + interval '1 s' where id = %s", [plain])
    person = connect(autocommit=False)
    person.execute("select from jobrunner.jobs where blocked_on = 'key' for update")

    assert sweep(conn, 10) == 1

    assert job(conn, plain)["at"] == "finished_jobs"


def test_a_repair_leaves_a_first_in_line_that_somebody_holds(conn: Connection, connect: Connect) -> None:
    holder, behind = enqueue(conn, key="k"), enqueue(conn, key="k")
    seat(conn)
    conn.execute("delete from jobrunner.jobs where id = %s", [holder])
    person = connect(autocommit=False)
    person.execute("select jobrunner.op_cancel(%s)", [[behind]])
    conn.execute("set statement_timeout = '1 s'")

    assert value(conn, "select jobrunner.repair_keys_v1()") == 0

    person.rollback()
    assert value(conn, "select jobrunner.repair_keys_v1()") == 1
    assert state(conn, behind) == "ready"


def test_a_requeued_job_goes_to_the_end_of_its_line(conn: Connection) -> None:
    first = _holder(conn)
    second = enqueue(conn, key="k")
    seat(conn)
    settle(conn, 1, [first], "dead")
    conn.execute("select jobrunner.op_requeue(%s)", [[first.id]])
    assert state(conn, first.id) == "blocked/arrival"

    seat(conn)

    assert (state(conn, second), state(conn, first.id)) == ("ready", "blocked/key")


def test_requeued_jobs_of_one_key_keep_their_order_wherever_their_rows_lie(conn: Connection) -> None:
    ids = [enqueue(conn, key="k") for _ in range(400)]
    conn.execute(
        "update jobrunner.jobs "
        "set state = 'dead', blocked_on = null, reason = 'exhausted', error = '{}', finished_at = now()"
    )
    conn.execute("update jobrunner.jobs set error = '{\"moved\": 1}' where id = any (%s)", [ids[:200:7]])
    conn.execute("analyze jobrunner.jobs")
    assert column(conn, "select id from jobrunner.jobs order by ctid") != ids

    conn.execute("select jobrunner.op_requeue(%s)", [ids])
    seat(conn, 1000)

    assert column(conn, "select id from jobrunner.jobs where key = 'k' order by key_pos") == ids
