"""A dead runner's jobs come back: whoever claims late, freezes or is bad, nobody else's rescue waits."""

from __future__ import annotations

from typing import LiteralString

import pytest

from tests.conftest import Connect
from tests.store import calls
from tests.store.calls import (
    TASK,
    Connection,
    claim,
    column,
    crashed,
    enqueue,
    finish,
    finish_in_place,
    give_back,
    job,
    lose,
    mark_lost,
    register,
    seat,
    settle,
    state,
    value,
)  # fmt: skip

pytestmark = pytest.mark.pg16


def test_a_lost_runners_jobs_are_ready_again_and_counted_as_crashed(conn: Connection) -> None:
    register(conn)
    job_id = enqueue(conn)
    claim(conn)
    lose(conn, 1)

    assert (mark_lost(conn), give_back(conn)) == (1, 1)

    row = job(conn, job_id)
    assert (row["state"], row["attempt"], row["failures"], row["crashes"]) == ("ready", 1, 0, 1)
    assert conn.execute("select outcome, runner_id from jobrunner.attempts").fetchall() == [("crashed", 1)]


def test_the_third_crash_is_the_end_of_a_job_and_its_key_goes_on(conn: Connection) -> None:
    enqueue(conn, key="k")
    behind = enqueue(conn, key="k")
    seat(conn)
    for runner in (1, 2, 3):
        register(conn, runner)
        [claimed] = claim(conn, runner)
        lose(conn, runner)
        mark_lost(conn)
        give_back(conn)

    row = job(conn, claimed.id)
    assert (row["state"], row["reason"], row["crashes"], row["holds_key"]) == ("dead", "crashed", 3, False)
    assert state(conn, behind) == "ready"


def test_a_runner_that_beats_is_not_lost(conn: Connection) -> None:
    register(conn)
    lose(conn, 1)
    alive = conn.execute("select alive from jobrunner.beat_v1(1, 0, true)").fetchone()

    assert alive == (True,)
    assert mark_lost(conn) == 0


def test_a_beat_of_a_lost_runner_is_refused(conn: Connection) -> None:
    register(conn)
    lose(conn, 1)
    mark_lost(conn)

    assert conn.execute("select alive from jobrunner.beat_v1(1, 0, true)").fetchone() == (False,)


def test_a_claim_that_commits_after_the_rescue_is_found_by_the_next(conn: Connection, connect: Connect) -> None:
    register(conn)
    job_id = enqueue(conn)
    slow = connect(autocommit=False)
    claim(slow)
    lose(conn, 1)
    assert (mark_lost(conn), give_back(conn)) == (1, 0)

    slow.commit()

    assert state(conn, job_id) == "running"
    assert (mark_lost(conn), give_back(conn)) == (0, 1)
    assert state(conn, job_id) == "ready"


def test_a_rescue_of_newly_lost_runners_only_would_miss_that_claim(conn: Connection, connect: Connect) -> None:
    """The mutant of the test above."""
    calls.replace(conn, "give_back_v1", ("where r.lost_at is not null", "where r.lost_at > now() - interval '0 s'"))
    register(conn)
    job_id = enqueue(conn)
    slow = connect(autocommit=False)
    claim(slow)
    lose(conn, 1)
    mark_lost(conn)
    slow.commit()

    give_back(conn)

    assert state(conn, job_id) == "running"


def test_a_frozen_transaction_holds_up_its_own_job_only(conn: Connection, connect: Connect) -> None:
    register(conn)
    ids = [enqueue(conn) for _ in range(3)]
    claims = claim(conn)
    frozen = connect(autocommit=False)
    assert finish_in_place(frozen, 1, claims[1])
    lose(conn, 1)
    mark_lost(conn)

    assert give_back(conn) == 2

    assert [state(conn, job_id) for job_id in ids] == ["ready", "running", "ready"]
    frozen.rollback()
    assert give_back(conn) == 1


def test_one_bad_row_is_reported_and_holds_up_nobody(conn: Connection) -> None:
    register(conn)
    ids = [enqueue(conn) for _ in range(5)]
    claim(conn)
    conn.execute(
        "create function bad() returns trigger language plpgsql as $$ begin raise exception 'not this one'; end $$"
    )
    conn.execute(
        f"""create trigger bad before update on jobrunner.jobs for each row
            when (old.id = {ids[2]} and new.state = 'ready') execute function bad()"""
    )
    notices: list[str] = []
    conn.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    lose(conn, 1)
    mark_lost(conn)

    assert give_back(conn) == 4

    assert [state(conn, job_id) for job_id in ids] == ["ready", "ready", "running", "ready", "ready"]
    assert notices == [f"jobrunner: job {ids[2]} of a runner that is gone cannot be given back: not this one"]


def _refuse(conn: Connection, task: str) -> None:
    """Makes every change of this task's jobs fail."""
    conn.execute("create function bad() returns trigger language plpgsql as $$ begin raise exception 'bad'; end $$")
    conn.execute(
        f"""create trigger bad before update on jobrunner.jobs for each row
            when (old.task = '{task}' and old.state = 'running') execute function bad()"""
    )


