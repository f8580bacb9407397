"""Subscriptions: each event once, from wherever they begin; nobody's version overwrites another's; a person's word holds."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.store import calls, log
from tests.store.calls import Claim, Connection, column, register, seat, settle, state, value
from tests.store.load import Load
from tests.store.log import (
    SUB,
    apply,
    claim,
    deliveries,
    head,
    publish,
    publish_many,
    run_all,
    sequence,
    states,
    step,
    subscribe,
    subscription,
    walk_to_the_end,
    walks,
)
from tests.support import wait_until

pytestmark = pytest.mark.pg16

Background = Callable[..., Future[Any]]
Blocked = Callable[[Connection | int], None]
Mutant = Callable[[Connection], None]


# ------------------------------------------------------------------------------------------------------------- registration
@pytest.mark.parametrize(
    ("after", "ordered", "walk", "first"),
    [
        (None, False, None, 4),
        (None, True, None, 4),
        (0, False, "backfill", 1),
        (0, True, "catch_up", 1),
        (2, False, "backfill", 3),
        (2, True, "catch_up", 3),
        (3, True, None, 4),
        (5, False, None, 6),
        (5, True, None, 6),
    ],
)
def test_a_subscription_gets_each_event_once_from_where_it_begins(
    tx: Connection, after: int | None, ordered: bool, walk: str | None, first: int
) -> None:
    register(tx)
    publish_many(tx, [{"key": "k"}] * 3)
    sequence(tx)

    assert subscribe(tx, after=after, ordered=ordered) == {}
    publish_many(tx, [{"key": "k"}] * 2)
    sequence(tx)
    walk_to_the_end(tx)
    publish_many(tx, [{"key": "k"}, {}])
    sequence(tx)

    assert sorted(deliveries(tx)) == list(range(first, 8))
    assert [(kind, how) for kind, how, _ in walks(tx)] == ([(walk, "done")] if walk else [])
    assert subscription(tx)["state"] == "live"
    ran = [log.position(c) for c in run_all(tx)]
    assert sorted(ran) == list(range(first, 8))
    if ordered:
        assert [position for position in ran if position != 7] == list(range(first, 7))  # 7 has no key


def test_an_ordered_one_that_catches_up_gets_nothing_live_before_it_is_there(tx: Connection) -> None:
    publish_many(tx, [{"key": "k"}] * 30)
    sequence(tx)
    subscribe(tx, after=0, ordered=True)
    publish(tx, key="k")

    assert sequence(tx) == (1, 0)
    assert (step(tx, 10).near, step(tx, 10).near, step(tx, 10, last=True).near) == (False, False, True)
    assert subscription(tx)["state"] == "catching_up", "it was not near when the last step was asked for"
    assert step(tx, 10, last=True).delivered == 1
    publish(tx, key="k")
    assert sequence(tx) == (1, 1)

    assert deliveries(tx) == list(range(1, 33))
    assert subscription(tx)["live_from"] == 31


def _register_without_the_lock(conn: Connection) -> None:
    calls.replace(conn, "subscribe_v1", ("        perform jobrunner.lock_log();\n", ""))


def _lock_and_head_in_one_statement(conn: Connection) -> None:
    calls.replace(
        conn,
        "subscribe_v1",
        ("        perform jobrunner.lock_log();\n", ""),
        ("from jobrunner.log_head() h", "from (select pg_advisory_xact_lock(727004)) l, jobrunner.log_head() h"),
    )


@pytest.mark.parametrize("mutant", [None, _register_without_the_lock, _lock_and_head_in_one_statement])
@pytest.mark.parametrize("after", [None, 0])
def test_a_registration_waits_for_the_sequencer_and_then_reads_where_the_log_stands(
    conn: Connection,
    connect: Connect,
    background: Background,
    blocked: Blocked,
    after: int | None,
    mutant: Mutant | None,
) -> None:
    """What the step that was under way records belongs to the backfill; without the lock, or with an older head, to nobody."""
    if mutant:
        mutant(conn)
    publish(conn)
    sequence(conn)
    publish_many(conn, [{}] * 2)
    moving, registering = connect(autocommit=False), connect()
    assert sequence(moving) == (2, 0)
    registered = background(subscribe, registering, SUB, after=after)
    if mutant is not _register_without_the_lock:
        blocked(registering)
    else:
        registered.result(10)
    moving.commit()
    registered.result(10)
    publish(conn)
    sequence(conn)
    walk_to_the_end(conn)

    live_from = 3 if mutant is None else 1
    assert subscription(conn)["live_from"] == live_from
    assert sorted(deliveries(conn)) == ([4] if after is None else [1, 2, 3, 4] if mutant is None else [1, 4])


def _last_step_without_the_lock(conn: Connection) -> None:
    calls.replace(conn, "replay_step_v1", ("        perform jobrunner.lock_log();\n", "        null;\n"))


@pytest.mark.parametrize("mutant", [None, _last_step_without_the_lock])
def test_the_last_step_of_a_walk_waits_for_the_sequencer(
    conn: Connection, connect: Connect, background: Background, blocked: Blocked, mutant: Mutant | None
) -> None:
    if mutant:
        mutant(conn)
    publish_many(conn, [{"key": "k"}] * 2)
    sequence(conn)
    subscribe(conn, after=0, ordered=True)
    publish_many(conn, [{"key": "k"}] * 2)
    moving, walking = connect(autocommit=False), connect()
    assert sequence(moving) == (2, 0), "it catches up: nothing live"
    walked = background(step, walking, last=True)
    if not mutant:
        blocked(walking)
    else:
        walked.result(10)
    moving.commit()
    walked.result(10)

    assert deliveries(conn) == ([1, 2, 3, 4] if mutant is None else [1, 2])


def test_two_runners_that_register_the_same_make_it_once(
    conn: Connection, connect: Connect, background: Background, blocked: Blocked
) -> None:
    publish(conn)
    sequence(conn)
    first, second = connect(autocommit=False), connect()
    subscribe(first, after=0)
    other = background(subscribe, second, SUB, after=0, queue="mail")
    blocked(second)

    first.commit()

    assert other.result(10) == {"queue": {"is": "default", "wanted": "mail"}}
    assert len(walks(conn)) == 1


def test_a_registration_that_is_rolled_back_leaves_nothing(conn: Connection, connect: Connect) -> None:
    publish(conn)
    sequence(conn)
    own = connect(autocommit=False)
    subscribe(own, after=0)
    own.rollback()
    publish(conn)

    assert sequence(conn) == (1, 0)
    assert (walk_to_the_end(conn), walks(conn)) == (0, [])


LOADED: dict[str, tuple[str, bool]] = {
    f"shop.{start}_{kind}": (start, kind == "ordered")
    for start in ("now", "beginning", "position")
    for kind in ("ordered", "unordered")
}


def test_who_registers_under_load_gets_each_event_once_and_each_key_in_order(
    conn: Connection, connect: Connect
) -> None:
    """Publishers, a sequencer that often rolls back, a walker in small steps, workers that fail now and then; and while they
    are at it, one subscription of each kind after the other."""
    for runner in (1, 2):
        register(conn, runner, LOADED)
    publish_many(conn, [{"key": f"k{n % 5}"} for n in range(300)])
    sequence(conn)
    load = Load(connect)

    def publisher(own: Connection, dice: random.Random, _: int) -> None:
        if load.quiet.is_set():
            load.over.wait(0.01)
            return
        with own.transaction(force_rollback=dice.random() < 0.1):
            for _ in range(dice.randint(1, 3)):
                publish(own, key=f"k{dice.randrange(5)}")
            load.over.wait(dice.random() * 0.005)

    def sequencer(own: Connection, dice: random.Random, _: int) -> None:
        with own.transaction(force_rollback=dice.random() < 0.2):
            sequence(own, dice.randint(1, 30))
            load.over.wait(dice.random() * 0.003)

    def walker(own: Connection, dice: random.Random, _: int) -> None:
        with own.transaction(force_rollback=dice.random() < 0.2):
            done = step(own, dice.randint(5, 60))
        if done.near:
            step(own, 60, last=True)
        load.over.wait(0.001)

    def worker(own: Connection, dice: random.Random, runner: int) -> None:
        for claimed in claim(own, *LOADED, n=dice.randint(1, 60), runner=runner):
            failed = dice.random() < 0.05 and not load.quiet.is_set()
            while not settle(own, runner, [claimed], "ready" if failed else "succeeded"):
                load.over.wait(0.001)
        load.over.wait(0.001)

    starts: dict[str, int] = {}
    with load.running(worker, worker, publisher, publisher, sequencer, walker):
        for name, (start, ordered) in LOADED.items():
            before = head(conn)
            after = {"now": None, "beginning": 0, "position": before - 20}[start]
            assert subscribe(conn, name, after=after, ordered=ordered) == {}
            starts[name] = int(subscription(conn, name)["live_from"]) if after is None else after
            wait_until(lambda reached=before + 40: load.errors or head(conn) > reached, what="more events")  # type: ignore[misc]
        load.quiet.set()
        done = """select not exists (select from jobrunner.jobs) and not exists (select from jobrunner.outbox)
                  and not exists (select from jobrunner.replays where state = 'running')"""
        wait_until(lambda: load.errors or value(conn, done), 30, "the end of the work")

    assert len(walks(conn)) == 4
    for name, (_, ordered) in LOADED.items():
        assert sorted(deliveries(conn, name)) == list(range(starts[name] + 1, head(conn) + 1)), name
        if ordered:
            assert not _out_of_order(conn, name), name


def _out_of_order(conn: Connection, name: str) -> list[Any]:
    """Deliveries whose last start was before that of an earlier event of their key."""
    return conn.execute(
        """select key, position from (
               select key, (args ->> 'position')::bigint as position,
                   lag((args ->> 'position')::bigint) over (partition by key order by started_at) as before
               from jobrunner.finished_jobs where task = %s and key is not null
           ) f where position < before""",
        [name],
    ).fetchall()


# ---------------------------------------------------------------------------------------------------------- what it says
def test_a_second_registration_tells_the_difference_and_changes_nothing(tx: Connection) -> None:
    subscribe(tx, types=["order.*"], match={"a": 1}, retry={"base": 2})
    before = subscription(tx)

    assert subscribe(tx, types=["order.*"], match={"a": 1}, retry={"base": 2}) == {}
    found = subscribe(tx, types=["#"], ordered=True, max_attempts=3, on_lag="release", after=0)

    assert found == {
        "types": {"is": ["order.*"], "wanted": ["#"]},
        "match": {"is": {"a": 1}, "wanted": None},
        "ordered": {"is": False, "wanted": True},
        "retry": {"is": {"base": 2}, "wanted": {}},
        "max_attempts": {"is": 10, "wanted": 3},
        "on_lag": {"is": "hold", "wanted": "release"},
    }
    assert subscription(tx) == before


def test_a_person_applies_the_difference_and_it_holds_from_the_next_event_on(conn: Connection) -> None:
    subscribe(conn, types=["order.paid"], max_attempts=2)
    publish(conn, "order.paid")
    publish(conn, "order.sent")
    sequence(conn)

    changed = apply(conn, types=["order.sent"], queue="mail", priority=1)
    assert set(changed) == {"types", "queue", "priority", "max_attempts"}
    assert apply(conn, types=["order.sent"], queue="mail", priority=1) == {}
    publish(conn, "order.paid")
    publish(conn, "order.sent")
    sequence(conn)

    made = "select (args ->> 'position')::int, queue, priority, max_attempts from jobrunner.jobs order by id"
    assert conn.execute(made).fetchall() == [(1, "default", 0, 2), (4, "mail", 1, 10)]
    assert conn.execute("select actor, action, target, reason from jobrunner.audit").fetchall() == [
        ("ann", "apply", f"subscription {SUB}", "because")
    ]


def test_apply_refuses_what_cannot_be_right(conn: Connection) -> None:
    def refused(name: str = SUB, **options: object) -> str | None:
        with pytest.raises(psycopg.Error) as error:
            apply(conn, name, **options)
        return error.value.sqlstate

    register(conn)
    publish(conn, key="k")
    sequence(conn)
    subscribe(conn, after=0)

    assert refused("shop.nobody") == "JR005"
    assert refused(mode="stream") == "JR004"
    assert refused(ordered=True) == "JR004", "a walk is under way"
    walk_to_the_end(conn)
    assert refused(ordered=True) == "JR004", "deliveries are open"
    [claimed] = claim(conn)
    settle(conn, 1, [claimed], "dead")
    assert refused(ordered=True) == "JR004", "a dead one may be requeued"
    assert refused(on_dead="block_key") == "23514", "which means something only in order"
    conn.execute("select jobrunner.op_discard(%s)", [[claimed.id]])
    assert set(apply(conn, ordered=True)) == {"ordered"}
    publish(conn, key="k")
    sequence(conn)
    assert states(conn) == {3: "blocked/arrival"}, "2 was told about the dead one"


def test_only_events_whose_headers_contain_the_match_are_delivered_live_and_behind(tx: Connection) -> None:
    headers: list[dict[str, Any]] = [{}, {"a": 1}, {"a": 1, "b": {"c": [1, 2]}}, {"a": 2, "b": {"c": [1]}}]
    publish_many(tx, [{"headers": given} for given in headers])
    sequence(tx)
    for name, match in (("shop.a", {"a": 1}), ("shop.c", {"b": {"c": [1]}}), ("shop.all", {}), ("shop.none", None)):
        subscribe(tx, name, after=0, match=match)
    publish_many(tx, [{"headers": given} for given in headers])
    sequence(tx)
    walk_to_the_end(tx)

    assert sorted(deliveries(tx, "shop.a")) == [2, 3, 6, 7]
    assert sorted(deliveries(tx, "shop.c")) == [3, 4, 7, 8]
    assert sorted(deliveries(tx, "shop.all")) == sorted(deliveries(tx, "shop.none")) == list(range(1, 9))


# ----------------------------------------------------------------------------------------------------------- pause, resume
def _pause(conn: Connection, name: str = SUB) -> bool:
    return bool(value(conn, "select jobrunner.op_pause_subscription(%s, 'ann', 'because')", name))


def _resume(conn: Connection, name: str = SUB) -> bool:
    return bool(value(conn, "select jobrunner.op_resume_subscription(%s, 'ann')", name))


@pytest.mark.parametrize("ordered", [False, True])
def test_a_paused_subscription_waits_out_of_the_way_and_the_others_go_on(tx: Connection, ordered: bool) -> None:
    register(tx, 1, [SUB, "shop.other"])
    for name in (SUB, "shop.other"):
        subscribe(tx, name, ordered=ordered)
    publish(tx, key="k")
    sequence(tx)

    assert (_pause(tx), _pause(tx)) == (True, False)
    assert [c.task for c in claim(tx, SUB, "shop.other")] == ["shop.other"]
    tx.execute("select jobrunner.park_v1('default', 100)")
    publish(tx, key="k2")
    sequence(tx)
    assert [c.task for c in claim(tx, SUB, "shop.other")] == ["shop.other"]
    tx.execute("select jobrunner.park_v1('default', 100)")
    assert states(tx) == {1: "blocked/task", 2: "blocked/task"}
    tx.execute("select jobrunner.unpark_v1(array[%s], array[1::smallint], 100)", [SUB])
    assert claim(tx, SUB, "shop.other") == [], "no runner brings them back"

    assert (_resume(tx), _resume(tx)) == (True, False)
    assert states(tx) == {1: "ready", 2: "ready"}
    assert [log.position(c) for c in claim(tx)] == [1, 2]
    assert column(tx, "select action from jobrunner.audit order by id") == ["pause", "pause", "resume", "resume"]


def test_what_runs_when_a_subscription_is_paused_may_end_and_a_walk_stands_still(tx: Connection) -> None:
    register(tx)
    publish_many(tx, [{}] * 3)
    sequence(tx)
    subscribe(tx, after=0)
    assert step(tx, 1).delivered == 1
    [running] = claim(tx)
    _pause(tx)

    assert step(tx).walk is None
    assert settle(tx, 1, [running], "succeeded") == [running.id]
    _resume(tx)
    assert step(tx).delivered == 2


def test_a_pause_of_nobody_is_an_error(conn: Connection) -> None:
    for statement in (
        "select jobrunner.op_pause_subscription('shop.nobody')",
        "select jobrunner.op_resume_subscription('shop.nobody')",
        "select jobrunner.op_skip('shop.nobody', 1)",
        "select jobrunner.op_remove_subscription('shop.nobody')",
        "select jobrunner.op_replay('shop.nobody', 1)",
        "select jobrunner.op_resolve_key('shop.nobody', 'k', 'retry')",
    ):
        with pytest.raises(psycopg.Error) as refused:
            conn.execute(statement)
        assert refused.value.sqlstate == "JR005", statement


# ------------------------------------------------------------------------------------------------------------ skip, remove
def _skip(conn: Connection, position: int) -> str:
    return str(value(conn, "select jobrunner.op_skip(%s, %s, 'ann')", SUB, position))


def test_a_person_skips_an_event_whatever_became_of_its_delivery(conn: Connection, connect: Connect) -> None:
    register(conn)
    subscribe(conn, ordered=True)
    publish_many(conn, [{"key": "a"}, {"key": "b"}, {"key": "a"}, {"key": "c"}])
    sequence(conn)
    running, dead, done = claim(conn)
    settle(conn, 1, [dead], "dead")
    settle(conn, 1, [done], "succeeded")

    assert _skip(conn, 1) == "requested"
    person = connect(autocommit=False)
    person.execute("select from jobrunner.jobs where id = %s for update", [dead.id])
    assert _skip(conn, 2) == "busy"
    person.rollback()
    assert _skip(conn, 2) == "discarded"
    assert _skip(conn, 3) == "cancelled"
    assert (_skip(conn, 4), _skip(conn, 99)) == ("over", "over")
    settle(conn, 1, [running], "scheduled", failed=True)
    assert calls.job(conn, running.id)["state"] == "cancelled"
    assert claim(conn) == []
    assert value(conn, "select count(*) from jobrunner.audit where action = 'skip'") == 6


@pytest.mark.parametrize("ordered", [False, True])
def test_a_removed_subscription_leaves_nothing_but_what_runs(tx: Connection, ordered: bool) -> None:
    register(tx)
    publish_many(tx, [{"key": "a"}, {"key": "a"}, {"key": "b"}, {"key": "c"}, {"key": "d"}])
    sequence(tx)
    subscribe(tx, after=0, ordered=ordered)
    step(tx, 4)
    running, dead, *_ = claim(tx, n=2)
    settle(tx, 1, [dead], "dead")
    seat(tx)

    assert value(tx, "select jobrunner.op_remove_subscription(%s)", SUB) == 3
    calls.sweep(tx)

    assert (step(tx).walk, [state for _, state, _ in walks(tx)]) == (None, ["cancelled"])
    assert column(tx, "select id from jobrunner.jobs") == [running.id]
    publish(tx)
    assert sequence(tx) == (2, 0), "with what was told about the dead one"
    assert settle(tx, 1, [running], "succeeded") == [running.id]


def test_a_removal_waits_for_the_seat_step_and_leaves_none_of_its_arrivals(
    conn: Connection, connect: Connect, background: Background, blocked: Blocked
) -> None:
    """The step holds the rows that it seats, and a cancel passes over what is held."""
    subscribe(conn, ordered=True)
    publish_many(conn, [{"key": "a"}] * 2)
    sequence(conn)
    seating, removing = connect(autocommit=False), connect()
    assert seat(seating) == (2, 2)
    removed = background(value, removing, "select jobrunner.op_remove_subscription(%s)", SUB)
    blocked(removing)

    seating.commit()

    assert removed.result(10) == 2
    calls.sweep(conn)
    assert column(conn, "select id from jobrunner.jobs") == []


# ------------------------------------------------------------------------------------------------------------ what is dead
def _die(conn: Connection, claimed: Claim, how: str, runner: int = 1) -> None:
    """By its settlement, or by the third runner that was lost under it."""
    if how == "settled":
        assert settle(conn, runner, [claimed], "dead", error="boom", reason="rejected") == [claimed.id]
        return
    conn.execute("update jobrunner.jobs set crashes = 2 where id = %s", [claimed.id])
    calls.lose(conn, runner)
    calls.mark_lost(conn)
    calls.give_back(conn)
    assert calls.job(conn, claimed.id)["state"] == "dead"


HOW = pytest.mark.parametrize("how", ["settled", "crashed"])


@HOW
@pytest.mark.parametrize("on_dead", ["skip", "block_key", "pause"])
def test_a_dead_delivery_means_what_the_subscription_says(tx: Connection, on_dead: str, how: str) -> None:
    register(tx, 1, [SUB])
    register(tx, 2, [SUB])
    subscribe(tx, ordered=True, on_dead=on_dead)
    publish_many(tx, [{"key": "a"}, {"key": "a"}, {"key": "b"}])
    sequence(tx)
    [first] = claim(tx, n=1)

    _die(tx, first, how)

    ready = {log.position(c) for c in claim(tx, runner=2)}
    assert ready == {"skip": {2, 3}, "block_key": {3}, "pause": set()}[on_dead]
    assert states(tx)[1] == "dead"
    paused = tx.execute("select paused_by, pause_reason from jobrunner.subscriptions").fetchone()
    what = "boom" if how == "settled" else "crashed"
    assert paused == (("on_dead", f"job {first.id} died: {what}") if on_dead == "pause" else (None, None))
    told = column(tx, "select type from jobrunner.outbox where type <> 'jobrunner.runner.lost' order by id")
    assert told == ["jobrunner.job.dead", *(["jobrunner.subscription.paused"] if on_dead == "pause" else [])]


@HOW
@pytest.mark.parametrize("resolve", ["retry", "discard"])
def test_a_person_frees_a_key_that_a_dead_delivery_blocks(tx: Connection, resolve: str, how: str) -> None:
    register(tx, 1, [SUB])
    register(tx, 2, [SUB])
    subscribe(tx, ordered=True, on_dead="block_key")
    publish_many(tx, [{"key": "a b"}, {"key": "a b"}])
    sequence(tx)
    [first] = claim(tx)
    _die(tx, first, how)
    publish(tx, key="a b")
    sequence(tx)
    assert claim(tx, runner=2) == []
    assert value(tx, "select jobrunner.repair_keys_v1()") == 0, "somebody holds it"

    done = value(tx, "select jobrunner.op_resolve_key(%s, 'a b', %s, 'ann')", SUB, resolve)
    assert done == first.id
    calls.sweep(tx)

    expected = column(tx, "select position from jobrunner.events where key = 'a b' order by position")
    assert [log.position(c) for c in run_all(tx, runner=2)] == expected[0 if resolve == "retry" else 1 :]
    with pytest.raises(psycopg.Error, match="no dead delivery blocks key 'a b'") as refused, tx.transaction():
        value(tx, "select jobrunner.op_resolve_key(%s, 'a b', 'retry')", SUB)
    assert refused.value.sqlstate == "JR005"


def test_a_key_is_resolved_by_retry_or_discard_and_not_while_somebody_holds_the_delivery(
    conn: Connection, connect: Connect
) -> None:
    register(conn)
    subscribe(conn, ordered=True, on_dead="block_key")
    publish(conn, key="a")
    sequence(conn)
    [first] = claim(conn)
    _die(conn, first, "settled")
    for how in ("mend", None):
        with pytest.raises(psycopg.Error, match="by retry or by discard") as refused:
            value(conn, "select jobrunner.op_resolve_key(%s, 'a', %s)", SUB, how)
        assert refused.value.sqlstate == "JR003"

    person = connect(autocommit=False)
    person.execute("select from jobrunner.jobs where id = %s for update", [first.id])
    with pytest.raises(psycopg.errors.LockNotAvailable, match="again, please"):
        value(conn, "select jobrunner.op_resolve_key(%s, 'a', 'retry')", SUB)


def test_a_job_may_block_its_key_too_by_a_header(tx: Connection) -> None:
    register(tx)
    first = calls.enqueue(tx, key="k", headers={"on_dead": "block_key"})
    behind = calls.enqueue(tx, key="k")
    seat(tx)
    [claimed] = calls.claim(tx)

    settle(tx, 1, [claimed], "dead")
    seat(tx)

    assert (state(tx, first), state(tx, behind), calls.claim(tx)) == ("dead", "blocked/key", [])
    tx.execute("select jobrunner.op_requeue(%s)", [[first]])
    assert [c.id for c in calls.claim(tx)] == [first]


def test_a_death_that_must_pause_is_put_off_while_somebody_holds_the_subscription(
    conn: Connection, connect: Connect
) -> None:
    """A person who left psql open in the middle of a change: the others of the batch settle, and the pause is not lost."""
    register(conn)
    subscribe(conn, on_dead="pause")
    publish_many(conn, [{}] * 2)
    sequence(conn)
    dead, good = claim(conn)
    person = connect(autocommit=False)
    person.execute("update jobrunner.subscriptions set pause_reason = 'hm'")

    assert settle(conn, 1, [dead], "dead") == []
    assert calls.verdicts(conn, 1, [dead]) == {dead.id: "busy"}
    assert settle(conn, 1, [good], "succeeded") == [good.id]

    person.rollback()
    assert settle(conn, 1, [dead], "dead") == [dead.id]
    assert value(conn, "select paused_by from jobrunner.subscriptions") == "on_dead"


# ---------------------------------------------------------------------------------------------------------- system events
@HOW
def test_a_dead_job_is_told_to_whoever_asks_for_it_and_a_dead_teller_to_nobody(tx: Connection, how: str) -> None:
    """It could go on for ever."""
    names = [calls.TASK, "shop.alarm", "shop.everything"]
    for runner in (1, 2):
        register(tx, runner, names)
    subscribe(tx, "shop.alarm", types=["jobrunner.job.*"])
    subscribe(tx, "shop.everything", types=["#"])
    job_id = calls.enqueue(tx, key="k", subject="order:1")
    seat(tx)
    [claimed] = calls.claim(tx)
    _die(tx, claimed, how)

    assert sequence(tx)[1] == 1
    told = "select data, subject from jobrunner.events where type = 'jobrunner.job.dead'"
    data, subject = tx.execute(told).fetchone() or ({}, "")
    assert subject == f"job:{job_id}"
    assert {
        "job_id": str(job_id),
        "task": calls.TASK,
        "queue": "default",
        "key": "k",
        "subject": "order:1",
    }.items() <= data.items()
    [teller] = claim(tx, *names, runner=2)
    assert teller.task == "shop.alarm"
    _die(tx, teller, how, 2)
    sequence(tx)
    assert len(tx.execute(told).fetchall()) == 1


def test_a_dead_job_that_has_an_argument_named_system_is_told_too(tx: Connection) -> None:
    register(tx)
    for args in ({"system": "x"}, {"system": True}, {"system": True, "position": 1}):
        calls.enqueue(tx, args=args)

    settle(tx, 1, calls.claim(tx), "dead")

    assert value(tx, "select count(*) from jobrunner.outbox") == 3


def test_a_dead_pump_of_a_stream_of_system_events_is_told_to_nobody(tx: Connection) -> None:
    register(tx, 1, ["shop.alarm", "shop.feed"])
    subscribe(tx, "shop.alarm", mode="stream", types=["jobrunner.#"])
    subscribe(tx, "shop.feed", mode="stream", types=["#"])
    alarm, feed = sorted(claim(tx, "shop.alarm", "shop.feed"), key=lambda c: c.task)

    settle(tx, 1, [alarm], "dead")
    assert sequence(tx) == (0, 0)

    settle(tx, 1, [feed], "dead")
    assert sequence(tx) == (1, 0)
