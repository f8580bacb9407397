"""Every op_* function of the catalogue leaves an audit row with who called it, also when there was nothing for it to change."""

from __future__ import annotations

from typing import LiteralString

import psycopg
import pytest

from tests.store import log
from tests.store.calls import Connection, claim, column, enqueue, register, settle, value

pytestmark = pytest.mark.pg16

CALLS: dict[str, tuple[LiteralString, ...]] = {
    "op_cancel": ("select * from jobrunner.op_cancel(array[%(ready)s])", "select * from jobrunner.op_cancel(array[0])"),
    "op_discard": ("select jobrunner.op_discard(array[%(dead)s])", "select jobrunner.op_discard(array[0])"),
    "op_requeue": ("select jobrunner.op_requeue(array[%(dead)s])", "select jobrunner.op_requeue(array[0])"),
    "op_retry_now": ("select jobrunner.op_retry_now(array[%(later)s])", "select jobrunner.op_retry_now(array[0])"),
    "op_reschedule": (
        "select jobrunner.op_reschedule(array[%(later)s], now() + interval '2 h')",
        "select jobrunner.op_reschedule(array[0], now())",
    ),
    "op_pause": ("select jobrunner.op_pause('mail')",) * 2,
    "op_resume": (
        "select jobrunner.op_pause('mail', 'another'), jobrunner.op_resume('mail')",
        "select jobrunner.op_resume('mail')",
    ),
    "op_pause_subscription": ("select jobrunner.op_pause_subscription('shop.ledger')",) * 2,
    "op_resume_subscription": ("select jobrunner.op_resume_subscription('shop.ledger')",),
    "op_remove_subscription": ("select jobrunner.op_remove_subscription('shop.ledger')",),
    "op_skip": ("select jobrunner.op_skip('shop.ledger', 1)", "select jobrunner.op_skip('shop.ledger', 99)"),
    "op_resolve_key": ("select jobrunner.op_resolve_key('shop.ledger', '42', 'retry')",),
    "op_replay": ("select jobrunner.op_replay('shop.mail', 0)", "select jobrunner.op_replay('shop.mail', 99)"),
    "op_cancel_replay": ("select jobrunner.op_cancel_replay(%(walk)s)",) * 2,
    "op_saga_compensate": ("select jobrunner.op_saga_compensate('shop.payment', '42')",),
    "op_saga_complete": ("select jobrunner.op_saga_complete('shop.payment', '42')",),
}  # fmt: skip
"""Calls of each, one after the other: what changes something, then what changes nothing (where that is not an error)."""


@pytest.fixture
def ids(conn: Connection) -> dict[str, int]:
    """A database with something for every function to change."""
    register(conn, tasks=["shop.t", "shop.ledger", "shop.mail"])
    dead = enqueue(conn)
    settle(conn, 1, claim(conn), "dead", failed=True, outcome="failed", reason="exhausted")
    log.subscribe(conn, "shop.ledger", ordered=True, on_dead="block_key")
    log.subscribe(conn, "shop.mail")
    log.publish(conn, key="42")
    log.sequence(conn)
    conn.execute("select jobrunner.seat_v1(100)")
    settle(conn, 1, log.claim(conn, "shop.ledger"), "dead", failed=True, outcome="failed", reason="exhausted")
    conn.execute("insert into jobrunner.sagas (name, key, state) values ('shop.payment', '42', '{}')")
    walk = value(conn, "select jobrunner.op_replay('shop.mail', 0, _actor => 'another')")
    return {"dead": dead, "ready": enqueue(conn), "later": enqueue(conn, delay="1 hour"), "walk": walk}


def test_the_calls_name_every_function_of_the_catalogue(tx: Connection) -> None:
    made = "select proname from pg_proc where pronamespace = 'jobrunner'::regnamespace and starts_with(proname, 'op_')"

    assert set(column(tx, made)) == set(CALLS)


def test_each_function_that_a_person_calls_takes_the_session_for_its_actor(tx: Connection) -> None:
    defaults = column(
        tx,
        """select proname from pg_proc where pronamespace = 'jobrunner'::regnamespace and starts_with(proname, 'op_')
           and pg_get_function_arguments(oid) like '%%_actor text DEFAULT SESSION_USER%%'""",
    )

    assert set(defaults) == set(CALLS)


@pytest.mark.parametrize("function", CALLS)
def test_each_call_leaves_a_row_with_who_called(conn: Connection, ids: dict[str, int], function: str) -> None:
    for call in CALLS[function]:
        before = value(conn, "select coalesce(max(id), 0) from jobrunner.audit")
        conn.execute(call, ids)
        rows = conn.execute(
            "select actor = session_user, target <> '' from jobrunner.audit where id > %s and actor <> 'another'",
            [before],
        ).fetchall()

        assert rows, call
        assert set(rows) == {(True, True)}


def test_a_call_that_is_refused_changes_nothing_and_leaves_no_row(conn: Connection) -> None:
    for call in (
        "select jobrunner.op_resolve_key('shop.ledger', '42', 'retry')",
        "select jobrunner.op_pause_subscription('shop.none')",
        "select jobrunner.op_saga_complete('shop.payment', '42')",
    ):
        with pytest.raises(psycopg.Error):
            conn.execute(call)

    assert column(conn, "select id from jobrunner.v_audit") == []


def test_the_view_says_who_did_what_and_why(conn: Connection) -> None:
    conn.execute("select jobrunner.op_pause('mail', _reason => 'the printer is on fire')")

    assert conn.execute("select actor, action, target, reason from jobrunner.v_audit").fetchall() == [
        (conn.info.user, "pause", "queue mail", "the printer is on fire")
    ]
