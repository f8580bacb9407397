"""Every settlement gets its answer, whatever happens to a statement: lost, refused, cut off, or someone else holds the row.

The link is a stand-in that keeps the books of the database (who holds which job) and fails as it is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import errors

from jobrunner.policy.lifecycle import Settlement, State
from jobrunner.telemetry import Telemetry
from jobrunner.worker import settler as module
from jobrunner.worker.gate import Gate
from jobrunner.worker.link import Broken, Lost
from jobrunner.worker.settler import Settler
from tests.support import eventually
from tests.worker.rig import Events, claimed, within

RUNNER = 1
Fault = Callable[[str, set[int]], BaseException | None]


class Books:
    """What settle, finish, verdict and depart do, without PostgreSQL; *faults* may end a call, before or after its commit."""

    def __init__(self) -> None:
        self.running: dict[int, int] = {}  # id → attempt, of this runner
        self.settled: dict[int, tuple[str, str | None]] = {}
        self.locked: set[int] = set()
        self.departed: set[int] = set()
        self.calls: list[tuple[str, set[int]]] = []
        self.before: Fault = lambda name, ids: None
        self.after: Fault = lambda name, ids: None

    async def run(self, call: Any, /, *args: Any) -> Any:
        name = call.__name__
        rows = args[-1] if name == "undeparted" else args[1]
        ids = {row["id"] for row in rows} if name == "settle" else set(rows)
        self.calls.append((name, ids))
        await asyncio.sleep(0)
        if (error := self.before(name, ids)) is not None:
            raise error
        answer = getattr(self, name)(*args)
        if (error := self.after(name, ids)) is not None:
            raise error
        return answer

    def finish(self, runner: int, ids: list[int], attempts: list[int], results: list[str | None] | None) -> set[int]:
        assert ids == sorted(ids), "the lock order"
        if self.locked & set(ids):
            raise errors.LockNotAvailable
        found = results or [None] * len(ids)
        return {i for i, a, r in zip(ids, attempts, found, strict=True) if self.end(i, a, "succeeded", r)}

    def settle(self, runner: int, rows: list[dict[str, Any]]) -> set[int]:
        ids = [row["id"] for row in rows]
        assert ids == sorted(ids), "the lock order"
        return {
            row["id"]
            for row in rows
            if row["id"] not in self.locked and self.end(row["id"], row["attempt"], row["state"], row["reason"])
        }

    def end(self, job_id: int, attempt: int, state: str, said: str | None) -> bool:
        if self.running.get(job_id) != attempt:
            return False
        del self.running[job_id]
        self.settled[job_id] = (state, said)
        return True

    def verdict(self, runner: int, ids: list[int], attempts: list[int]) -> dict[int, str]:
        return {
            i: "busy" if self.running.get(i) == a else "settled" if i in self.settled else "stale"
            for i, a in zip(ids, attempts, strict=True)
        }

    def depart(self, runner: int, ids: list[int]) -> int:
        went = set(ids) - self.locked - self.departed
        self.departed |= went
        return len(went)

    def undeparted(self, ids: list[int]) -> set[int]:
        return set(ids) - self.departed


class Bench:
    def __init__(self) -> None:
        self.books, self.telemetry, self.gate = Books(), Telemetry(), Gate()
        self.events = Events(self.telemetry)
        identity: Any = SimpleNamespace(runner_id=RUNNER, settling=asyncio.Lock())
        link: Any = self.books
        intake: Any = SimpleNamespace(wake=lambda: None, again=lambda: None)
        self.settler = Settler(link, identity, self.telemetry, intake, self.gate)
        self.task = asyncio.create_task(self.settler.run())

    def put(self, *ids: int, state: State = State.SUCCEEDED, key: str | None = None, **others: Any) -> None:
        for job_id in ids:
            self.books.running.setdefault(job_id, 1)
            job = claimed(job_id=job_id, key=key)
            self.settler.put(job, Settlement(job_id, 1, state, keyed=key is not None, **others))

    async def drained(self) -> None:
        await within(5, self.settler.drained())
        assert not self.settler.pending

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(module, "_BUSY_WAIT", 0.001)
    made = Bench()
    yield made
    await made.close()


def first_times(n: int, error: Callable[[], BaseException], name: str = "") -> Fault:
    """Fails the first *n* calls of *name*, or any."""
    left = [n]

    def fault(called: str, ids: set[int]) -> BaseException | None:
        if left[0] and name in ("", called):
            left[0] -= 1
            return error()
        return None

    return fault


async def test_successes_go_in_batches_in_the_order_of_their_ids(bench: Bench) -> None:
    many = 2 * module.BATCH + 50
    bench.put(*range(many, 0, -1))
    await bench.drained()

    assert [len(ids) for _, ids in bench.books.calls] == [module.BATCH, module.BATCH, 50]
    assert len(bench.books.settled) == bench.telemetry.counts["jobs.succeeded"] == many


async def test_a_single_settlement_does_not_wait_for_company(bench: Bench) -> None:
    bench.put(1)

    await eventually(lambda: 1 in bench.books.settled, deadline=2, what="the flush")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("state", [State.SUCCEEDED, State.DEAD])
async def test_a_connection_lost_under_way_costs_a_repetition_and_counts_nothing_twice(
    bench: Bench, when: str, state: State
) -> None:
    setattr(bench.books, when, first_times(3, lambda: Lost("cut off")))
    bench.put(*range(10), state=state)
    await bench.drained()

    assert set(bench.books.settled) == set(range(10))
    assert not bench.events.named("jobs.stale")


async def test_an_error_of_the_verdict_or_of_a_departure_does_not_end_the_settler(bench: Bench) -> None:
    bench.books.before = first_times(1, errors.QueryCanceled, "verdict")
    bench.put(1, 2)
    bench.books.running.pop(2)
    bench.settler.put(claimed(job_id=3), None)
    bench.books.after = first_times(1, errors.DeadlockDetected, "depart")
    await bench.drained()

    assert not bench.task.done()
    assert bench.events.named("jobs.stale") == [{"ids": [2]}]


@pytest.mark.parametrize("bad", [0, 13, 99])
@pytest.mark.parametrize("state", [State.SUCCEEDED, State.SCHEDULED])
async def test_one_row_that_cannot_be_stored_is_found_by_halving_and_stored_with_the_least(
    bench: Bench, bad: int, state: State
) -> None:
    def refuse(name: str, ids: set[int]) -> BaseException | None:
        spoiled = bad in ids and bad not in softened
        if spoiled and len(ids) == 1:
            softened.add(bad)
        return errors.UntranslatableCharacter("\\u0000") if spoiled else None

    softened: set[int] = set()
    bench.books.before = refuse
    delay = timedelta(seconds=5) if state is State.SCHEDULED else None
    bench.put(*range(100), state=state, delay=delay)
    await bench.drained()

    assert len(bench.books.settled) == 100
    assert bench.books.settled[bad] == (state, "unserialisable")
    assert all(said != "unserialisable" for job_id, (_, said) in bench.books.settled.items() if job_id != bad)
    assert len(bench.books.calls) <= 2 * 7 + 2


async def test_a_row_that_is_refused_whatever_is_written_holds_up_nobody_else(bench: Bench) -> None:
    """A trigger or constraint of the user's own: it is tried again, and the others pass it."""
    mended = False

    def refuse(name: str, ids: set[int]) -> BaseException | None:
        return errors.CheckViolation("theirs") if 5 in ids and not mended and name != "verdict" else None

    bench.books.before = refuse
    bench.put(*range(10))
    bench.put(*range(10, 20), state=State.DEAD)
    bench.settler.put(claimed(job_id=30), None)
    await eventually(
        lambda: len(bench.books.settled) == 19 and ("depart", {30}) in bench.books.calls, what="the others"
    )

    assert bench.books.running == {5: 1}
    mended = True
    await bench.drained()
    assert 5 in bench.books.settled


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.DEAD])
async def test_a_row_that_someone_holds_is_sent_again_until_he_lets_go(bench: Bench, state: State) -> None:
    bench.books.locked = {3}
    bench.put(*range(10), state=state)
    await eventually(lambda: len(bench.books.settled) == 9, what="the others")
    assert bench.books.running == {3: 1}
    assert {job.id for job in bench.settler.pending.jobs()} >= {3}

    bench.books.locked = set()
    await bench.drained()

    assert len(bench.books.settled) == 10
    assert not bench.events.named("jobs.stale")


