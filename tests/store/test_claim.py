"""A claim: what it takes, in which order, for whom, and what it passes over."""

from __future__ import annotations

import psycopg
import pytest

from tests.conftest import Connect
from tests.store.calls import (
    QUEUE,
    TASK,
    Connection,
    claim,
    enqueue,
    job,
    lose,
    mark_lost,
    register,
    seat,
    settle,
    state,
)

pytestmark = pytest.mark.pg16


def test_a_claim_counts_an_attempt_and_names_the_runner(conn: Connection) -> None:
    register(conn)
    job_id = enqueue(conn, args={"n": 1})

    [claimed] = claim(conn)

    row = job(conn, job_id)
    assert (claimed.id, claimed.attempt, claimed.args) == (job_id, 1, '{"n": 1}')
    assert (row["state"], row["runner_id"], row["attempt"]) == ("running", 1, 1)
    assert row["started_at"] is not None


def test_a_claim_takes_the_oldest_of_the_larger_priority_first(conn: Connection) -> None:
    register(conn)
    low = [enqueue(conn) for _ in range(3)]
    high = [enqueue(conn, priority=5) for _ in range(2)]

    first = claim(conn, n=3, classes=[(QUEUE, 5), (QUEUE, 0)])

    assert [claimed.id for claimed in first] == [*high, low[0]]


def test_two_sessions_never_claim_the_same_job(conn: Connection, connect: Connect) -> None:
    register(conn)
    ids = [enqueue(conn) for _ in range(4)]
    other = connect(autocommit=False)

    theirs = claim(other, n=2)
    ours = claim(conn, n=4)

    other.commit()
    assert [claimed.id for claimed in theirs] == ids[:2]
    assert [claimed.id for claimed in ours] == ids[2:]


def test_a_claim_takes_only_tasks_and_versions_that_the_runner_knows(conn: Connection) -> None:
    register(conn)
    enqueue(conn, "shop.unknown")
    enqueue(conn, "shop.new", version=3)
    known = [enqueue(conn), enqueue(conn, "shop.new", version=2)]

    claims = claim(conn, tasks={TASK: 1, "shop.new": 2})

    assert [claimed.id for claimed in claims] == known


def test_a_claim_stays_above_its_floor(conn: Connection) -> None:
    register(conn)
    enqueue(conn)
    above = enqueue(conn)

    claims = claim(conn, floors=[job(conn, above)["seq"] - 1])

    assert [claimed.id for claimed in claims] == [above]


def test_a_paused_queue_is_skipped_at_once_and_holds_up_no_other(conn: Connection) -> None:
    register(conn)
    paused, other = enqueue(conn), enqueue(conn, queue="mail")
    classes = [(QUEUE, 0), ("mail", 0)]
    conn.execute("select jobrunner.op_pause('default')")

    while_paused = claim(conn, classes=classes)
    conn.execute("select jobrunner.op_resume('default')")

    assert [claimed.id for claimed in while_paused] == [other]
    assert [claimed.id for claimed in claim(conn, classes=classes)] == [paused]


def test_a_plain_claim_leaves_keyed_and_once_crashed_jobs(conn: Connection) -> None:
    register(conn)
    enqueue(conn, key="k")
    seat(conn)
    crashed = enqueue(conn)
    conn.execute("update jobrunner.jobs set crashes = 1 where id = %s", [crashed])
    plain = enqueue(conn)

    claims = claim(conn, plain=True)

    assert [claimed.id for claimed in claims] == [plain]


def test_a_lost_runner_claims_nothing(conn: Connection) -> None:
    register(conn)
    job_id = enqueue(conn)
    lose(conn, 1)
    mark_lost(conn)

    with pytest.raises(psycopg.Error, match="was declared lost") as refused:
        claim(conn)

    assert refused.value.sqlstate == "JR001"
    assert state(conn, job_id) == "ready"


def test_every_claim_has_a_new_attempt_also_after_a_hand_back(conn: Connection) -> None:
    register(conn)
    enqueue(conn)
    attempts = []
    for _ in range(3):
        [claimed] = claim(conn)
        attempts.append(claimed.attempt)
        settle(conn, 1, [claimed], "ready")

    assert attempts == [1, 2, 3]
