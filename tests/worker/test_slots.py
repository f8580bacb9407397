"""How much a runner takes in hand: room for any job, room for quick ones beside it, and what goes back unstarted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobrunner import App, Context
from jobrunner.policy.lifecycle import HandedBack, Outcome, Succeeded
from jobrunner.policy.models import Claimed
from jobrunner.telemetry import Telemetry
from jobrunner.worker.executor import Executor
from jobrunner.worker.slots import BATCH, Slots
from tests.support import eventually
from tests.worker.rig import NoLender, claimed, within


class Isolating(Executor):
    """As if there were processes: once-crashed jobs run alone (and here)."""

    def isolates(self, job: Claimed) -> bool:
        return job.crashes > 0


class Bench:
    def __init__(self) -> None:
        self.app, self.go = App("shop"), asyncio.Event()
        self.settled: list[tuple[int, Outcome]] = []
        self.order: list[int] = []
        self.app.task(name="shop.quick")(self.quick)
        self.app.task(name="shop.long")(self.long)
        executor = Isolating(self.app.tasks, ThreadPoolExecutor(1), Telemetry())
        self.slots = Slots(2, executor, NoLender(), self.settle)
        self.slots.start()

    def settle(self, job: Claimed, outcome: Outcome) -> None:
        self.settled.append((job.id, outcome))

    @staticmethod
    async def quick(ctx: Context) -> None: ...

    async def long(self, ctx: Context) -> None:
        self.order.append(ctx.job_id)
        await self.go.wait()

    async def make_quick(self) -> None:
        self.slots.put([claimed("shop.quick", job_id=n) for n in range(32)], plain=False)
        await eventually(lambda: len(self.settled) == 32 and self.slots.in_hand == 0, what="the samples")
        self.settled.clear()

    async def fill(self) -> None:
        self.slots.put([claimed("shop.long", job_id=n) for n in (1001, 1002)], plain=False)
        await eventually(lambda: len(self.slots.running) == 2, what="full slots")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await within(5, made.slots.close())


async def test_an_empty_runner_has_room_for_its_slots_and_prefetches_nothing(bench: Bench) -> None:
    assert (bench.slots.demand(), bench.slots.room_for_any(), bench.slots.prefetch()) == (2, 2, 0)


async def test_a_task_is_quick_after_enough_short_runs(bench: Bench) -> None:
    await bench.make_quick()

    assert bench.slots.quick_tasks == {"shop.quick"}
    assert 0 < bench.slots.prefetch() <= BATCH


async def test_full_slots_leave_room_for_quick_jobs_but_not_for_ever(bench: Bench) -> None:
    await bench.make_quick()
    await bench.fill()

    assert (bench.slots.demand(), bench.slots.room_for_any()) == (0, 0)
    ids, claims = iter(range(10_000)), 0
    while n := bench.slots.prefetch():
        claims += 1
        assert n <= BATCH and claims <= 2, "one that runs and one that is under way"
        bench.slots.put([claimed("shop.quick", job_id=next(ids)) for _ in range(n)], plain=True)
    assert claims


async def test_a_job_of_any_kind_starts_before_the_quick_ones_that_wait(bench: Bench) -> None:
    await bench.make_quick()
    bench.slots.put([claimed("shop.quick", job_id=n) for n in range(50)], plain=True)
    bench.slots.put([claimed("shop.long", job_id=n) for n in (71, 72)], plain=False)

    await eventually(lambda: len(bench.slots.running) == 2, what="full slots")

    assert bench.order == [71, 72]
    assert len(bench.slots.buffered()) + len(bench.settled) == 50


async def test_what_waits_too_long_is_handed_back_and_what_is_younger_is_kept(bench: Bench) -> None:
    await bench.make_quick()
    await bench.fill()
    bench.slots.put([claimed("shop.quick", job_id=n) for n in range(3)], plain=True)

    assert bench.slots.hand_back("not started", older_than=60) == 0
    assert bench.slots.hand_back("not started", older_than=-1) == 3

    assert bench.settled == [(n, HandedBack("not started")) for n in range(3)]
    assert bench.slots.in_hand == 2


async def test_what_was_dropped_is_neither_run_nor_settled(bench: Bench) -> None:
    await bench.make_quick()
    await bench.fill()
    bench.slots.put([claimed("shop.quick", job_id=n) for n in range(3)], plain=True)

    bench.slots.drop({1})
    bench.go.set()
    await eventually(lambda: bench.slots.in_hand == 0, what="the rest")

    assert sorted(job_id for job_id, _ in bench.settled) == [0, 2, 1001, 1002]
    assert {type(outcome) for _, outcome in bench.settled} == {Succeeded}


async def test_handlers_that_never_await_do_not_keep_the_loop(bench: Bench) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    @bench.app.task
    async def busy(ctx: Context) -> None:
        for _ in range(20_000):
            pass

    ticking = asyncio.create_task(tick())
    bench.slots.put([claimed("shop.busy", job_id=n) for n in range(200)], plain=True)
    await eventually(lambda: len(bench.settled) == 200, what="the runs")
    ticking.cancel()

    assert ticks >= 5


async def test_a_thread_past_its_timeout_keeps_its_slot_beside_a_later_attempt_of_its_job(bench: Bench) -> None:
    """Keyed by the job alone, the later attempt hid the thread, and its slot was offered to others."""
    held = threading.Event()
    bench.app.task(name="shop.deaf", timeout="20ms")(lambda ctx: held.wait(10) and None)
    try:
        bench.slots.put([claimed("shop.deaf", job_id=1, attempt=1)], plain=False)
        await eventually(lambda: len(bench.settled) == 1, what="the timeout")
        bench.slots.put([claimed("shop.long", job_id=1, attempt=2)], plain=False)
        await eventually(lambda: bench.order == [1], what="the later attempt")

        assert (bench.slots.demand(), bench.slots.room_for_any()) == (0, 0)
    finally:
        held.set()
        bench.go.set()
    await eventually(lambda: bench.slots.demand() == 2, what="both slots")


async def test_what_runs_alone_runs_in_its_order_one_at_a_time_and_takes_no_room_while_it_waits(bench: Bench) -> None:
    suspects = [claimed("shop.long", job_id=n, crashes=1) for n in range(3)]
    bench.slots.put([suspects[0], claimed("shop.long", job_id=9), *suspects[1:]], plain=False)
    await eventually(lambda: len(bench.slots.running) == 2, what="full slots")

    assert bench.order == [0, 9]
    assert (bench.slots.demand(), bench.slots.room_for_any(), bench.slots.in_hand) == (0, 0, 4)
    assert bench.slots.suspects_wait
    assert sorted(job.id for job in bench.slots.jobs()) == [0, 1, 2, 9]
    bench.go.set()
    await eventually(lambda: bench.slots.in_hand == 0, what="the rest")
    assert bench.order == [0, 9, 1, 2]


async def test_what_waits_too_long_to_run_alone_is_put_off_and_can_be_dropped(bench: Bench) -> None:
    bench.slots.put([claimed("shop.long", job_id=n, crashes=1) for n in range(4)], plain=False)
    await eventually(lambda: bench.order == [0], what="the first")

    bench.slots.drop({2})
    assert bench.slots.hand_back("not started", older_than=60) == 0
    assert bench.slots.hand_back("not started", older_than=-1) == 2

    ids, outcomes = zip(*bench.settled, strict=True)
    assert ids == (1, 3)
    for outcome in outcomes:
        assert isinstance(outcome, HandedBack) and outcome.delay is not None
        assert 1 <= outcome.delay.total_seconds() <= 3
    assert (bench.slots.demand(), bench.slots.in_hand) == (1, 1)
