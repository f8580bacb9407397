"""Each way in which a handler can end becomes one outcome; nothing that it does ends the runner. No database."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from jobrunner import App, Backoff, Cancel, Context, Reject, Retry, Snooze
from jobrunner.policy.lifecycle import (
    CancelRequested,
    Failed,
    FinishedInPlace,
    HandedBack,
    InvalidPayload,
    Outcome,
    Succeeded,
    TimedOut,
    TooNew,
)
from jobrunner.policy.models import Claimed
from jobrunner.telemetry import Telemetry
from jobrunner.worker.executor import Executor
from jobrunner.worker.slots import Slots
from tests.support import eventually
from tests.worker.rig import Events, NoLender, claimed, within


class Bench:
    """Two slots, an executor, and what was settled, in order."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.telemetry = Telemetry()
        self.events = Events(self.telemetry)
        self.settled: list[tuple[Claimed, Outcome]] = []
        self.threads = ThreadPoolExecutor(2)
        executor = Executor(app.tasks, self.threads, self.telemetry)
        self.slots = Slots(2, executor, NoLender(), lambda job, outcome: self.settled.append((job, outcome)))
        self.slots.start()

    async def run(self, *jobs: Claimed) -> list[Outcome]:
        """The outcomes of *jobs*, and of nothing else."""
        before = len(self.settled)
        self.slots.put(jobs, plain=False)
        await eventually(
            lambda: len(self.settled) - before >= len(jobs) and not self.slots.running, what="the outcomes"
        )
        return [outcome for _, outcome in self.settled[before:]]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench(App("shop"))
    yield made
    await within(5, made.slots.close())
    made.threads.shutdown(wait=True)


def both(bench: Bench, body: Callable[[Context], Any], **options: Any) -> None:
    """*body* as two tasks: shop.sync and shop.loop."""

    def sync(ctx: Context) -> Any:
        return body(ctx)

    async def loop(ctx: Context) -> Any:
        return body(ctx)

    bench.app.task(**options)(sync)
    bench.app.task(**options)(loop)


BOTH = pytest.mark.parametrize("name", ["shop.sync", "shop.loop"])


# ------------------------------------------------------------------------------------------------ answers


@BOTH
@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (None, Succeeded()),
        (0, Succeeded(0)),
        ({"a": [1, None]}, Succeeded({"a": [1, None]})),
        (Retry("5s", "later"), Retry("5s", "later")),
        (Snooze(3), Snooze(3)),
        (Cancel("no"), Cancel("no")),
        (Reject("never"), Reject("never")),
        (Retry, Succeeded()),  # the class instead of a value: its effects have happened, the result is not JSON
        (object(), Succeeded()),
        ("a\0b", Succeeded()),
        (float("nan"), Succeeded()),
        ("x" * 300_000, Succeeded()),
        ({1, 2}, Succeeded()),
    ],
    ids=lambda each: str(each)[:30],
)
async def test_what_a_handler_returns_is_its_outcome_and_what_cannot_be_kept_is_a_success(
    bench: Bench, name: str, value: Any, outcome: Outcome
) -> None:
    both(bench, lambda ctx: value)

    assert await bench.run(claimed(name)) == [outcome]


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


