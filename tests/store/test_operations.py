"""What people do: cancel, discard, requeue, reschedule, pause; each with an audit row, none in anybody's way."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from tests.conftest import Connect
from tests.store.calls import (
    Connection,
    claim,
    column,
    enqueue,
    give_back,
    job,
    lose,
    mark_lost,
    promote,
    register,
    seat,
    settle,
    state,
    sweep,
    value,
)  # fmt: skip

pytestmark = pytest.mark.pg16


def cancel(conn: Connection, *ids: int) -> dict[int, str]:
    """`op_cancel`: the result by id."""
    return dict(
        conn.execute("select id, result from jobrunner.op_cancel(%s, 'ann', 'because')", [list(ids)]).fetchall()
    )


def _dead(conn: Connection, n: int = 1, **options: object) -> list[int]:
    register(conn)
    ids = [enqueue(conn, **options) for _ in range(n)]
    seat(conn)
    while claims := claim(conn):
        settle(conn, 1, claims, "dead", failed=True, outcome="failed", reason="exhausted")
    return ids


def test_cancelling_what_waits_ends_it_in_history(conn: Connection) -> None:
    ids = [enqueue(conn), enqueue(conn, delay="1 hour"), enqueue(conn, key="k"), enqueue(conn, "shop.unknown")]
    register(conn)
    conn.execute("select jobrunner.park_v1('default', 10)")

    assert cancel(conn, *ids) == dict.fromkeys(ids, "cancelled")

    for job_id in ids:
        row = job(conn, job_id)
        assert (row["at"], row["state"], row["reason"], row["runner_id"]) == (
            "finished_jobs",
            "cancelled",
            "because",
            None,
        )


def test_cancelling_the_holder_of_a_key_passes_the_turn_with_the_next_sweep(conn: Connection) -> None:
    holder, behind = enqueue(conn, key="k"), enqueue(conn, key="k")
    seat(conn)

    assert cancel(conn, holder) == {holder: "cancelled"}
    assert state(conn, behind) == "blocked/key"

    assert sweep(conn) == 1
    assert state(conn, behind) == "ready"


def test_cancelling_one_that_waits_in_line_leaves_the_line_in_order(conn: Connection) -> None:
    register(conn)
    ids = [enqueue(conn, key="k") for _ in range(3)]
    seat(conn)
    cancel(conn, ids[1])

    [claimed] = claim(conn)
    settle(conn, 1, [claimed], "succeeded")

    assert state(conn, ids[2]) == "ready"


def test_cancelling_what_runs_asks_its_runner(conn: Connection) -> None:
    register(conn)
    job_id = enqueue(conn)
    claim(conn)

    assert cancel(conn, job_id) == {job_id: "requested"}

    assert conn.execute("select alive, cancel from jobrunner.beat_v1(1, 1, true)").fetchone() == (True, [job_id])
    assert state(conn, job_id) == "running"


def test_cancelling_what_is_over_unknown_or_held_says_so(conn: Connection, connect: Connect) -> None:
    over, held = _dead(conn)[0], enqueue(conn)
    person = connect(autocommit=False)
    person.execute("select from jobrunner.jobs where id = %s for update", [held])

    assert cancel(conn, over, 999, held) == {over: "over", 999: "over", held: "busy"}


def test_two_cancels_in_opposite_order_neither_wait_nor_deadlock(conn: Connection, connect: Connect) -> None:
    ids = [enqueue(conn, key=f"k{n % 3}") for n in range(10)]
    seat(conn)
    one, two = connect(autocommit=False), connect(autocommit=False)
    one.execute("set lock_timeout = '1 s'")
    two.execute("set lock_timeout = '1 s'")

    cancel(one, *ids[:5])
    assert set(cancel(two, *reversed(ids)).values()) == {"cancelled", "busy"}
    assert set(cancel(one, *ids).values()) <= {"over", "busy"}

    one.commit()
    two.commit()
    sweep(conn)
    assert column(conn, "select id from jobrunner.jobs") == []


def test_two_requests_to_cancel_in_opposite_order_do_not_deadlock(
    conn: Connection, connect: Connect, background: Callable[..., Future[Any]], blocked: Callable[[Connection], None]
) -> None:
    register(conn)
    ids = [enqueue(conn) for _ in range(20)]
    claim(conn)
    one, two = connect(autocommit=False), connect()
    cancel(one, *ids)
    other = background(cancel, two, *reversed(ids))
    blocked(two)

    one.commit()

    assert set(other.result(10).values()) == {"requested"}


def test_a_requeued_job_has_another_life_and_its_attempt_goes_on(conn: Connection) -> None:
    [job_id] = _dead(conn)
    conn.execute("update jobrunner.jobs set crashes = 2")

    assert value(conn, "select jobrunner.op_requeue(%s, _actor => 'ann')", [job_id]) == [job_id]

    row = job(conn, job_id)
    assert (row["state"], row["failures"], row["crashes"], row["attempt"], row["finished_at"]) == (
        "ready",
        0,
        0,
        1,
        None,
    )
    assert claim(conn)[0].attempt == 2


def test_a_request_to_cancel_of_a_former_life_does_not_end_the_next(conn: Connection) -> None:
    register(conn)
    job_id = enqueue(conn)
    claims = claim(conn)
    cancel(conn, job_id)
    settle(conn, 1, claims, "dead", failed=True, outcome="failed")
    conn.execute("select jobrunner.op_requeue(%s)", [[job_id]])

    [claimed] = claim(conn)
    settle(conn, 1, [claimed], "scheduled", failed=True, outcome="failed")

    assert state(conn, job_id) == "scheduled"


def test_a_spread_requeue_is_even_and_starts_now(conn: Connection) -> None:
    ids = _dead(conn, 10)

    conn.execute("select jobrunner.op_requeue(%s, '10 minutes')", [ids])

    assert state(conn, ids[0]) == "ready"
    waits = column(
        conn,
        "select round(extract(epoch from run_at - now()) / 60) from jobrunner.jobs where state = 'scheduled' order by id",
    )
    assert waits == list(range(1, 10))


def test_only_dead_jobs_are_requeued_and_discarded(conn: Connection) -> None:
    [dead] = _dead(conn)
    ready = enqueue(conn)

    assert value(conn, "select jobrunner.op_requeue(%s)", [ready, 999]) == []
    assert value(conn, "select jobrunner.op_discard(%s)", [ready, dead, 999]) == [dead]
    assert job(conn, dead)["at"] == "finished_jobs"
    assert (job(conn, dead)["state"], job(conn, dead)["reason"]) == ("cancelled", "discarded")


def test_a_job_is_moved_to_another_time_or_to_now(conn: Connection) -> None:
    ids = [enqueue(conn), enqueue(conn, delay="1 hour"), enqueue(conn, key="k", delay="1 hour"), enqueue(conn, key="k")]

    moved = value(conn, "select jobrunner.op_reschedule(%s, now() + interval '1 day')", ids)
    assert moved == ids[:3]
    assert [state(conn, job_id) for job_id in ids] == ["scheduled"] * 3 + ["blocked/arrival"]

    assert value(conn, "select jobrunner.op_retry_now(%s)", ids) == ids[:3]
    assert [state(conn, job_id) for job_id in ids] == ["ready", "ready", "blocked/arrival", "blocked/arrival"]


def test_pause_and_resume_say_whether_they_changed_anything(conn: Connection) -> None:
    answers = [value(conn, f"select jobrunner.op_{verb}('default')") for verb in ("pause", "pause", "resume", "resume")]

    assert answers == [True, False, True, False]


def test_every_change_leaves_an_audit_row_with_who_what_and_how_many(conn: Connection) -> None:
    dead = _dead(conn, 2)
    waiting = enqueue(conn)
    conn.execute("select jobrunner.op_requeue(%s, _actor => 'ann', _reason => 'fixed')", [dead[:1]])
    conn.execute("select jobrunner.op_discard(%s, 'ann')", [dead[1:]])
    conn.execute("select jobrunner.op_cancel(%s, 'ann')", [[waiting]])
    conn.execute("select jobrunner.op_retry_now(%s, 'ann')", [[waiting]])
    conn.execute("select jobrunner.op_pause('default', 'ann')")
    conn.execute("select jobrunner.op_resume('default', 'ann')")

    rows = conn.execute("select actor, action, target, jobs from jobrunner.audit order by id").fetchall()

    assert rows == [
        ("ann", "requeue", f"job {dead[0]}", 1),
        ("ann", "discard", f"job {dead[1]}", 1),
        ("ann", "cancel", f"job {waiting}", 1),
        ("ann", "reschedule", "job ", 0),
        ("ann", "pause", "queue default", 0),
        ("ann", "resume", "queue default", 0),
    ]


def test_a_cancelled_transaction_of_a_person_changes_nothing(conn: Connection, connect: Connect) -> None:
    ids = [enqueue(conn), enqueue(conn, key="k")]
    seat(conn)
    person = connect(autocommit=False)
    cancel(person, *ids)

    person.rollback()

    assert [state(conn, job_id) for job_id in ids] == ["ready", "ready"]


def test_a_person_who_holds_everything_does_not_stop_rescue_seat_or_sweep(conn: Connection, connect: Connect) -> None:
    register(conn)
    enqueue(conn)
    claim(conn)
    enqueue(conn, key="k")
    lose(conn, 1)
    mark_lost(conn)
    person = connect(autocommit=False)
    person.execute("select from jobrunner.jobs for update")
    conn.execute("set lock_timeout = '200 ms'")

    assert give_back(conn) == 0
    assert seat(conn) == (1, 0)
    assert sweep(conn) == 0


def _asked_too_late(conn: Connection, connect: Connect, **options: object) -> int:
    """A job with a request to cancel that its settlement, not yet committed, had looked for in vain."""
    register(conn)
    job_id = enqueue(conn, **options)
    seat(conn)
    settling = connect(autocommit=False)
    settle(settling, 1, claim(conn), "scheduled", failed=True, outcome="failed")
    assert cancel(conn, job_id) == {job_id: "requested"}
    settling.commit()
    return job_id


def test_a_request_to_cancel_that_meets_the_end_of_an_attempt_is_honoured_by_the_sweep(
    conn: Connection, connect: Connect
) -> None:
    job_id = _asked_too_late(conn, connect, key="k")
    behind = enqueue(conn, key="k")
    seat(conn)
    assert state(conn, job_id) == "scheduled"

    assert sweep(conn) == 1

    row = job(conn, job_id)
    assert (row["at"], row["state"], row["reason"]) == ("finished_jobs", "cancelled", "because")
    assert state(conn, behind) == "ready"


def test_a_sweep_leaves_what_runs_to_its_runner_whatever_was_asked(conn: Connection, connect: Connect) -> None:
    job_id = _asked_too_late(conn, connect)
    promote(conn)
    claim(conn)

    assert sweep(conn) == 0

    assert state(conn, job_id) == "running"
    assert conn.execute("select cancel from jobrunner.beat_v1(1, 1, true)").fetchone() == ([job_id],)
