"""`v_attention` finds what `jobrunner status` finds, in the same words, and its hints are for psql."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable
from datetime import timedelta

import pytest

from jobrunner.ops import attention
from jobrunner.store import event_overview, overview
from tests.conftest import Connect, Connection
from tests.ops.shell import bury, enqueue
from tests.store import calls, log

pytestmark = pytest.mark.pg16

Finding = tuple[str, str, str, str]


def seen_by_status(conn: Connection) -> list[attention.Attention]:
    """What the command line finds."""
    return attention.findings(
        overview.list_queues(conn),
        overview.list_runners(conn),
        overview.recent(conn, minutes=5),
        overview.list_unknown_tasks(conn),
        attention.Events(
            event_overview.outbox(conn),
            event_overview.list_subscriptions(conn),
            event_overview.list_sagas_in_need(conn),
        ),
    )


def by_status(conn: Connection) -> list[Finding]:
    return [(one.code, one.severity, one.subject, one.message) for one in seen_by_status(conn)]


def by_view(conn: Connection) -> list[Finding]:
    return conn.execute("select code, severity, subject, message from jobrunner.v_attention").fetchall()


def late(conn: Connection, by: str = "1 day 2 hours 3 minutes 30 seconds") -> None:
    """All that is ready has been due for so long."""
    conn.execute(
        "update jobrunner.jobs set run_at = now() - %s::interval, created_at = run_at where state = 'ready'", [by]
    )


def no_runner(conn: Connection) -> None:
    for _ in range(1200):
        enqueue(conn, delay="1 hour")


def silent_and_deaf(conn: Connection) -> None:
    calls.register(conn, 1, ["shop.send"])
    calls.register(conn, 2, ["shop.send"])
    calls.register(conn, 3, ["shop.send"])
    conn.execute("update jobrunner.runners set poll = '1500 ms' where id = 3")
    conn.execute("update jobrunner.runners set beat_at = now() - interval '5 minutes', host = 'mail-1' where id = 2")


def paused_and_unread(conn: Connection) -> None:
    calls.register(conn, tasks=["shop.send"])
    conn.execute("update jobrunner.runners set listening = true, queues = array['default', 'still']")
    enqueue(conn, queue="still")
    enqueue(conn, queue="unread")
    enqueue(conn, queue="unread")
    conn.execute("select jobrunner.op_pause('still', 'ann'), jobrunner.op_pause('empty', 'ann')")


def lagging(conn: Connection) -> None:
    calls.register(conn, tasks=["shop.send"])
    enqueue(conn)
    late(conn)


def lagging_for_want_of_code(conn: Connection) -> None:
    calls.register(conn, tasks=["shop.send"])
    for task in ("shop.strange", "shop.send", "shop.strange", "shop.odd"):
        enqueue(conn, task)
    late(conn, "1 hour 5 seconds")


def parked(conn: Connection) -> None:
    calls.register(conn, tasks=["shop.send"])
    enqueue(conn, "shop.strange")
    conn.execute("select jobrunner.park_v1('default', 10)")


def deaths(conn: Connection) -> None:
    bury(conn, *[enqueue(conn) for _ in range(3)])
    bury(conn, enqueue(conn), ago="2 hours")


def one_death(conn: Connection) -> None:
    bury(conn, enqueue(conn))


def no_days_ahead(conn: Connection) -> None:
    days = "select inhrelid::regclass::text from pg_inherits where inhparent = 'jobrunner.finished_jobs'::regclass order by 1"
    for day in calls.column(conn, days)[2:]:
        conn.execute(f"drop table {day}".encode())


def outbox_stalled(conn: Connection) -> None:
    log.publish(conn)
    log.publish(conn)
    conn.execute("update jobrunner.outbox set occurred_at = now() - interval '90 seconds'")


def subscriptions(conn: Connection) -> None:
    calls.register(conn, tasks=["shop.paused", "shop.blocked", "shop.lags", "shop.fell"])
    for name in ("shop.paused", "shop.lags", "shop.fell"):
        log.subscribe(conn, name)
    log.subscribe(conn, "shop.blocked", ordered=True, on_dead="block_key")
    log.publish(conn, key="42")
    log.sequence(conn)
    conn.execute("select jobrunner.seat_v1(10)")
    calls.settle(conn, 1, log.claim(conn, "shop.blocked"), "dead", reason="failed", error="ValueError: no")
    conn.execute("select jobrunner.op_pause_subscription('shop.paused', 'ann', 'the mail server moves')")
    conn.execute("select jobrunner.op_pause_subscription('shop.fell', 'on_dead', 'job 7 died: no')")
    conn.execute("update jobrunner.jobs set created_at = now() - interval '1 hour 2 minutes'")


def sagas(conn: Connection) -> None:
    conn.execute(
        "insert into jobrunner.sagas (name, key, state, status, timeout_at) values "
        "('shop.pay', '1', '{}', 'running', now() - interval '1 hour'), "
        "('shop.pay', '2', '{}', 'running', now() - interval '1 hour'), "
        "('shop.pay', '3', '{}', 'compensating', null)"
    )
    conn.execute(
        "insert into jobrunner.jobs (task, state, key, key_pos, holds_key, finished_at, attempt) "
        "values ('shop.undo', 'dead', 'saga shop.pay 3', 1, true, now() - interval '2 hours', 1)"
    )


STATES: dict[str, tuple[Callable[[Connection], None], set[str]]] = {
    "all is well": (lambda conn: None, set()),
    "no runner": (no_runner, {"no_runner"}),
    "silent and deaf": (silent_and_deaf, {"runner_silent", "listener_down"}),
    "paused and unread": (paused_and_unread, {"queue_paused", "queue_unread"}),
    "lagging": (lagging, {"queue_lagging", "listener_down"}),
    "lagging for want of code": (lagging_for_want_of_code, {"queue_lagging", "task_unknown", "listener_down"}),
    "parked": (parked, {"task_unknown", "listener_down"}),
    "deaths": (deaths, {"jobs_died"}),
    "one death": (one_death, {"jobs_died"}),
    "no days ahead": (no_days_ahead, {"partitions_short"}),
    "outbox stalled": (outbox_stalled, {"outbox_stalled"}),
    "subscriptions": (
        subscriptions,
        {"subscription_paused", "subscription_blocked", "subscription_lagging", "listener_down", "jobs_died"},
    ),
    "sagas": (sagas, {"saga_attention"}),
}


@pytest.mark.parametrize("name", STATES)
def test_the_view_finds_what_status_finds_in_the_same_words(tx: Connection, name: str) -> None:
    make, codes = STATES[name]
    make(tx)

    found = by_view(tx)

    assert {code for code, *_ in found} >= codes
    assert sorted(found) == sorted(by_status(tx))
    rank = ["error", "warning", "notice"]
    assert [rank.index(severity) for _, severity, *_ in found] == sorted(
        rank.index(severity) for _, severity, *_ in found
    )


def test_an_old_transaction_is_found_too(conn: Connection, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a quarter of an hour: the limits are what differs."""
    holder = connect(autocommit=False)
    holder.execute("select txid_current()")
    text = conn.execute("select pg_get_viewdef('jobrunner.v_attention'::regclass)").fetchall()[0][0]
    assert "00:15:00" in text, "the same limit as LONG_TRANSACTION"
    conn.execute(("create or replace view jobrunner.v_attention as " + text.replace("00:15:00", "00:00:00")).encode())
    monkeypatch.setattr(attention, "LONG_TRANSACTION", timedelta(0))

    assert [code for code, *_ in by_view(conn)] == ["old_transaction"]
    found, other = by_view(conn)[0], by_status(conn)[0]
    assert found[:3] == other[:3]
    assert found[3].split(" for ")[0] == other[3].split(" for ")[0]


