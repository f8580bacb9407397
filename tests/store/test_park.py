"""Jobs that no live runner can take wait out of the way, and come back when one can."""

from __future__ import annotations

import pytest

from tests.store.calls import Connection, claim, enqueue, fill, lose, mark_lost, register, seat, settle, state, value
from tests.store.plans import CLAIM, touched

pytestmark = pytest.mark.pg16


def park(conn: Connection, n: int = 1000) -> tuple[int, int]:
    """`park_v1`: (parked, seen)."""
    row = conn.execute("select parked, seen from jobrunner.park_v1('default', %s)", [n]).fetchone()
    assert row is not None
    return row[0], row[1]


def test_unknown_tasks_and_newer_versions_are_parked_and_known_ones_are_not(conn: Connection) -> None:
    register(conn)
    ids = [enqueue(conn, "shop.unknown"), enqueue(conn, version=2), enqueue(conn)]

    assert park(conn) == (2, 3)

    assert [state(conn, job_id) for job_id in ids] == ["blocked/task", "blocked/task", "ready"]


def test_a_task_that_only_a_lost_runner_knew_is_parked(conn: Connection) -> None:
    register(conn)
    job_id = enqueue(conn)
    lose(conn, 1)
    mark_lost(conn)

    park(conn)

    assert state(conn, job_id) == "blocked/task"


def test_a_runner_that_knows_them_brings_them_back_up_to_its_version(conn: Connection) -> None:
    register(conn)
    old, new = enqueue(conn, "shop.x"), enqueue(conn, "shop.x", version=3)
    park(conn)

    assert value(conn, "select jobrunner.unpark_v1(array['shop.x'], array[2::smallint], 100)") == 1

    assert (state(conn, old), state(conn, new)) == ("ready", "blocked/task")


def test_a_parked_holder_keeps_its_key(conn: Connection) -> None:
    register(conn)
    holder, behind = enqueue(conn, "shop.x", key="k"), enqueue(conn, key="k")
    seat(conn)

    park(conn)
    assert (state(conn, holder), state(conn, behind), claim(conn)) == ("blocked/task", "blocked/key", [])

    conn.execute("select jobrunner.unpark_v1(array['shop.x'], array[1::smallint], 100)")
    [claimed] = claim(conn, tasks={"shop.x": 1})
    settle(conn, 1, [claimed], "succeeded")
    assert state(conn, behind) == "ready"


def _parked_in_front(conn: Connection, many: int) -> None:
    register(conn)
    fill(conn, many, "shop.unknown")
    fill(conn, 1000)
    behind = touched(conn, CLAIM, [0], keep=False)
    assert behind.entries["jobs_ready"] >= many, "the test must put them in the way"

    while park(conn, 5000)[0]:
        pass
    conn.execute("vacuum jobrunner.jobs")
    free = touched(conn, CLAIM, [0], keep=False)

    assert free.entries["jobs_ready"] <= 100
    assert free.blocks < behind.blocks / 2
    assert len(claim(conn, n=100)) == 100


def test_a_claim_reads_nothing_of_parked_jobs_in_front(conn: Connection) -> None:
    _parked_in_front(conn, 50_000)


def test_a_claim_reads_nothing_of_a_million_parked_jobs_in_front(conn: Connection) -> None:
    _parked_in_front(conn, 1_000_000)