def test_bad_rows_in_front_are_no_wall_for_those_behind_them(conn: Connection) -> None:
    tasks = {"shop.bad": 1, TASK: 1}
    register(conn, tasks=tasks)
    for task in ("shop.bad", TASK):
        ids = [enqueue(conn, task) for _ in range(10)]
    claim(conn, tasks=tasks)
    _refuse(conn, "shop.bad")
    lose(conn, 1)

    assert conn.execute("select lost, rescued from jobrunner.rescue_v1(10)").fetchone() == (1, 10)

    assert {state(conn, job_id) for job_id in ids} == {"ready"}


def test_a_runners_row_that_somebody_holds_stops_no_scan(conn: Connection, connect: Connect) -> None:
    for runner in (1, 2):
        register(conn, runner)
        enqueue(conn)
        claim(conn, runner)
        lose(conn, runner)
    person = connect(autocommit=False)
    person.execute("select from jobrunner.runners where id = 1 for update")
    conn.execute("set statement_timeout = '1 s'")

    assert conn.execute("select lost, rescued from jobrunner.rescue_v1()").fetchone() == (1, 1)

    person.rollback()
    assert conn.execute("select lost, rescued from jobrunner.rescue_v1()").fetchone() == (1, 1)


def test_of_many_hand_backs_the_latest_is_kept(conn: Connection) -> None:
    enqueue(conn)
    for runner in (1, 2, 3):
        register(conn, runner)
        settle(conn, runner, claim(conn, runner), "ready", outcome="handed_back", reason="shutdown")
    assert column(conn, "select attempt from jobrunner.attempts") == [3]

    for runner in (4, 5):
        register(conn, runner)
        claim(conn, runner)
        conn.execute("select jobrunner.stop_v1(%s)", [runner])
    assert column(conn, "select attempt from jobrunner.attempts") == [5]


def test_a_job_that_a_person_asked_to_cancel_is_not_given_back_but_cancelled(conn: Connection) -> None:
    register(conn)
    job_id = enqueue(conn)
    claim(conn)
    conn.execute("select jobrunner.op_cancel(%s)", [[job_id]])
    lose(conn, 1)
    mark_lost(conn)

    give_back(conn)

    assert (job(conn, job_id)["at"], job(conn, job_id)["state"]) == ("finished_jobs", "cancelled")


def test_a_stop_hands_back_without_a_crash(conn: Connection) -> None:
    register(conn)
    job_id = enqueue(conn)
    claim(conn)

    assert value(conn, "select jobrunner.stop_v1(1)") == 1

    assert (job(conn, job_id)["state"], job(conn, job_id)["crashes"]) == ("ready", 0)
    assert column(conn, "select ended from jobrunner.runners") == ["stopped"]


def test_a_runner_under_a_new_id_takes_over_what_is_still_its_own(conn: Connection) -> None:
    register(conn)
    for _ in range(3):
        enqueue(conn)
    kept, lost_answer, settled = claim(conn)
    finish(conn, 1, [settled])
    register(conn, 2)

    adopted = value(conn, "select jobrunner.adopt_v1(1, 2, %s, %s)", [kept.id, settled.id], [1, 1])

    assert adopted == [kept.id]
    assert finish(conn, 1, [kept]) == [], "the old id is no fence any more"
    assert give_back(conn) == 1
    assert (job(conn, lost_answer.id)["state"], job(conn, lost_answer.id)["crashes"]) == ("ready", 0)
    assert settle(conn, 2, [kept], "succeeded") == [kept.id]


def test_a_crash_that_its_parent_saw_is_a_loss_at_once_and_of_this_runner_only(conn: Connection) -> None:
    register(conn)
    register(conn, 2)
    mine, others = enqueue(conn), enqueue(conn)
    claim(conn, 1, 1)
    claim(conn, 2, 1)

    assert crashed(conn, 1) == (1, 0)

    row = job(conn, mine)
    assert (row["state"], row["attempt"], row["failures"], row["crashes"]) == ("ready", 1, 0, 1)
    assert conn.execute("select outcome, runner_id from jobrunner.attempts").fetchall() == [("crashed", 1)]
    assert state(conn, others) == "running"
    assert dict(conn.execute("select id, ended from jobrunner.runners").fetchall()) == {1: "lost", 2: None}
    lost: LiteralString = "select subject from jobrunner.outbox where type = 'jobrunner.runner.lost'"
    assert column(conn, lost) == ["runner:1"]
    assert crashed(conn, 1) == (0, 0)
    assert column(conn, lost) == ["runner:1"]  # told once


def test_a_crash_that_is_told_of_a_runner_that_said_good_bye_counts_as_none(conn: Connection) -> None:
    register(conn)
    job_id = enqueue(conn)
    claim(conn)
    conn.execute("update jobrunner.runners set lost_at = now(), ended = 'renewed' where id = 1")

    assert crashed(conn, 1) == (1, 0)
    assert crashed(conn, 99) == (0, 0)  # never registered

    assert (job(conn, job_id)["crashes"], column(conn, "select outcome from jobrunner.attempts")) == (
        0,
        ["handed_back"],
    )
    assert column(conn, "select type from jobrunner.outbox") == []


def test_what_a_transaction_of_the_dead_still_holds_is_told_and_comes_with_the_next_call(
    conn: Connection, connect: Connect
) -> None:
    register(conn)
    for _ in range(3):
        enqueue(conn)
    claims = claim(conn)
    orphan = connect(autocommit=False)
    assert finish_in_place(orphan, 1, claims[1])

    assert crashed(conn, 1) == (2, 1)

    orphan.rollback()
    assert crashed(conn, 1) == (1, 0)
