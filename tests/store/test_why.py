"""why(id): one sentence, true, with the command that mends it where there is something to mend."""

from __future__ import annotations

import pytest

from tests.store.calls import (
    Connection,
    claim,
    enqueue,
    finish,
    finish_in_place,
    lose,
    mark_lost,
    register,
    seat,
    settle,
    value,
)

pytestmark = pytest.mark.pg16


def why(conn: Connection, job_id: int) -> str:
    return str(value(conn, "select jobrunner.why(%s)", job_id))


def test_a_ready_job(conn: Connection) -> None:
    first, job_id = enqueue(conn), enqueue(conn)
    assert why(conn, job_id) == f"Job {job_id} is ready and no runner is alive: jobrunner run APP"

    register(conn, tasks=["shop.other"])
    assert "no live runner of queue default knows task shop.t version 1: start one with the code that has it" in why(
        conn, job_id
    )

    register(conn, 2)
    assert (
        why(conn, job_id)
        == f"Job {job_id} is ready: 1 before it in queue default, 1 of 1 able runners have a free slot."
    )
    assert ": 0 before it" in why(conn, first)

    conn.execute("update jobrunner.runners set queues = array['mail']")
    assert "none of the 2 live runners reads queue default: jobrunner run APP --queue default" in why(conn, job_id)

    conn.execute("select jobrunner.op_pause('default', 'ann')")
    assert why(conn, job_id).endswith("by ann: jobrunner queues resume default")


def test_a_running_job_and_one_whose_runner_is_gone(conn: Connection) -> None:
    register(conn)
    job_id = enqueue(conn)
    claim(conn)
    assert why(conn, job_id).startswith(f"Job {job_id} is running: attempt 1, for 00:00:0")

    lose(conn, 1)
    assert "runs on a runner that is gone (host:7, last beat 1 day" in why(conn, job_id)
    mark_lost(conn)
    assert "any live runner gives it back" in why(conn, job_id)


def test_a_scheduled_job_and_one_that_is_due(conn: Connection) -> None:
    register(conn)
    later, retry = enqueue(conn, delay="1 hour"), enqueue(conn)
    settle(conn, 1, claim(conn), "scheduled", delay=60, failed=True, outcome="failed")

    assert why(conn, later).startswith(f"Job {later} starts in 00:59:5")
    assert why(conn, later).endswith(f"jobrunner jobs retry {later}")
    assert f"Job {retry} is tried again in 00:00:5" in why(conn, retry)
    assert "(failures 1 of 10)" in why(conn, retry)

    conn.execute("update jobrunner.jobs set run_at = now() - interval '5 s' where id = %s", [later])
    assert "is due since 00:00:05 and waits for a runner to promote it" in why(conn, later)


def test_a_job_behind_a_key(conn: Connection) -> None:
    holder, behind, last = (enqueue(conn, key="k") for _ in range(3))
    assert "has just arrived on key 'k'" in why(conn, behind)

    seat(conn)
    assert (
        why(conn, last)
        == f"Job {last} waits for its turn on key 'k': job {holder} holds it (ready), 1 before it in the line; "
        f"see: jobrunner why {holder}"
    )

    conn.execute("delete from jobrunner.jobs where id = %s", [holder])
    assert "waits for key 'k' that nobody holds" in why(conn, behind)


def test_a_parked_job(conn: Connection) -> None:
    job_id = enqueue(conn, "shop.unknown", version=4)
    conn.execute("select jobrunner.park_v1('default', 10)")

    assert "waits for a runner that knows task shop.unknown (version 4)" in why(conn, job_id)


def test_a_dead_job_an_ended_one_and_one_in_history(conn: Connection) -> None:
    register(conn)
    dead, ended, over, cancelled = (enqueue(conn) for _ in range(4))
    conn.execute("select jobrunner.op_cancel(%s, 'ann', 'a mistake')", [[cancelled]])
    claims = {claimed.id: claimed for claimed in claim(conn)}
    settle(conn, 1, [claims[dead]], "dead", failed=True, outcome="failed", reason="exhausted", error="ValueError: no")
    finish_in_place(conn, 1, claims[ended])
    finish(conn, 1, [claims[over]])

    assert (
        why(conn, dead)
        == f"Job {dead} is dead (exhausted): ValueError: no; to give it another life: jobrunner dead requeue {dead}"
    )
    assert why(conn, ended) == f"Job {ended} is over (succeeded) and about to move to history."
    assert why(conn, over).startswith(f"Job {over} is over: it succeeded at 2")
    assert why(conn, cancelled).endswith("UTC (a mistake).")
    assert why(conn, 999) == "Job 999 is not here: no such id, or its history was dropped."


def test_a_long_error_leaves_the_sentence_one(conn: Connection) -> None:
    dead = enqueue(conn)
    error = "ValidationError: 2 errors\n  order_id\n    must be a number\n" + "x" * 30_000
    conn.execute(
        "update jobrunner.jobs set state = 'dead', finished_at = now(), reason = 'exhausted', error = %s", [error]
    )

    told = why(conn, dead)

    assert told.startswith(f"Job {dead} is dead (exhausted): ValidationError: 2 errors order_id must be a number xxx")
    assert told.endswith(f"x…; to give it another life: jobrunner dead requeue {dead}")
    assert len(told) < 450


@pytest.mark.parametrize("blocked_on", ["parents", "limit"])
def test_every_other_block_has_a_sentence(conn: Connection, blocked_on: str) -> None:
    job_id = enqueue(conn)
    conn.execute("update jobrunner.jobs set state = 'blocked', blocked_on = %s", [blocked_on])

    assert why(conn, job_id) == f"Job {job_id} is blocked on {blocked_on}."