async def test_a_row_that_someone_holds_makes_the_others_wait_for_it_once(bench: Bench) -> None:
    """finish waits 250 ms for a lock; with every flush that would be 20 times slower for all, for as long as he holds it."""
    bench.books.locked = {3}
    bench.put(*range(10), result={"a": 1})
    await eventually(lambda: len(bench.books.settled) == 9, what="the others")
    for n in range(20, 30):
        bench.put(n)
        await eventually(lambda: len(bench.books.settled) == n - 10, what="one more")  # noqa: B023

    assert sum(name == "finish" and 3 in ids for name, ids in bench.books.calls) == 1
    bench.books.locked = set()
    await bench.drained()
    assert bench.books.settled[3][0] == "succeeded"


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.DEAD])
async def test_a_settlement_of_a_claim_that_is_gone_is_reported_once_and_dropped(bench: Bench, state: State) -> None:
    bench.put(1, 2, 3, state=state)
    bench.books.running |= {2: 2}
    await bench.drained()

    assert bench.events.named("jobs.stale") == [{"ids": [2]}]
    assert bench.books.running == {2: 2}
    assert set(bench.books.settled) == {1, 3}


async def test_a_full_buffer_stops_claiming_until_it_is_flushed(bench: Bench) -> None:
    server_is_back = asyncio.Event()
    really = bench.books.run

    async def slow(call: Any, /, *args: Any) -> Any:
        await server_is_back.wait()
        return await really(call, *args)

    bench.books.run = slow  # type: ignore[method-assign]
    bench.put(*range(module.FULL))
    assert bench.gate.reasons == {"full"}

    server_is_back.set()
    await bench.drained()
    assert bench.gate.is_open


