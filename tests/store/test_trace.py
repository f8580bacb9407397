"""trace(…): the tree that one fact caused, from its root, live and finished jobs alike."""

from __future__ import annotations

import time

import pytest
from psycopg.types.json import Jsonb

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


def _subscribe(conn: Connection, name: str) -> None:
    spec = Jsonb({"types": ["#"], "queue": "default"})
    conn.execute("select jobrunner.subscribe_v1(%s, 'shop', %s, null)", [name, spec])


def test_a_transaction_is_traced_through_events_and_deliveries_to_what_they_published(conn: Connection) -> None:
    _subscribe(conn, "shop.a")
    with conn.transaction():
        event_id = value(conn, "select jobrunner.publish('order.paid', '{}', key => 'k', subject => 'order:7')")
        job_id = enqueue(conn, subject="order:7")
    conn.execute("select jobrunner.sequence_v1(10)")
    delivery = value(conn, "select job_id from jobrunner.job_links where cause_event = %s", event_id)
    conn.execute(
        "select jobrunner.publish('order.shipped', '{}', cause_job_id => %s, correlation_id => %s)",
        [delivery, event_id],
    )

    rows = conn.execute("select depth, kind, id, cause, state, type from jobrunner.trace('order:7')").fetchall()
    xact = rows[0][2]
    assert rows == [
        (0, "transaction", xact, None, "committed", None),
        (1, "event", 1, xact, "recorded", "order.paid"),
        (2, "delivery", delivery, 1, "ready", None),
        (3, "event", None, delivery, "outbox", "order.shipped"),
        (1, "job", job_id, xact, "ready", None),
    ]
    by_event = conn.execute("select depth, kind, id from jobrunner.trace(%s)", [f"event:{event_id}"]).fetchall()
    assert by_event == [row[:3] for row in rows[:4]], "one event is traced without what was written beside it"


def test_a_tree_of_ten_thousand_nodes_is_traced_by_ranges_and_not_node_by_node(conn: Connection) -> None:
    """Some 100 ms here; node by node, with 22 partitions to probe for each, it would be seconds."""
    _subscribe(conn, "shop.a")
    event_id = value(conn, "select jobrunner.publish('order.paid', '{}', subject => 'order:7')")
    conn.execute("select jobrunner.sequence_v1(10)")
    delivery = value(conn, "select job_id from jobrunner.job_links where cause_event = %s", event_id)
    conn.execute(
        """select jobrunner.enqueue_many((
               select jsonb_agg(jsonb_build_object('task', 't', 'cause_job_id', %s::bigint, 'correlation_id', %s::text))
               from generate_series(1, 3333)), false)""",
        [delivery, str(event_id)],
    )
    conn.execute(
        """select jobrunner.publish_many((
               select jsonb_agg(jsonb_build_object(
                   'type', 'x', 'data', '{}'::jsonb, 'cause_job_id', l.job_id, 'correlation_id', %s::text))
               from jobrunner.job_links l where l.cause_job_id = %s), false)""",
        [str(event_id), delivery],
    )
    conn.execute("select jobrunner.sequence_v1(10000)")
    conn.execute("analyze")

    began = time.monotonic()
    found = conn.execute(
        "select kind, count(*) from jobrunner.trace('order:7', 20000) group by 1 order by 1"
    ).fetchall()
    took = time.monotonic() - began

    assert found == [("delivery", 3334), ("event", 3334), ("job", 3333), ("transaction", 1)]
    assert took < 1.5