@BOTH
@pytest.mark.parametrize(
    "error",
    [
        ValueError("boom"),
        SystemExit(1),
        KeyboardInterrupt(),
        StopIteration(),
        StopAsyncIteration(),
        Mute(),
        asyncio.CancelledError("of its own"),
        TimeoutError("its own"),
        ExceptionGroup("two", [ValueError("a\0b"), ValueError("\ud800")]),
        BaseExceptionGroup("worse", [SystemExit(1)]),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_whatever_a_handler_raises_fails_its_job_and_leaves_the_slot_free(
    bench: Bench, name: str, error: BaseException
) -> None:
    def body(ctx: Context) -> None:
        raise error

    both(bench, body)
    bench.app.task(name="shop.fine", timeout="5s")(both_fine)

    outcomes = await bench.run(claimed(name, job_id=1), claimed(name, job_id=2), claimed(name, job_id=3))

    assert [type(outcome) for outcome in outcomes] == [Failed] * 3
    assert await bench.run(claimed("shop.fine"), claimed("shop.fine", job_id=9)) == [Succeeded(1)] * 2
    assert len(bench.events.named("job.failed")) == 3


def both_fine(ctx: Context) -> int:
    return 1


@BOTH
async def test_a_rule_of_the_backoff_names_the_answer_to_an_exception(bench: Bench, name: str) -> None:
    def body(ctx: Context) -> None:
        raise ConnectionResetError("peer")

    both(bench, body, retry=Backoff(on={OSError: Snooze("9s")}))

    (outcome,) = await bench.run(claimed(name))
    assert isinstance(outcome, Failed)
    assert outcome.rule == Snooze("9s")
    assert (outcome.error.type, outcome.error.message) == ("ConnectionResetError", "peer")


async def test_arguments_that_do_not_fit_the_code_are_an_invalid_payload(bench: Bench) -> None:
    @bench.app.task
    async def take(ctx: Context, n: int) -> None: ...

    outcomes = await bench.run(
        *(claimed("shop.take", args=args) for args in ['{"n": "x"}', "{}", '{"n": 1, "m": 2}', "[]"])
    )

    assert [type(outcome) for outcome in outcomes] == [InvalidPayload] * 4


def explode(value: int) -> int:
    raise RuntimeError("validator")


async def test_a_validator_that_raises_fails_the_job(bench: Bench) -> None:
    @bench.app.task
    async def take(ctx: Context, n: Annotated[int, AfterValidator(explode)]) -> None: ...

    (outcome,) = await bench.run(claimed("shop.take", args='{"n": 1}'))
    assert isinstance(outcome, Failed)


async def test_a_payload_of_a_newer_version_waits(bench: Bench) -> None:
    both(bench, lambda ctx: None, version=2)

    assert await bench.run(claimed("shop.loop", version=3)) == [TooNew(3, 2)]
    assert await bench.run(claimed("shop.loop", version=2)) == [Succeeded()]


async def test_defaults_are_the_codes_and_values_are_read_back_as_their_types(bench: Bench) -> None:
    seen: list[Any] = []

    @bench.app.task
    async def take(ctx: Context, wait: timedelta, tags: tuple[str, ...] = ("the code's",)) -> None:
        seen.append((wait, tags))

    await bench.run(
        claimed("shop.take", args='{"wait": "PT1M"}'), claimed("shop.take", job_id=8, args='{"wait": "PT1M"}')
    )

    assert seen == [(timedelta(minutes=1), ("the code's",))] * 2


# ------------------------------------------------------------------------------------------------ timeouts, interrupts


async def test_an_async_handler_past_its_timeout_is_cancelled_and_told(bench: Bench) -> None:
    seen: list[bool] = []

    @bench.app.task(timeout="20ms")
    async def slow(ctx: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(ctx.cancelled)

    assert await bench.run(claimed("shop.slow")) == [TimedOut(timedelta(milliseconds=20))]
    assert len(seen) == 1


async def test_a_timeout_of_the_handlers_own_is_a_failure_not_ours(bench: Bench) -> None:
    @bench.app.task(timeout="5s")
    async def impatient(ctx: Context) -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    (outcome,) = await bench.run(claimed("shop.impatient"))
    assert isinstance(outcome, Failed)
    assert outcome.error.type == "TimeoutError"


async def test_a_handler_that_answers_its_timeout_with_a_value_succeeds(bench: Bench) -> None:
    @bench.app.task(timeout="20ms")
    async def stubborn(ctx: Context) -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return 5
        return 0

    assert await bench.run(claimed("shop.stubborn")) == [Succeeded(5)]


async def test_a_sync_handler_past_its_timeout_is_told_settled_and_keeps_its_slot(bench: Bench) -> None:
    go, told = threading.Event(), threading.Event()

    @bench.app.task(timeout="20ms")
    def slow(ctx: Context) -> None:
        while not ctx.cancelled:
            go.wait(0.001)
        told.set()
        go.wait(10)
        raise ValueError("late")

    bench.slots.put([claimed("shop.slow")], plain=False)
    await eventually(lambda: bench.settled and told.is_set(), what="the timeout")

    assert [outcome for _, outcome in bench.settled] == [TimedOut(timedelta(milliseconds=20))]
    assert bench.slots.in_hand == 1
    assert not bench.slots.unsettled
    go.set()
    (late,) = await bench.events.wait_for("job.late_error")
    assert str(late["error"]) == "late"
    await eventually(lambda: bench.slots.in_hand == 0, what="the slot")


async def test_a_sync_handler_that_is_interrupted_is_told_and_keeps_its_slot(bench: Bench) -> None:
    go, told = threading.Event(), threading.Event()

    @bench.app.task
    def slow(ctx: Context) -> None:
        while not ctx.cancelled:
            go.wait(0.001)
        told.set()
        go.wait(10)

    bench.slots.put([claimed("shop.slow", job_id=5)], plain=False)
    await eventually(lambda: 5 in bench.slots.running, what="the run")
    assert bench.slots.interrupt(5, CancelRequested("by hand"))
    await eventually(lambda: bench.settled and told.is_set(), what="the interrupt")

    assert [outcome for _, outcome in bench.settled] == [CancelRequested("by hand")]
    assert bench.slots.in_hand == 1, "a thread that still runs is not room for another job"
    go.set()
    await eventually(lambda: bench.slots.in_hand == 0, what="the slot")


async def hold(ctx: Context) -> None:
    await asyncio.Event().wait()


async def answer(ctx: Context) -> int:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return 3
    return 0


async def fail_on_the_way_out(ctx: Context) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise RuntimeError("while clearing up")


async def in_place(ctx: Context) -> None:
    ctx.finished = True
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("handler", "outcome"),
    [
        (hold, HandedBack("shutdown")),
        (answer, Succeeded(3)),
        (fail_on_the_way_out, HandedBack("shutdown")),
        (in_place, FinishedInPlace()),
    ],
)
async def test_an_interrupted_handler_ends_as_its_interrupter_says_unless_it_has_an_answer(
    bench: Bench, handler: Callable[..., Any], outcome: Outcome
) -> None:
    bench.app.task(name="shop.t")(handler)
    bench.slots.put([claimed(job_id=5)], plain=False)
    await eventually(lambda: 5 in bench.slots.running, what="the run")
    await asyncio.sleep(0)

    assert bench.slots.interrupt(5, HandedBack("shutdown"))
    await eventually(lambda: not bench.slots.running, what="its end")

    assert [each for _, each in bench.settled] == [outcome]


async def test_a_handler_that_clears_up_is_not_disturbed_by_a_second_interrupt(bench: Bench) -> None:
    clearing, go, cleared = asyncio.Event(), asyncio.Event(), []

    @bench.app.task
    async def careful(ctx: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            clearing.set()
            await go.wait()
            cleared.append(1)

    bench.slots.put([claimed("shop.careful", job_id=5)], plain=False)
    await eventually(lambda: 5 in bench.slots.running, what="the run")
    bench.slots.interrupt(5, CancelRequested())
    await within(5, clearing.wait())
    bench.slots.interrupt(5, HandedBack("lease uncertain"))
    await asyncio.sleep(0)
    go.set()
    await eventually(lambda: not bench.slots.running, what="its end")

    assert cleared == [1]
    assert [outcome for _, outcome in bench.settled] == [CancelRequested()]


async def test_a_job_that_comes_back_while_its_lost_attempt_still_clears_up_costs_no_slot(bench: Bench) -> None:
    go = asyncio.Event()

    @bench.app.task
    async def slow(ctx: Context) -> int:
        if ctx.attempt > 1:
            return ctx.attempt
        try:
            await asyncio.Event().wait()
        finally:
            await go.wait()
        return 0

    bench.slots.put([claimed("shop.slow", job_id=5)], plain=False)
    await eventually(lambda: 5 in bench.slots.running, what="the run")
    bench.slots.interrupt(5, HandedBack("lost lease"))
    bench.slots.put([claimed("shop.slow", job_id=5, attempt=2)], plain=False)
    await eventually(lambda: len(bench.settled) == 1, what="the second attempt")
    go.set()
    await eventually(lambda: len(bench.settled) == 2, what="the first attempt")

    assert [(job.attempt, outcome) for job, outcome in bench.settled] == [
        (2, Succeeded(2)),
        (1, HandedBack("lost lease")),
    ]
    assert await bench.run(*(claimed("shop.slow", job_id=n, attempt=2) for n in range(4))) == [Succeeded(2)] * 4


async def test_slots_close_although_a_handler_is_deaf_to_cancellation(bench: Bench) -> None:
    free = asyncio.Event()

    @bench.app.task
    async def deaf(ctx: Context) -> None:
        while not free.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await free.wait()

    bench.slots.put([claimed("shop.deaf", job_id=5)], plain=False)
    await eventually(lambda: 5 in bench.slots.running, what="the run")
    bench.slots.interrupt(5, HandedBack("shutdown"))

    await within(5, bench.slots.close())
    free.set()
    await eventually(lambda: not bench.slots.running, what="its end")


# ------------------------------------------------------------------------------------------------ after the end


@BOTH
async def test_an_exception_after_the_job_was_finished_in_place_changes_nothing_and_is_told(
    bench: Bench, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    def body(ctx: Context) -> None:
        ctx.finished = True
        raise ValueError("afterthought")

    both(bench, body)

    with caplog.at_level(logging.ERROR, "jobrunner"):
        assert await bench.run(claimed(name)) == [FinishedInPlace()]

    assert [str(facts["error"]) for facts in bench.events.named("job.late_error")] == ["afterthought"]
    assert not bench.events.named("job.failed")
    assert ["job_id" in record.__dict__ for record in caplog.records] == [True]


@BOTH
async def test_an_answer_after_the_job_was_finished_in_place_changes_nothing(bench: Bench, name: str) -> None:
    def body(ctx: Context) -> Retry:
        ctx.finished = True
        return Retry()

    both(bench, body)

    assert await bench.run(claimed(name)) == [FinishedInPlace()]


# ------------------------------------------------------------------------------------------------ what a handler sees


@BOTH
async def test_each_run_has_context_variables_of_its_own(bench: Bench, name: str) -> None:
    mine: contextvars.ContextVar[int] = contextvars.ContextVar("mine", default=0)
    seen: list[tuple[int, int]] = []

    def body(ctx: Context) -> None:
        from jobrunner.worker.context import current

        run = current.get()
        assert run is ctx
        seen.append((ctx.job_id, mine.get()))

    both(bench, body)
    await bench.run(*(claimed(name, job_id=n) for n in range(6)))

    assert sorted(seen) == [(n, 0) for n in range(6)]


async def test_the_logger_of_a_job_names_it_and_keeps_what_the_caller_adds(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    @bench.app.task
    async def talk(ctx: Context) -> None:
        ctx.logger.info("hello", extra={"more": 1})

    with caplog.at_level(logging.INFO, "jobrunner.job"):
        await bench.run(claimed("shop.talk", job_id=42, attempt=3))

    (record,) = [each for each in caplog.records if each.message == "hello"]
    assert {name: record.__dict__[name] for name in ("job_id", "task", "attempt", "more")} == {
        "job_id": 42, "task": "shop.talk", "attempt": 3, "more": 1,
    }  # fmt: skip
