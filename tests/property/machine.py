"""The life of jobs as Hypothesis draws it: every step is a real statement, every check asks PostgreSQL.

The model knows little on purpose: which ids were committed, who claimed what, and what is over. What it does not know, it
cannot get wrong in the same way as the product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
import pytest
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.store import calls
from tests.store.calls import TASK, Claim, Connection, column, value

STRANGE = "shop.strange"
"""A task that no runner knows, until the drain."""

RUNNERS = 3

NEVER = """
select 'two jobs hold a key' from jobrunner.jobs where holds_key group by key having count(*) > 1
union all
select 'a key is waited for and nobody holds it' from jobrunner.jobs w
where w.blocked_on = 'key' and not exists (select from jobrunner.jobs h where h.key = w.key and h.holds_key)
union all
select 'a dead job holds its key' from jobrunner.jobs where state = 'dead' and holds_key
union all
select 'a unique key is held by no job that waits' from jobrunner.unique_keys u left join jobrunner.jobs j on j.id = u.job_id
where j.id is null or (u.until = 'start' and j.attempt > 0) or (j.state = 'dead' and u.until = 'finish')
union all
select 'runs that crashed are not counted' from jobrunner.jobs where crashes > attempt
"""
"""Selects nothing after any step."""

T = TypeVar("T")
pick = st.integers(0, 2**16)


class Life(RuleBasedStateMachine):
    """Enqueue, roll back, claim, end, crash, expire, rescue, requeue, cancel, promote, seat, park, sweep: in any order."""

    def __init__(self, conn: Connection) -> None:
        super().__init__()
        self.conn = conn
        conn.execute(
            """truncate jobrunner.jobs, jobrunner.finished_jobs, jobrunner.attempts, jobrunner.runners, jobrunner.runner_tasks,
               jobrunner.tasks, jobrunner.unique_keys, jobrunner.cancel_requests, jobrunner.job_links, jobrunner.audit"""
        )
        self.committed: set[int] = set()
        self.late: set[int] = set()  # delayed or moved: not in the order of their enqueue
        self.held: dict[
            tuple[int, int], tuple[int, Claim]
        ] = {}  # (id, attempt): runner and claim, as long as it is accepted
        self.stale: list[tuple[int, Claim]] = []  # claims that are no longer anybody's
        self.attempts: dict[int, int] = {}
        self.over: dict[int, tuple[Any, ...]] = {}
        self.next_runner = 1
        self.runners = [self._runner() for _ in range(RUNNERS)]
        self.gone: list[int] = []
        self.enqueue_many(keys=["a", "a", None, None])  # so that the first steps have something to do
        self.seat()

    def _runner(self) -> int:
        self.next_runner += 1
        return calls.register(self.conn, self.next_runner)

    # ------------------------------------------------------------------------------------------------ what is enqueued
    @rule(
        key=st.sampled_from([None, None, "a", "b"]),
        delay=st.sampled_from([None, None, "1 hour"]),
        unique=st.sampled_from([None, None, None, "x", "y"]),
        until=st.sampled_from(["start", "finish"]),
        task=st.sampled_from([TASK, TASK, TASK, STRANGE]),
        attempts=st.integers(1, 3),
    )
    def enqueue(
        self, key: str | None, delay: str | None, unique: str | None, until: str, task: str, attempts: int
    ) -> None:
        options = {"key": key, "delay": delay, "unique_key": unique, "unique_until": until, "max_attempts": attempts}
        job_id = calls.enqueue(self.conn, task, **options)
        assert unique is not None or job_id not in self.committed
        self.committed.add(job_id)
        if delay:
            self.late.add(job_id)

    @rule(keys=st.lists(st.sampled_from([None, "a", "b"]), min_size=1, max_size=5))
    def enqueue_many(self, keys: list[str | None]) -> None:
        ids = calls.enqueue_many(self.conn, [{"key": key} for key in keys])
        self.committed.update(job_id for job_id in ids if job_id is not None)

    @rule(key=st.sampled_from([None, "a"]), unique=st.sampled_from([None, "x"]))
    def roll_back(self, key: str | None, unique: str | None) -> None:
        with self.conn.transaction():
            calls.enqueue(self.conn, key=key, unique_key=unique)
            raise psycopg.Rollback

    # ------------------------------------------------------------------------------------------- what happens by itself
    @rule()
    def seat(self) -> None:
        calls.seat(self.conn)

    @rule()
    def promote(self) -> None:
        self.conn.execute("select jobrunner.promote_v1(1000, '-infinity', now() + interval '1 day')")

    @rule()
    def sweep(self) -> None:
        calls.sweep(self.conn)

    @rule()
    def repair(self) -> None:
        mended = value(self.conn, "select jobrunner.repair_keys_v1()")
        assert mended == 0, "a key had lost its holder"

    @rule()
    def park(self) -> None:
        self.conn.execute("select jobrunner.park_v1('default', 100)")
        assert not column(self.conn, "select id from jobrunner.jobs where state = 'ready' and task = %s", STRANGE)
        assert not column(self.conn, "select id from jobrunner.jobs where blocked_on = 'task' and task = %s", TASK)

    # --------------------------------------------------------------------------------------------------------- runners
    @rule(who=st.integers(0, RUNNERS - 1))
    def look_around_and_claim(self, who: int) -> None:
        self.promote()
        self.seat()
        self.claim(who=who, n=6)

    @rule(who=st.integers(0, RUNNERS - 1), n=st.integers(1, 6))
    def claim(self, who: int, n: int) -> None:
        runner = self.runners[who]
        waiting: dict[int, str] = dict(
            self.conn.execute("select id, key from jobrunner.jobs where attempt = 0 and key is not null").fetchall()
        )
        claims = calls.claim(self.conn, runner, n)
        assert len(claims) <= n
        for claimed in claims:
            assert claimed.task == TASK
            assert claimed.attempt == self.attempts.get(claimed.id, 0) + 1
            self.held[claimed.id, claimed.attempt] = runner, claimed
            if claimed.attempt == 1 and claimed.key and claimed.id not in self.late:
                earlier = [
                    job_id
                    for job_id, key in waiting.items()
                    if key == claimed.key and job_id < claimed.id and job_id not in self.late
                ]
                assert not earlier, f"{claimed.id} started before {earlier}"

    @precondition(lambda self: self.held)
    @rule(choice=pick, failed=st.booleans())
    def try_again(self, choice: int, failed: bool) -> None:
        runner, claimed = self._held(choice)
        failed = failed and claimed.failures + 1 < calls.job(self.conn, claimed.id)["max_attempts"]
        self._accepted(runner, claimed, "scheduled", failed=failed, delay=1, outcome="failed")

    @precondition(lambda self: self.held)
    @rule(choice=pick, state=st.sampled_from(["succeeded", "dead", "cancelled", "ready"]))
    def settle(self, choice: int, state: str) -> None:
        runner, claimed = self._held(choice)
        self._accepted(runner, claimed, state, outcome=None if state == "succeeded" else state)

    @precondition(lambda self: any(claimed.key is None for _, claimed in self.held.values()))
    @rule(choice=pick)
    def finish(self, choice: int) -> None:
        runner, claimed = self._held(choice)
        assume(claimed.key is None)
        assert calls.finish(self.conn, runner, [claimed]) == [claimed.id]
        assert calls.verdicts(self.conn, runner, [claimed]) == {claimed.id: "settled"}
        self._lost(claimed)

    @precondition(lambda self: self.held)
    @rule(choice=pick, commit=st.booleans(), depart=st.booleans())
    def finish_in_place(self, choice: int, commit: bool, depart: bool) -> None:
        runner, claimed = self._held(choice)
        with self.conn.transaction():
            self.conn.execute("set transaction isolation level repeatable read")
            assert calls.finish_in_place(self.conn, runner, claimed)
            if not commit:
                raise psycopg.Rollback
        if commit:
            assert calls.verdicts(self.conn, runner, [claimed]) == {claimed.id: "settled"}
            self._lost(claimed)
            if depart:
                assert calls.depart(self.conn, [claimed.id]) == 1

    def _accepted(self, runner: int, claimed: Claim, state: str, **more: object) -> None:
        assert calls.settle(self.conn, runner, [claimed], state, **more) == [claimed.id]
        assert calls.verdicts(self.conn, runner, [claimed]) == {claimed.id: "settled"}
        self._lost(claimed)

    def _held(self, choice: int) -> tuple[int, Claim]:
        return _nth(sorted(self.held.values(), key=lambda it: it[1].id), choice)

    def _lost(self, claimed: Claim) -> None:
        runner, _ = self.held.pop((claimed.id, claimed.attempt))
        self.stale.append((runner, claimed))

    @precondition(lambda self: self.stale)
    @rule(choice=pick, how=st.sampled_from([calls.finish, calls.finish_in_place, "succeeded", "scheduled", "dead"]))
    def a_late_end_changes_nothing(self, choice: int, how: str | Callable[..., Any]) -> None:
        """A zombie's, and the repeat of an end whose answer was lost."""
        runner, claimed = _nth(self.stale, choice)
        before = calls.job(self.conn, claimed.id)
        if isinstance(how, str):
            assert calls.settle(self.conn, runner, [claimed], how, outcome="failed", failed=how == "scheduled") == []
        elif how is calls.finish_in_place:
            assert not calls.finish_in_place(self.conn, runner, claimed)
        else:
            assert calls.finish(self.conn, runner, [claimed]) == []
        assert calls.job(self.conn, claimed.id) == before

    # ------------------------------------------------------------------------------------------------- crash and rescue
    @rule(who=st.integers(0, RUNNERS - 1))
    def fall_silent(self, who: int) -> None:
        calls.lose(self.conn, self.runners[who])
        self.gone.append(self.runners[who])
        self.runners[who] = self._runner()

    @rule(who=st.integers(0, RUNNERS - 1))
    def crash(self, who: int) -> None:
        self.fall_silent(who=who)
        self.mark_lost()
        self.give_back(n=10)

    @rule(who=st.integers(0, RUNNERS - 1))
    def stop(self, who: int) -> None:
        runner = self.runners[who]
        mine = [claimed for holder, claimed in self.held.values() if holder == runner]
        crashes = {claimed.id: calls.job(self.conn, claimed.id)["crashes"] for claimed in mine}
        assert value(self.conn, "select jobrunner.stop_v1(%s)", runner) == len(mine)
        for claimed in mine:
            self._lost(claimed)
            assert calls.job(self.conn, claimed.id).get("crashes") == crashes[claimed.id]
        self.runners[who] = self._runner()

    @rule(who=st.integers(0, RUNNERS - 1), mine=st.booleans())
    def adopt(self, who: int, mine: bool) -> None:
        """Goes on under a new id: with what it has in hand, or (mine: false) with a claim whose answer was lost."""
        old, new = self.runners[who], self._runner()
        claims = [claimed for holder, claimed in self.held.values() if holder == old] if mine else []
        ids, attempts = [c.id for c in claims], [c.attempt for c in claims]
        adopted = value(
            self.conn, "select jobrunner.adopt_v1(%s, %s, %s::bigint[], %s::int[])", old, new, ids, attempts
        )
        assert sorted(adopted) == sorted(ids)
        for claimed in claims:
            self.held[claimed.id, claimed.attempt] = new, claimed
        self.runners[who] = new
        self.gone.append(old)

    @rule()
    def mark_lost(self) -> None:
        calls.mark_lost(self.conn)

    @rule(n=st.integers(1, 10))
    def give_back(self, n: int) -> None:
        calls.give_back(self.conn, n)
        running = set(self.conn.execute("select id, attempt from jobrunner.jobs where state = 'running'").fetchall())
        for held in self.held.keys() - running:
            runner, claimed = self.held[held]
            assert runner in self.gone
            self._lost(claimed)

    @precondition(lambda self: self.gone)
    @rule(choice=pick)
    def a_lost_runner_claims_nothing(self, choice: int) -> None:
        runner = _nth(self.gone, choice)
        assume(value(self.conn, "select lost_at is not null from jobrunner.runners where id = %s", runner))
        with pytest.raises(psycopg.Error, match="was declared lost"):
            calls.claim(self.conn, runner)

    # ---------------------------------------------------------------------------------------------------------- people
    @precondition(lambda self: self.committed)
    @rule(choices=st.lists(pick, min_size=1, max_size=3))
    def cancel(self, choices: list[int]) -> None:
        ids = [_nth(sorted(self.committed), choice) for choice in choices]
        self.conn.execute("select jobrunner.op_cancel(%s)", [ids])

    @rule(spread=st.sampled_from(["0", "1 minute"]))
    def requeue(self, spread: str) -> None:
        dead = column(self.conn, "select id from jobrunner.jobs where state = 'dead'")
        assert value(self.conn, "select jobrunner.op_requeue(%s, %s)", dead, spread) == sorted(dead)
        self.late.update(dead)

    @rule()
    def discard(self) -> None:
        dead = column(self.conn, "select id from jobrunner.jobs where state = 'dead' limit 1")
        assert value(self.conn, "select jobrunner.op_discard(%s)", dead) == dead

    @precondition(lambda self: self.committed)
    @rule(choice=pick)
    def retry_now(self, choice: int) -> None:
        job_id = _nth(sorted(self.committed), choice)
        moved = value(self.conn, "select jobrunner.op_retry_now(array[%s::bigint])", job_id)
        self.late.update(moved)

    # ------------------------------------------------------------------------------------------------------- the promises
    @invariant()
    def nothing_is_broken(self) -> None:
        assert column(self.conn, NEVER) == []

    @invariant()
    def every_committed_job_is_in_one_place(self) -> None:
        here = column(self.conn, "select id from jobrunner.jobs union all select id from jobrunner.finished_jobs")
        assert sorted(here) == sorted(self.committed)

    @invariant()
    def exactly_the_accepted_claims_run(self) -> None:
        running = self.conn.execute(
            "select id, attempt, runner_id from jobrunner.jobs where state = 'running'"
        ).fetchall()
        assert set(running) == {(job_id, attempt, runner) for (job_id, attempt), (runner, _) in self.held.items()}

    @invariant()
    def attempts_never_fall_and_what_is_over_stays(self) -> None:
        for job_id, attempt in self.conn.execute(
            "select id, attempt from jobrunner.jobs union all select id, attempt from jobrunner.finished_jobs"
        ):
            assert attempt >= self.attempts.get(job_id, 0)
            self.attempts[job_id] = attempt
        over = {
            row[0]: row
            for row in self.conn.execute("select id, state, attempt, finished_at, reason from jobrunner.finished_jobs")
        }
        assert {job_id: over.get(job_id) for job_id in self.over} == self.over
        self.over = over

    def teardown(self) -> None:
        """Never stuck: whatever happened, a runner that knows every task brings all to an end."""
        if self.conn.closed:
            return
        everybody = [*self.runners, *self.gone]
        for runner in everybody:
            calls.lose(self.conn, runner)
        last = calls.register(self.conn, 10**9, [TASK, STRANGE])
        for _ in range(len(self.committed) * 4 + 10):
            calls.mark_lost(self.conn)
            calls.give_back(self.conn)
            self.conn.execute("select jobrunner.promote_v1(1000, '-infinity', now() + interval '1 day')")
            self.conn.execute("select jobrunner.unpark_v1(%s, %s, 1000)", [[TASK, STRANGE], [1, 1]])
            calls.sweep(self.conn)
            calls.seat(self.conn)
            claims = calls.claim(self.conn, last, tasks={TASK: 1, STRANGE: 1})
            calls.settle(self.conn, last, claims, "succeeded")
            if not column(self.conn, "select id from jobrunner.jobs where state <> 'dead'"):
                break
        left = self.conn.execute(
            "select id, state, blocked_on, key, holds_key from jobrunner.jobs where state <> 'dead'"
        ).fetchall()
        assert left == [], "something is stuck"
        self.conn.execute("select jobrunner.op_discard(array(select id from jobrunner.jobs))")
        assert sorted(column(self.conn, "select id from jobrunner.finished_jobs")) == sorted(self.committed)


def _nth(values: list[T], choice: int) -> T:
    return values[choice % len(values)]
