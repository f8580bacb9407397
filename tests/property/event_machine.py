"""The life of events as Hypothesis draws it: every step is a real statement, every check asks PostgreSQL.

Two sessions: the second is a sequencer that takes its time, so that whatever the first one does may fall between its move and its
commit, or its crash. What would have to wait for its lock is refused after a moment, and then must have done nothing.

The model knows which events were committed, in what order, and where each subscription begins; the rest it asks.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.store import calls, log
from tests.store.calls import Claim, Connection, column, value

NAMES = ("shop.a", "shop.b", "shop.c")
STREAM = "shop.feed"
RUNNERS = 2
KINDS = {"order.paid": ("#", "order.*", "*.paid"), "order.sent": ("#", "order.*"), "user.paid": ("#", "*.paid")}
"""Each type of event, and the patterns that match it: by hand, not by the product."""

FORGET = """
delete from jobrunner.jobs; delete from jobrunner.finished_jobs; delete from jobrunner.attempts; delete from jobrunner.runners;
delete from jobrunner.tasks; delete from jobrunner.cancel_requests; delete from jobrunner.job_links; delete from jobrunner.audit;
delete from jobrunner.outbox; delete from jobrunner.events; delete from jobrunner.subscriptions; delete from jobrunner.replays;
"""
"""Deletes and does not truncate: the log alone has some sixty files."""

NEVER = """
select 'two deliveries hold a key' from jobrunner.jobs where holds_key group by key having count(*) > 1
union all
select 'a key is waited for and nobody holds it' from jobrunner.jobs w
where w.blocked_on = 'key' and not exists (select from jobrunner.jobs h where h.key = w.key and h.holds_key)
union all
select 'the log goes back in time' from (
    select recorded_at, lag(recorded_at) over (order by position) as before from jobrunner.events
) e where recorded_at < before
union all
select 'a subscription that catches up has no walk' from jobrunner.subscriptions s
where s.state = 'catching_up'
    and not exists (select from jobrunner.replays r where r.subscription = s.name and r.state = 'running' and r.kind = 'catch_up')
