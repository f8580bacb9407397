"""The end of an attempt: fenced by (id, attempt, runner), idempotent, and nobody's lock stalls the others'."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from tests.conftest import Connect
from tests.store import calls
from tests.store.calls import (
    Claim,
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
    state,
    sweep,
    value,
    verdicts,
)  # fmt: skip

pytestmark = pytest.mark.pg16


def _claimed(conn: Connection, n: int = 1, **options: object) -> list[Claim]:
    register(conn)
    for _ in range(n):
        enqueue(conn, **options)
    return claim(conn)


def test_a_success_moves_to_history_with_all_its_columns(conn: Connection) -> None:
    [claimed] = _claimed(conn, args={"n": 1}, headers={"h": 2}, priority=0, max_attempts=3)
    before = job(conn, claimed.id)

    assert finish(conn, 1, [claimed]) == [claimed.id]

    after = job(conn, claimed.id)
    assert (after["at"], after["state"], after["runner_id"], after["attempt"]) == ("finished_jobs", "succeeded", 1, 1)
    same = [
        "run_at",
        "created_at",
        "started_at",
        "failures",
        "max_attempts",
        "crashes",
        "version",
        "priority",
        "queue",
        "task",
        "key",
        "args",
        "headers",
    ]
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert not column(conn, "select job_id from jobrunner.attempts")


@pytest.mark.parametrize("wrong", ["runner", "attempt"])
@pytest.mark.parametrize("end", ["finish", "settle", "in place", "fence"])
def test_an_end_with_another_runner_or_attempt_changes_nothing(conn: Connection, end: str, wrong: str) -> None:
    [claimed] = _claimed(conn)
    register(conn, 2)
    runner, stale = (2, claimed) if wrong == "runner" else (1, replace(claimed, attempt=2))
    before = job(conn, claimed.id)

    match end:
        case "finish":
            assert finish(conn, runner, [stale]) == []
        case "settle":
            assert settle(conn, runner, [stale], "dead") == []
        case "in place":
            assert not finish_in_place(conn, runner, stale)
        case _:
            assert value(conn, "select jobrunner.fence_v1(%s, %s, %s)", runner, stale.id, stale.attempt) is False

    assert job(conn, claimed.id) == before


@pytest.mark.parametrize("state_after", ["succeeded", "scheduled", "dead", "cancelled", "ready"])
def test_a_repeated_end_changes_nothing_and_is_known_as_settled(conn: Connection, state_after: str) -> None:
    [claimed] = _claimed(conn)
    outcome = None if state_after == "succeeded" else "failed"
    assert settle(conn, 1, [claimed], state_after, outcome=outcome) == [claimed.id]
    before = job(conn, claimed.id)

    again = settle(conn, 1, [claimed], state_after, outcome=outcome)

    assert again == []
    assert job(conn, claimed.id) == before
    assert verdicts(conn, 1, [claimed]) == {claimed.id: "settled"}


def test_a_hand_back_whose_answer_was_lost_cannot_end_the_next_claim(conn: Connection) -> None:
    """ABA: the same runner claims the same job again, and then the repeat arrives."""
    [first] = _claimed(conn)
    settle(conn, 1, [first], "ready", outcome="handed_back")
    [second] = claim(conn)

    repeated = settle(conn, 1, [first], "ready", outcome="handed_back")

    assert repeated == []
    assert verdicts(conn, 1, [first]) == {first.id: "settled"}
    assert verdicts(conn, 1, [second]) == {first.id: "busy"}, "it is still held"
    assert (job(conn, first.id)["attempt"], job(conn, first.id)["failures"]) == (2, 0)


def test_a_hand_back_that_refunds_the_attempt_would_end_the_next_claim(conn: Connection) -> None:
    """The mutant of the test above."""
    refund = ("        set state = f.state,", "        set attempt = j.attempt - 1, state = f.state,")
    calls.replace(conn, "settle_v1", refund)
    [first] = _claimed(conn)
    settle(conn, 1, [first], "ready", outcome="handed_back")
    claim(conn)

    assert settle(conn, 1, [first], "ready", outcome="handed_back") == [first.id]


def test_a_finish_without_the_attempt_would_end_the_next_claim(conn: Connection) -> None:
    """A mutant: the runner alone is no fence."""
    calls.replace(
        conn,
        "finish_v1",
        (
            "            and j.attempt = case when _same is null then _attempts[array_position(_ids, j.id)] else _same end\n",
            "",
        ),
    )
    [first] = _claimed(conn)
    settle(conn, 1, [first], "ready")
    claim(conn)

    assert finish(conn, 1, [first]) == [first.id]


def test_what_became_of_a_zombies_end_is_stale_also_when_a_person_cancelled_the_job(conn: Connection) -> None:
    [claimed] = _claimed(conn)
    calls.lose(conn, 1)
    calls.mark_lost(conn)
    calls.give_back(conn)
    assert verdicts(conn, 1, [claimed]) == {claimed.id: "stale"}

    conn.execute("select jobrunner.op_cancel(%s)", [[claimed.id]])

    assert job(conn, claimed.id)["at"] == "finished_jobs"
    assert verdicts(conn, 1, [claimed]) == {claimed.id: "stale"}


def test_a_row_that_psql_holds_does_not_stop_the_others_from_settling(conn: Connection, connect: Connect) -> None:
    claims = _claimed(conn, 5)
    person = connect(autocommit=False)
    person.execute("update jobrunner.jobs set priority = 5 where id = %s", [claims[2].id])

    with pytest.raises(psycopg.errors.LockNotAvailable):  # after 250 ms, for all: the batch is one statement
        finish(conn, 1, claims)
    settled = settle(conn, 1, claims, "succeeded")  # the same batch, one by one

    assert settled == [claimed.id for claimed in claims if claimed is not claims[2]]
    assert verdicts(conn, 1, [claims[2]]) == {claims[2].id: "busy"}
    person.rollback()
    assert finish(conn, 1, [claims[2]]) == [claims[2].id]


def test_failures_count_and_never_pass_the_limit_that_a_person_lowered(conn: Connection) -> None:
    [claimed] = _claimed(conn)
    settle(conn, 1, [claimed], "scheduled", failed=True, outcome="failed")
    calls.promote(conn)
    [claimed] = claim(conn)
    conn.execute("update jobrunner.jobs set max_attempts = 1")

    assert settle(conn, 1, [claimed], "scheduled", failed=True, outcome="failed") == [claimed.id]

    assert (job(conn, claimed.id)["failures"], job(conn, claimed.id)["attempt"]) == (1, 2)


def test_a_crash_is_counted_beside_failures_and_its_end_is_known_as_settled(conn: Connection) -> None:
    [claimed] = _claimed(conn)
    end = {"crashed": True, "outcome": "crashed", "reason": "crashed"}

    assert settle(conn, 1, [claimed], "ready", **end) == [claimed.id]

    assert verdicts(conn, 1, [claimed]) == {claimed.id: "settled"}
    row = job(conn, claimed.id)
    assert (row["state"], row["crashes"], row["failures"], row["reason"]) == ("ready", 1, 0, "crashed")
    [again] = claim(conn)
    settle(conn, 1, [again], "ready", outcome="handed_back")
    assert job(conn, claimed.id)["crashes"] == 1


def test_a_snooze_spends_no_failure_and_says_when(conn: Connection) -> None:
    [claimed] = _claimed(conn)

    settle(conn, 1, [claimed], "scheduled", delay=60, outcome="snoozed")

    row = job(conn, claimed.id)
    assert (row["state"], row["failures"]) == ("scheduled", 0)
    assert 55 < value(conn, "select extract(epoch from run_at - now()) from jobrunner.jobs") <= 60


def test_a_request_to_cancel_stands_above_another_try_but_not_above_an_end(conn: Connection) -> None:
    tried, done, dead = _claimed(conn, 3)
    conn.execute("select jobrunner.op_cancel(%s, 'ann', 'no longer wanted')", [[tried.id, done.id, dead.id]])

    settle(conn, 1, [tried], "scheduled", failed=True, outcome="failed")
    settle(conn, 1, [done], "succeeded")
    settle(conn, 1, [dead], "dead", failed=True, outcome="failed")

    assert [state(conn, it.id) for it in (tried, done, dead)] == ["cancelled", "succeeded", "dead"]
    assert job(conn, tried.id)["reason"] == "no longer wanted"


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_finishing_in_place_commits_with_the_callers_rows_beside_its_own_progress(
    conn: Connection, connect: Connect, isolation: str
) -> None:
    [claimed] = _claimed(conn, key=None)
    conn.execute("create table effects (id bigint primary key)")
    own = connect(autocommit=False)
    own.execute(f"set transaction isolation level {isolation}")
    own.execute("insert into effects values (%s)", [claimed.id])
    conn.execute(
        "insert into jobrunner.job_progress (job_id, processed) values (%s, 5)", [claimed.id]
    )  # by the runner, meanwhile

    assert finish_in_place(own, 1, claimed)
    own.commit()

    assert state(conn, claimed.id) == "succeeded"
    assert column(conn, "select id from effects") == [claimed.id]
    assert sweep(conn) == 1
    assert job(conn, claimed.id)["at"] == "finished_jobs"
    assert verdicts(conn, 1, [claimed]) == {claimed.id: "settled"}


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_finishing_in_place_after_a_rescue_is_refused_and_takes_the_callers_rows_back(
    conn: Connection, connect: Connect, isolation: str
) -> None:
    [claimed] = _claimed(conn)
    conn.execute("create table effects (id bigint primary key)")
    own = connect(autocommit=False)
    own.execute(f"set transaction isolation level {isolation}")
    own.execute("insert into effects values (%s)", [claimed.id])
    calls.lose(conn, 1)
    calls.mark_lost(conn)
    calls.give_back(conn)

    with pytest.raises(psycopg.errors.SerializationFailure):
        finish_in_place(own, 1, claimed)

    own.rollback()
    assert state(conn, claimed.id) == "ready"
    assert column(conn, "select id from effects") == []


def test_a_fenced_transaction_holds_the_job_but_does_not_end_it(conn: Connection, connect: Connect) -> None:
    [claimed] = _claimed(conn)
    own = connect(autocommit=False)
    assert value(own, "select jobrunner.fence_v1(1, %s, 1)", claimed.id)
    calls.lose(conn, 1)
    calls.mark_lost(conn)

    assert calls.give_back(conn) == 0, "the fence must hold a rescue off until the commit"

    own.commit()
    assert calls.give_back(conn) == 1


def test_both_transaction_ends_bound_the_time_until_their_commit(conn: Connection) -> None:
    first, second = _claimed(conn, 2)
    for statement, claimed in (("finish_in_place_v1", first), ("fence_v1", second)):
        with conn.transaction():
            conn.execute(f"select jobrunner.{statement}(1, %s, 1)", [claimed.id])
            assert value(conn, "show idle_in_transaction_session_timeout") == "10s"


def test_departing_twice_or_what_has_not_ended_does_nothing(conn: Connection) -> None:
    running, ended = _claimed(conn, 2)
    finish_in_place(conn, 1, ended)

    assert depart(conn, [running.id, ended.id]) == 1
    assert depart(conn, [running.id, ended.id]) == 0
    assert state(conn, running.id) == "running"


def test_functions_that_need_two_snapshots_refuse_another_isolation_level(conn: Connection, connect: Connect) -> None:
    for statement in (
        "settle_v1(1, '[]')",
        "depart_v1('{1}')",
        "seat_v1(1)",
        "give_back_v1(1)",
        "op_cancel('{1}')",
        "repair_keys_v1()",
    ):
        own = connect(autocommit=False)
        own.execute("set transaction isolation level repeatable read")
        with pytest.raises(psycopg.Error, match="needs READ COMMITTED") as refused:
            own.execute(f"select jobrunner.{statement}")
        assert refused.value.sqlstate == "JR002"


def test_keyed_successes_with_results_keep_them(conn: Connection) -> None:
    register(conn)
    enqueue(conn, key="k")
    seat(conn)
    [claimed] = claim(conn)

    settle(conn, 1, [claimed], "succeeded", result={"n": 3})

    assert value(conn, "select result from jobrunner.v_job where id = %s", claimed.id) == {"n": 3}