async def test_a_broken_set_up_ends_the_settler(bench: Bench) -> None:
    bench.books.before = lambda name, ids: Broken("permission denied")
    bench.put(1)

    with pytest.raises(Broken):
        await within(5, bench.task)


async def test_results_travel_with_their_jobs_and_nulls_with_the_others(bench: Bench) -> None:
    sent: list[Any] = []
    really = bench.books.finish

    def finish(runner: int, ids: list[int], attempts: list[int], results: list[str | None] | None) -> set[int]:
        sent.append(dict(zip(ids, results or [], strict=False)))
        return really(runner, ids, attempts, results)

    bench.books.finish = finish  # type: ignore[method-assign]
    bench.put(2, result={"ü": [1]})
    bench.put(1)
    await bench.drained()
    bench.put(3)
    await bench.drained()

    assert sent == [{1: None, 2: '{"ü": [1]}'}, {}]


FAULTS: list[Callable[[], BaseException]] = [
    lambda: Lost("cut off"),
    errors.QueryCanceled,
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    lambda: psycopg.errors.RaiseException("a trigger"),
]


ENDS = st.tuples(st.integers(0, 30), st.sampled_from([State.SUCCEEDED, State.DEAD, State.READY]), st.booleans())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(ENDS, unique_by=lambda end: end[0]),
    st.lists(st.tuples(st.booleans(), st.sampled_from(FAULTS)), max_size=12),
    st.sets(st.integers(0, 30)),
)
def test_whatever_fails_and_when_each_settlement_ends_settled_or_stale(
    rows: list[tuple[int, State, bool]], faults: list[tuple[bool, Callable[[], BaseException]]], gone: set[int]
) -> None:
    async def scenario() -> None:
        bench = Bench()
        script = iter(faults)

        def next_fault(name: str, ids: set[int]) -> BaseException | None:
            fires, error = next(script, (False, FAULTS[0]))
            return error() if fires else None

        bench.books.before = bench.books.after = next_fault
        for job_id, state, keyed in rows:
            bench.put(job_id, state=state, key="k" if keyed else None)
        for job_id in gone:
            bench.books.running.pop(job_id, None)
        await bench.drained()
        await bench.close()

        mine = {job_id for job_id, _, _ in rows}
        assert set(bench.books.settled) == mine - gone
        assert {each for facts in bench.events.named("jobs.stale") for each in facts["ids"]} == mine & gone

    previous, module._BUSY_WAIT = module._BUSY_WAIT, 0.0
    try:
        asyncio.run(scenario())
    finally:
        module._BUSY_WAIT = previous