"""
"""Selects nothing after any step."""

DELIVERIES = """
select task, (args ->> 'position')::bigint, (headers ->> 'replay')::bigint
from (
    select id, task, args, headers from jobrunner.jobs union all select id, task, args, headers from jobrunner.finished_jobs
) j
where args ? 'position'
order by id
"""

T = TypeVar("T")
pick = st.integers(0, 2**16)


@dataclass(frozen=True, slots=True)
class Declared:
    """What the model knows of a subscription."""

    pattern: str
    ordered: bool
    after: int
    on_dead: str


class EventLife(RuleBasedStateMachine):
    """Publish, roll back, sequence, crash, subscribe with backfill, walk, replay, pause, claim, end, rescue: in any order."""

    def __init__(self, conn: Connection, other: Connection) -> None:
        super().__init__()
        self.conn, self.other = conn, other
        if self.moving:
            other.execute("rollback")
        conn.execute(FORGET)
        conn.execute("set lock_timeout = '10 ms'")
        conn.execute("alter function jobrunner.replay_step_v1 set lock_timeout = '10 ms'")
        self.committed: list[tuple[UUID, str, str | None]] = []
        self.subscribed: dict[str, Declared] = {}
        self.paused: set[str] = set()
        self.held: list[tuple[int, Claim]] = []
        self.started: dict[tuple[str, str], int] = defaultdict(int)  # of a subscription and a key: the last first start
        self.read: list[int] = []
        self.next_runner = 1
        self.runners = [self._runner() for _ in range(RUNNERS)]
        log.subscribe(conn, STREAM, mode="stream")
        self.publish(kind="order.paid", key="a", many=3)  # so that the first steps have something to do
        self.sequence(n=2, crash=False)

    @property
    def moving(self) -> bool:
        """Whether the second session has a step under way."""
        return self.other.info.transaction_status != psycopg.pq.TransactionStatus.IDLE

    def _runner(self) -> int:
        self.next_runner += 1
        return calls.register(self.conn, self.next_runner, [*NAMES, STREAM])

    def _refused(self, call: Any) -> bool:
        """Calls what waits for the sequencer: it is refused exactly while a step is under way."""
        try:
            with self.conn.transaction():
                call()
        except psycopg.errors.LockNotAvailable:
            assert self.moving
            return True
        return False

    # ------------------------------------------------------------------------------------------------------- publishers
    @rule(kind=st.sampled_from(sorted(KINDS)), key=st.sampled_from(["a", "a", "b", None]), many=st.integers(1, 3))
    def publish(self, kind: str, key: str | None, many: int) -> None:
        ids = log.publish_many(self.conn, [{"type": kind, "key": key}] * many)
        self.committed += [(event_id, kind, key) for event_id in ids]

    @rule(inside=st.booleans())
    def roll_back(self, inside: bool) -> None:
        with self.conn.transaction(force_rollback=not inside):
            with self.conn.transaction(force_rollback=True):
                log.publish(self.conn, key="a")
            event_id = log.publish(self.conn, "user.paid", key="b")
        if inside:
            self.committed.append((event_id, "user.paid", "b"))

    # -------------------------------------------------------------------------------------------------------- sequencers
    @rule(n=st.integers(1, 4), crash=st.booleans())
    def sequence(self, n: int, crash: bool) -> None:
        with self.conn.transaction(force_rollback=crash and n > 2):
            moved, _ = log.sequence(self.conn, n)
        assert moved in ((-1, 0) if self.moving else range(n + 1))

    @precondition(lambda self: not self.moving)
    @rule(n=st.integers(1, 4))
    def a_slow_step_begins(self, n: int) -> None:
        self.other.execute("begin")
        if log.sequence(self.other, n) == (0, 0):
            self.other.execute("rollback")  # an empty outbox takes no lock

    @precondition(lambda self: self.moving)
    @rule(crash=st.booleans())
    def a_slow_step_ends(self, crash: bool) -> None:
        self.other.execute("rollback" if crash else "commit")

    # ---------------------------------------------------------------------------------------------------- subscriptions
    @precondition(lambda self: len(self.subscribed) < len(NAMES))
    @rule(
        pattern=st.sampled_from(["#", "order.*", "*.paid"]),
        ordered=st.sampled_from([True, True, False]),
        start=st.sampled_from(["now", "beginning", "beginning", "middle"]),
        block=st.booleans(),
    )
    def subscribe(self, pattern: str, ordered: bool, start: str, block: bool) -> None:
        name = NAMES[len(self.subscribed)]
        after = {"now": None, "beginning": 0, "middle": log.head(self.conn) // 2}[start]
        on_dead = "block_key" if block and ordered else "skip"
        options: dict[str, Any] = {"types": [pattern], "ordered": ordered, "on_dead": on_dead}
        if self._refused(lambda: log.subscribe(self.conn, name, after=after, **options)):
            return
        now = log.head(self.conn) if after is None else after
        self.subscribed[name] = Declared(pattern, ordered, now, on_dead)

    @rule(n=st.integers(1, 4), crash=st.booleans())
    def walk(self, n: int, crash: bool) -> None:
        crash = crash and n > 2
        with self.conn.transaction(force_rollback=crash):
            done = log.step(self.conn, n)
        if done.near and not crash:
            self._refused(lambda: log.step(self.conn, n, last=True))

    @rule(n=st.sampled_from([1, 5, 20, 20]), beside=st.booleans())
    def a_last_step(self, n: int, beside: bool) -> None:
        if beside and not self.moving:
            self.a_slow_step_begins(n=2)
        self._refused(lambda: log.step(self.conn, n, last=True))

    @precondition(lambda self: any(not it.ordered for it in self.subscribed.values()))
    @rule(choice=pick, after=st.integers(0, 5))
    def replay(self, choice: int, after: int) -> None:
        name = _nth([name for name, it in self.subscribed.items() if not it.ordered], choice)
        self._refused(lambda: value(self.conn, "select jobrunner.op_replay(%s, %s)", name, after))

    @precondition(lambda self: self.subscribed)
    @rule(choice=pick)
    def pause(self, choice: int) -> None:
        name = _nth([*self.subscribed, STREAM], choice)
        changed = value(self.conn, "select jobrunner.op_pause_subscription(%s)", name)
        assert changed == (name not in self.paused)
        self.paused.add(name)

    @precondition(lambda self: self.paused)
    @rule(choice=pick)
    def resume(self, choice: int) -> None:
        name = _nth(sorted(self.paused), choice)
        if not self._refused(lambda: value(self.conn, "select jobrunner.op_resume_subscription(%s)", name)):
            self.paused.remove(name)

    # ----------------------------------------------------------------------------------------------------------- runners
    @rule(who=st.integers(0, RUNNERS - 1), n=st.integers(1, 6))
    def claim(self, who: int, n: int) -> None:
        for claimed in log.claim(self.conn, *NAMES, n=n, runner=self.runners[who]):
            assert claimed.task not in self.paused
            self.held.append((self.runners[who], claimed))
            if claimed.key and claimed.attempt == 1:
                at = log.position(claimed)
                assert self.started[claimed.task, claimed.key] < at, "a key's events ran out of order"
                self.started[claimed.task, claimed.key] = at

    @precondition(lambda self: self.held)
    @rule(choice=pick, how=st.sampled_from(["succeeded", "succeeded", "scheduled", "ready", "dead"]))
    def end(self, choice: int, how: str) -> None:
        runner, claimed = self.held.pop(choice % len(self.held))
        ended = calls.settle(self.conn, runner, [claimed], how, failed=how == "scheduled" and claimed.failures < 5)
        assert ended == [claimed.id]

    @rule(who=st.integers(0, RUNNERS - 1))
    def crash(self, who: int) -> None:
        runner = self.runners[who]
        calls.lose(self.conn, runner)
        calls.mark_lost(self.conn)
        calls.give_back(self.conn)
        self.held = [it for it in self.held if it[0] != runner]
        self.runners[who] = self._runner()

    @rule()
    def look_around(self) -> None:
        self.conn.execute("select jobrunner.promote_v1(1000, '-infinity', now() + interval '1 day')")
        self.conn.execute("select jobrunner.park_v1('default', 100)")
        known = [*NAMES, STREAM]
        self.conn.execute("select jobrunner.unpark_v1(%s, %s, 100)", [known, [1] * len(known)])
        calls.sweep(self.conn)
        calls.seat(self.conn)

    @rule(retry=st.booleans())
    def resolve(self, retry: bool) -> None:
        blocked = self.conn.execute(
            "select task, key from jobrunner.jobs where state = 'dead' and holds_key"
        ).fetchall()
        assume(blocked)
        task, key = blocked[0]
        how = "retry" if retry else "discard"
        self.conn.execute("select jobrunner.op_resolve_key(%s, %s, %s)", [task, key.removeprefix(f"{task} "), how])

    @rule(n=st.integers(1, 4), crash=st.booleans())
    def pump(self, n: int, crash: bool) -> None:
        """A run of the stream."""
        for claimed in log.claim(self.conn, STREAM, runner=self.runners[0]):
            assert STREAM not in self.paused
            with self.conn.transaction(force_rollback=crash):
                batch = log.read(self.conn, STREAM, n)
                assert log.advance(self.conn, batch, STREAM)
            if not crash:
                self.read += batch.positions
            calls.settle(self.conn, self.runners[0], [claimed], "ready" if crash else "succeeded")

    # ------------------------------------------------------------------------------------------------------ the promises
    @invariant()
    def nothing_is_broken(self) -> None:
        assert column(self.conn, NEVER) == []

    @invariant()
    def the_log_is_what_was_committed_in_that_order(self) -> None:
        rows = self.conn.execute(
            """select event_id, position from jobrunner.events where type not like 'jobrunner.%%' union all
               select event_id, null from jobrunner.outbox where type not like 'jobrunner.%%'
               order by 2 nulls last"""
        ).fetchall()  # fmt: skip
        places: dict[UUID, int | None] = dict(rows)
        assert len(rows) == len(places) == len(self.committed)
        recorded = [at for event_id, _, _ in self.committed if (at := places[event_id]) is not None]
        assert recorded == sorted(recorded)
        head = log.head(self.conn)
        assert column(self.conn, "select position from jobrunner.events order by 1") == list(range(1, head + 1))

    @invariant()
    def each_event_is_delivered_once_to_each_that_wants_it(self) -> None:
        types: dict[int, str] = dict(self.conn.execute("select position, type from jobrunner.events").fetchall())
        walks = self.conn.execute(
            "select id, subscription, kind, state, from_after, upto, at_position from jobrunner.replays"
        ).fetchall()
        made: dict[tuple[str, int | None], list[int]] = defaultdict(list)
        for task, position, replay in self.conn.execute(DELIVERIES).fetchall():
            made[task, replay].append(position)
        for name, declared in self.subscribed.items():
            mine = [p for p, kind in types.items() if declared.pattern in KINDS.get(kind, ())]
            wanted = {p for p in mine if p > declared.after}
            for walk, _, kind, state, after, upto, at in (row for row in walks if row[1] == name):
                if kind == "replay":
                    again = sorted(made[name, walk])
                    assert again == sorted(p for p in mine if after < p <= at), f"replay {walk} of {name}"
                elif state == "running":
                    wanted -= {p for p in mine if p > at and (kind == "catch_up" or p <= upto)}
            assert sorted(made[name, None]) == sorted(wanted), f"deliveries of {name}"

    @invariant()
    def the_stream_reads_each_event_once_in_order(self) -> None:
        types: dict[int, str] = dict(self.conn.execute("select position, type from jobrunner.events").fetchall())
        cursor = value(self.conn, "select position from jobrunner.cursors where subscription = %s", STREAM)
        assert self.read == [p for p in sorted(types) if p <= cursor and types[p] in KINDS]

    def teardown(self) -> None:
        """Never stuck: whatever happened, all that was committed is recorded, delivered and done."""
        if self.conn.closed:
            return
        if self.moving:
            self.other.execute("commit")
        self.conn.execute("set lock_timeout = 0")
        for name in sorted(self.paused):
            value(self.conn, "select jobrunner.op_resume_subscription(%s)", name)
        self.paused.clear()
        for who in range(RUNNERS):
            self.crash(who=who)
        for _ in range(1000):
            before = log.sequence(self.conn)[0] + log.walk_to_the_end(self.conn)
            self.look_around()
            self.pump(n=3, crash=False)
            self.claim(who=0, n=100)
            while self.held:
                self.end(choice=0, how="succeeded")
            for task, key in self.conn.execute(
                "select task, key from jobrunner.jobs where state = 'dead' and holds_key"
            ):
                self.conn.execute(
                    "select jobrunner.op_resolve_key(%s, %s, 'retry')", [task, key.removeprefix(f"{task} ")]
                )
            if not before and not column(self.conn, "select id from jobrunner.jobs where state <> 'dead'"):
                break
        self.nothing_is_broken()
        self.the_log_is_what_was_committed_in_that_order()
        self.each_event_is_delivered_once_to_each_that_wants_it()
        self.the_stream_reads_each_event_once_in_order()
        left = "select id, task, state, blocked_on, key from jobrunner.jobs where state <> 'dead'"
        assert self.conn.execute(left).fetchall() == [], "something is stuck"
        assert column(self.conn, "select id from jobrunner.outbox") == []
        assert len(self.read) == len(self.committed), "the stream missed something"


def _nth(values: list[T], choice: int) -> T:
    return values[choice % len(values)]
