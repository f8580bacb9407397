"""trace(…): the tree that one fact caused, from its root, live and finished jobs alike."""

from __future__ import annotations

import pytest

from tests.store.calls import Connection, claim, enqueue, finish, register, value

pytestmark = pytest.mark.pg16


def _caused(conn: Connection, cause: int, **options: object) -> int:
    return enqueue(conn, cause_job_id=cause, **options)


def _trace(conn: Connection, ref: str, limit: int = 10_000) -> list[tuple[int, int, int | None, str]]:
    """(depth, id, cause, state)"""
    return conn.execute("select depth, id, cause, state from jobrunner.trace(%s, %s)", [ref, limit]).fetchall()


def test_a_subject_traces_to_the_whole_tree_depth_first(conn: Connection) -> None:
    register(conn)
    root = enqueue(conn, subject="order:42")
    finish(conn, 1, claim(conn))
    one, two = _caused(conn, root, subject="order:42"), _caused(conn, root)
    below = _caused(conn, one)
    enqueue(conn, subject="order:43")

    assert _trace(conn, "order:42") == [
        (0, root, None, "succeeded"),
        (1, one, root, "ready"),
        (2, below, one, "ready"),
        (1, two, root, "ready"),
    ]


def test_any_job_of_the_tree_leads_to_the_same_tree(conn: Connection) -> None:
    root = enqueue(conn)  # it has no links of its own
    child = _caused(conn, root)
    grandchild = _caused(conn, child)

    for job_id in (root, child, grandchild):
        assert [row[1] for row in _trace(conn, f"job:{job_id}")] == [root, child, grandchild]


def test_a_job_without_a_cause_is_its_own_tree(conn: Connection) -> None:
    job_id = enqueue(conn)

    assert _trace(conn, f"job:{job_id}") == [(0, job_id, None, "ready")]


def test_what_retention_dropped_is_named_so(conn: Connection) -> None:
    root = enqueue(conn)
    child = _caused(conn, root)
    conn.execute("delete from jobrunner.jobs where id = %s", [root])

    assert _trace(conn, f"job:{child}") == [(0, root, None, "dropped"), (1, child, root, "ready")]


@pytest.mark.parametrize("ref", ["order:unknown", "job:", "job:abc", "job:99999999999999999999999", ""])
def test_what_leads_to_nothing_is_empty_and_no_error(tx: Connection, ref: str) -> None:
    assert _trace(tx, ref) == []


def test_a_circle_made_by_hand_ends(conn: Connection) -> None:
    one, two = enqueue(conn), enqueue(conn)
    conn.execute(
        "insert into jobrunner.job_links (job_id, cause_job_id) values (%(a)s, %(b)s), (%(b)s, %(a)s)",
        {"a": one, "b": two},
    )

    assert len(_trace(conn, f"job:{one}")) == 2


def test_a_trace_is_bounded(conn: Connection) -> None:
    root = enqueue(conn)
    for _ in range(10):
        _caused(conn, root)

    assert len(_trace(conn, f"job:{root}", limit=4)) == 4
    assert value(conn, "select count(*) from jobrunner.trace(%s)", f"job:{root}") == 11