def test_each_code_of_status_has_a_state_here(tx: Connection) -> None:
    codes = {code for _, codes in STATES.values() for code in codes} | {"old_transaction"}
    text = calls.value(tx, "select pg_get_viewdef('jobrunner.v_attention'::regclass)")

    assert codes == {code for code in codes if f"'{code}'" in text}
    assert codes == attention_codes()


def attention_codes() -> set[str]:
    """Every code that `jobrunner.ops.attention` may find."""
    return set(re.findall(r"Attention\(\s*\"(\w+)\"", inspect.getsource(attention)))


@pytest.mark.parametrize("name", STATES)
def test_a_hint_that_is_sql_runs(tx: Connection, name: str) -> None:
    STATES[name][0](tx)

    for hint in calls.column(tx, "select hint from jobrunner.v_attention"):
        if hint.startswith("select"):
            with tx.transaction():
                tx.execute(hint.encode())
        else:
            assert hint.startswith(("start ", "set ")), hint


@pytest.mark.parametrize("queue", ["mail; touch x", "mail$(touch x)", "two words & more"])
def test_a_command_can_be_pasted_whatever_the_queue_is_called(tx: Connection, queue: str) -> None:
    calls.register(tx, 1, ["shop.send"])
    tx.execute("update jobrunner.runners set queues = '{default}'")
    job = calls.enqueue(tx, "shop.send", queue=queue)
    told = [calls.value(tx, "select hint from jobrunner.v_attention where code = 'queue_unread'")]
    told += [one.hint for one in seen_by_status(tx) if one.code == "queue_unread"]
    told += [calls.value(tx, "select jobrunner.why(%s)", job)]
    tx.execute("select jobrunner.op_pause(%s, 'ann')", [queue])
    told += [one.hint for one in seen_by_status(tx) if one.code == "queue_paused"]
    told += [calls.value(tx, "select jobrunner.why(%s)", job)]

    assert len(told) == 5
    for one in told:
        *_, named = shlex.split("jobrunner " + one.rpartition("jobrunner ")[2])
        assert named == queue, one