async def test_a_settlement_that_cannot_be_stored_is_not_lost_when_its_row_is_held_just_then(bench: Bench) -> None:
    """The least that can be written was sent once and taken for written: the job stayed running for ever."""

    def refuse(name: str, ids: set[int]) -> BaseException | None:
        if name == "finish" and 5 in ids:
            bench.books.locked = {5}
            return errors.UntranslatableCharacter("its result")
        return None

    bench.books.before = refuse
    bench.put(5)
    await eventually(lambda: bench.books.locked == {5}, what="the refusal")
    assert bench.books.running == {5: 1}

    await eventually(lambda: bench.books.calls.count(("settle", {5})) >= 2, what="another try")
    assert bench.books.running == {5: 1}
    bench.books.locked, bench.books.before = set(), lambda name, ids: None
    await bench.drained()
    assert 5 in bench.books.settled


async def test_the_next_attempt_that_ends_while_the_last_one_is_answered_is_settled_too(bench: Bench) -> None:
    """A retry at once: its row was claimed again, run and put here before the first answer came. By its id alone it was taken for
    the settled one and dropped; the job then ran for ever on a runner that lived and had forgotten it."""

    def claimed_again(name: str, ids: set[int]) -> None:
        if name == "settle" and 7 not in bench.books.running:
            bench.books.after = lambda name, ids: None
            bench.books.running[7] = 2
            bench.settler.put(claimed(job_id=7, attempt=2, key="k"), Settlement(7, 2, State.SUCCEEDED, keyed=True))

    bench.books.after = claimed_again
    bench.put(7, state=State.SCHEDULED, key="k", delay=timedelta(milliseconds=1), failed=True)
    bench.put(8, 9, key="k")
    await bench.drained()

    assert bench.books.running == {}
    assert bench.books.settled[7] == ("succeeded", None)


async def test_two_attempts_of_a_job_are_never_settled_in_one_statement(bench: Bench) -> None:
    bench.books.locked = {7}
    bench.put(7, state=State.SCHEDULED, key="k", delay=timedelta(0), failed=True)
    bench.settler.put(claimed(job_id=7, attempt=2, key="k"), Settlement(7, 2, State.SUCCEEDED, keyed=True))
    await eventually(lambda: len(bench.books.calls) > 4, what="some tries")
    bench.books.locked.clear()
    await bench.drained()

    assert bench.books.settled[7] == ("scheduled", None)


async def test_a_job_that_ended_in_place_and_is_held_is_moved_as_soon_as_it_is_let_go(bench: Bench) -> None:
    """A seat step may hold it for microseconds; the sweep comes every 5 s, and the next of its key waits for it."""
    bench.books.locked = {2}
    for job_id in (1, 2, 3):
        bench.settler.put(claimed(job_id=job_id, key=f"k{job_id}"), None)
    await eventually(lambda: len(bench.books.calls) > 4, what="some tries")
    assert bench.books.departed == {1, 3}
    assert bench.telemetry.counts["jobs.succeeded"] == 2

    bench.books.locked.clear()
    await bench.drained()
    assert bench.books.departed == {1, 2, 3}
    assert bench.telemetry.counts["jobs.succeeded"] == 3


async def test_one_that_is_held_for_long_is_left_to_the_sweep(bench: Bench) -> None:
    bench.books.locked = {2}
    bench.settler.put(claimed(job_id=2, key="k"), None)
    await bench.drained()

    assert sum(name == "depart" for name, _ in bench.books.calls) == module._DEPARTURES + 1
