"""Walks over the log: what a person asks for again comes once, marked, behind what is new, and no faster than he said."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.store import calls, log
from tests.store.calls import Connection, column, register, seat, settle, value
from tests.store.log import (
    SUB,
    claim,
    deliveries,
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

pytestmark = pytest.mark.pg16

Background = Callable[..., Future[Any]]
Blocked = Callable[[Connection | int], None]


def replay(conn: Connection, name: str = SUB, /, **options: object) -> int | None:
    """`op_replay` with *options* by name, by ann."""
    given = {"_subscription": name, "_actor": "ann", **options}
    found = conn.execute(
        f"select jobrunner.op_replay({', '.join(f'{at} => %({at})s' for at in given)})", given
    ).fetchone()  # fmt: skip
    assert found is not None
    return None if found[0] is None else int(found[0])


def _told(conn: Connection, name: str = SUB, *, ordered: bool = False) -> None:
    """Ten events, all delivered and done."""
    register(conn)
    subscribe(conn, name, ordered=ordered)
    publish_many(conn, [{"type": "order.paid" if n % 2 else "order.sent", "key": f"k{n % 3}"} for n in range(1, 11)])
    sequence(conn)
    assert len(run_all(conn, name)) == 10


AGAIN: dict[str, tuple[dict[str, Any], list[int]]] = {
    "all": ({"_after": 0}, list(range(1, 11))),
    "a part": ({"_after": 3, "_upto": 6}, [4, 5, 6]),
    "before the log": ({"_after": -5, "_upto": 2}, [1, 2]),
    "beyond the log": ({"_after": 8, "_upto": 99}, [9, 10]),
    "nothing": ({"_after": 99}, []),
    "the wrong way round": ({"_after": 6, "_upto": 3}, []),
    "a type": ({"_after": 0, "_types": ["*.sent"]}, [2, 4, 6, 8, 10]),
    "types": ({"_after": 5, "_types": ["order.sent", "order.paid"]}, [6, 7, 8, 9, 10]),
    "a key": ({"_after": 0, "_key": "k1"}, [1, 4, 7, 10]),
    "a key and a type": ({"_after": 0, "_key": "k1", "_types": ["order.paid"]}, [1, 7]),
    "from an instant": ({"_since": "1990-01-01Z"}, list(range(1, 11))),
    "after an instant": ({"_since": "2090-01-01Z"}, []),
    "up to an instant": ({"_after": 0, "_until": "2090-01-01Z"}, list(range(1, 11))),
    "before an instant": ({"_after": 0, "_until": "1990-01-01Z"}, []),
}


@pytest.mark.parametrize("what", AGAIN)
def test_a_person_sees_again_exactly_what_he_named(tx: Connection, what: str) -> None:
    options, expected = AGAIN[what]
    _told(tx)

    walk = replay(tx, **options)
    publish_many(tx, [{}, {}])
    sequence(tx)

    assert walk_to_the_end(tx, 2) == len(expected)
    again = tx.execute(
        """select (args ->> 'position')::int, priority from jobrunner.jobs where headers = jsonb_build_object('replay', %s::bigint)
           order by id""",
        [walk],
    ).fetchall()
    assert again == [(position, -1) for position in expected]
    assert walks(tx) == [("replay", "done", len(expected))]
    assert [log.position(c) for c in run_all(tx)] == [11, 12, *expected], "behind what is new"


def test_an_instant_divides_the_log(conn: Connection) -> None:
    _told(conn)
    at = value(conn, "select max(recorded_at) + interval '1 microsecond' from jobrunner.events")
    publish(conn)
    sequence(conn)
    run_all(conn)

    replay(conn, _since=at)
    assert walk_to_the_end(conn) == 1
    replay(conn, _after=0, _until=at)
    assert walk_to_the_end(conn) == 10


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({}, {}, "JR003", "say from where"),
    ({}, {"_after": 1, "_since": "2026-01-01Z"}, "JR003", "say from where"),
    ({}, {"_after": 1, "_upto": 2, "_until": "2026-01-01Z"}, "JR003", "not both"),
    ({}, {"_after": 1, "_rate": 0}, "JR003", "above 0"),
    ({}, {"_after": 1, "_rate": -1}, "JR003", "above 0"),
    ({}, {"_after": 1, "_types": ["a("]}, "JR003", "no pattern"),
    ({}, {"_after": 1, "_types": []}, "JR003", "at least one type"),
    ({"replay": False}, {"_after": 1}, "JR004", "takes no replays"),
    ({"ordered": True}, {"_after": 1, "_upto": 5}, "JR004", "ordered, so it can only be rewound"),
    ({"ordered": True}, {"_after": 1, "_types": ["a"]}, "JR004", "ordered, so it can only be rewound"),
    ({"ordered": True}, {"_after": 1, "_key": "a"}, "JR004", "ordered, so it can only be rewound"),
    ({"mode": "stream"}, {"_after": 1, "_until": "2026-01-01Z"}, "JR004", "a stream, so it can only be rewound"),
]


@pytest.mark.parametrize(("declared", "options", "sqlstate", "sentence"), REFUSED)
def test_what_cannot_be_right_is_refused(
    tx: Connection, declared: dict[str, Any], options: dict[str, Any], sqlstate: str, sentence: str
) -> None:
    subscribe(tx, **declared)
    with pytest.raises(psycopg.Error, match=sentence) as refused, tx.transaction():
        replay(tx, **options)

    assert refused.value.sqlstate == sqlstate
    assert walks(tx) == []


def test_a_rate_holds_whatever_the_pace_of_the_steps_and_after_a_pause(tx: Connection) -> None:
    _told(tx)
    walk = replay(tx, _after=0, _rate=4)

    def later(seconds: float) -> None:
        tx.execute("update jobrunner.replays set moved_at = clock_timestamp() - %s * interval '1 s'", [seconds])

    assert step(tx).walk is None, "nothing in the first quarter of a second"
    later(0.6)
    assert (step(tx).delivered, step(tx).walk) == (2, None)
    later(3600)
    assert (step(tx).delivered, step(tx).walk) == (4, None)
    tx.execute("update jobrunner.replays set rate = 0.1 where id = %s", [walk])
    later(9)
    assert step(tx).walk is None
    later(11)
    assert step(tx).delivered == 1


@pytest.mark.parametrize("ordered", [False, True])
def test_a_walk_stops_while_enough_of_its_deliveries_wait(tx: Connection, ordered: bool) -> None:
    """Whatever their keys: with a key for each event, none of an ordered one waits behind another."""
    register(tx)
    publish_many(tx, [{"key": f"k{n}"} for n in range(20)] + [{}] * 20 + [{"key": "k"}] * 20)
    sequence(tx)
    subscribe(tx, after=0, ordered=ordered)
    waiting = "select count(*) from jobrunner.jobs where state in ('ready', 'blocked')"

    for _ in range(30):
        step(tx, 5, open=10)
    assert value(tx, waiting) == 10
    seat(tx)
    for _ in range(30):
        step(tx, 5, open=10)
    assert value(tx, waiting) == 10

    while claims := claim(tx):
        assert value(tx, waiting) <= 15
        settle(tx, 1, claims, "succeeded")
        step(tx, 5, last=step(tx, 5, open=10).near, open=10)
    assert sorted(deliveries(tx)) == list(range(1, 61))


def test_several_walks_take_turns_and_none_keeps_another_from_its_end(conn: Connection) -> None:
    """A last step went to the walk that had waited longest: one that caught up never became live beside a long replay."""
    _told(conn, "shop.other")
    replay(conn, "shop.other", _after=0)
    subscribe(conn, ordered=True, after=0)

    assert [step(conn, 1).walk, step(conn, 1).walk, step(conn, 1).walk] == [1, 2, 1]
    for _ in range(8):
        step(conn, 1)
        step(conn, 1, last=True)
    assert subscription(conn)["state"] == "live"
    assert deliveries(conn) == list(range(1, 11))
    assert walks(conn)[0][1] == "running"


def test_a_cancelled_replay_takes_back_what_nobody_has_begun(conn: Connection) -> None:
    _told(conn)
    publish(conn)
    sequence(conn)
    walk = replay(conn, _after=0)
    step(conn, 6)
    new, running, *_ = claim(conn, n=2)
    assert [log.position(new), log.position(running)] == [11, 1]

    assert value(conn, "select jobrunner.op_cancel_replay(%s, 'ann')", walk) == 5

    assert states(conn) == {11: "running", 1: "running"}
    assert (step(conn).walk, walks(conn)) == (None, [("replay", "cancelled", 6)])
    assert value(conn, "select jobrunner.op_cancel_replay(%s)", walk) is None
    with pytest.raises(psycopg.Error) as refused:
        value(conn, "select jobrunner.op_cancel_replay(99)")
    assert refused.value.sqlstate == "JR005"


def test_a_cancel_that_meets_a_step_takes_its_deliveries_too(
    conn: Connection, connect: Connect, background: Background, blocked: Blocked
) -> None:
    _told(conn)
    walk = replay(conn, _after=0)
    stepping, cancelling = connect(autocommit=False), connect()
    assert step(stepping, 4).delivered == 4
    cancelled = background(value, cancelling, "select jobrunner.op_cancel_replay(%s)", walk)
    blocked(cancelling)

    stepping.commit()

    assert cancelled.result(10) == 4
    assert states(conn) == {}


def test_what_must_meet_the_present_cannot_be_stopped_half_way(tx: Connection) -> None:
    _told(tx, ordered=True)
    walk = replay(tx, _after=0)
    with pytest.raises(psycopg.Error, match="cannot stop half-way") as refused:
        value(tx, "select jobrunner.op_cancel_replay(%s)", walk)
    assert refused.value.sqlstate == "JR004"


def test_a_walk_that_dies_half_way_goes_on_where_it_was(conn: Connection, connect: Connect) -> None:
    _told(conn)
    replay(conn, _after=0)
    step(conn, 3)
    victim = connect(autocommit=False)
    assert step(victim, 4).delivered == 4
    assert step(conn).walk is None, "one at a time"
    assert value(conn, "select pg_terminate_backend(%s, 10000)", victim.info.backend_pid)

    assert walk_to_the_end(conn, 2) == 7
    assert sorted(states(conn)) == list(range(1, 11))
    assert walks(conn) == [("replay", "done", 10)]


def test_an_ordered_subscription_is_rewound_and_meets_the_present_in_order(tx: Connection) -> None:
    _told(tx, ordered=True)
    publish_many(tx, [{"key": "k0"}, {"key": "k0"}, {"key": "k1"}])
    sequence(tx)
    walk = replay(tx, _after=6)
    assert subscription(tx)["state"] == "catching_up"
    publish(tx, key="k0")
    assert sequence(tx) == (1, 0)
    calls.sweep(tx)
    assert states(tx) == {}, "what waited was cancelled"

    walk_to_the_end(tx, 3)
    publish(tx, key="k0")
    assert sequence(tx) == (1, 1)

    assert subscription(tx)["state"] == "live"
    marked = tx.execute("select (args ->> 'position')::int, headers ->> 'replay' from jobrunner.jobs order by id")
    assert marked.fetchall() == [(n, str(walk) if n <= 13 else None) for n in range(7, 16)]
    ran = run_all(tx)
    for key in ("k0", "k1", "k2"):
        mine = [log.position(c) for c in ran if c.key == f"{SUB} {key}"]
        assert mine == sorted(mine)
    assert sorted(log.position(c) for c in ran) == list(range(7, 16))


def test_a_rewind_takes_the_place_of_the_walk_before_it_and_of_the_step_under_way(
    conn: Connection, connect: Connect, background: Background, blocked: Blocked
) -> None:
    register(conn)
    publish_many(conn, [{"key": "k"}] * 10)
    sequence(conn)
    subscribe(conn, ordered=True, after=0)
    step(conn, 3)
    seat(conn)
    stepping, rewinding = connect(autocommit=False), connect()
    assert step(stepping, 3).delivered == 3
    rewound = background(replay, rewinding, _after=4)
    blocked(rewinding)
    stepping.commit()
    rewound.result(10)
    calls.sweep(conn)

    walk_to_the_end(conn)

    assert [(kind, how) for kind, how, _ in walks(conn)] == [("catch_up", "cancelled"), ("rewind", "done")]
    assert sorted(states(conn)) == [5, 6, 7, 8, 9, 10]
    assert [log.position(c) for c in run_all(conn)] == [5, 6, 7, 8, 9, 10]


def test_a_rewind_leaves_what_runs_and_what_follows_waits_for_it(tx: Connection) -> None:
    register(tx)
    subscribe(tx, ordered=True)
    publish_many(tx, [{"key": "k"}] * 3)
    sequence(tx)
    [running] = claim(tx)

    replay(tx, _after=0)
    walk_to_the_end(tx)

    assert claim(tx) == []
    settle(tx, 1, [running], "succeeded")
    assert [log.position(c) for c in run_all(tx)] == [1, 2, 3]


def test_what_a_person_asks_for_is_in_the_audit(tx: Connection) -> None:
    _told(tx)
    walk = replay(tx, _after=2, _upto=4, _key="k1", _reason="again")
    tx.execute("select jobrunner.op_cancel_replay(%s, 'bob', 'enough')", [walk])

    entries = tx.execute(
        "select actor, action, target, reason from jobrunner.audit where action like '%replay' order by id"
    )
    assert entries.fetchall() == [
        ("ann", "replay", f"subscription {SUB}", "again"),
        ("bob", "cancel replay", f"replay {walk} of {SUB}", "enough"),
    ]
    assert column(tx, "select actor || reason from jobrunner.replays") == ["annagain"]
