"""Slots of a queue and of a task in one process: bounded, nobody starves, order and floors stay right."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from jobrunner import App, Context, Runner
from jobrunner.errors import BadName, OutOfBounds
from jobrunner.policy.floor import Floors, Mark
from jobrunner.store.jobs import Known
from jobrunner.worker.lanes import Lane, Lanes
from tests.conftest import Connection
from tests.support import eventually
from tests.worker.rig import NOW, claimed, one, state, within

FAST: dict[str, Any] = {"lease": "3s", "poll": "100ms", "grace": "2s"}


class Gauge:
    """How many run at a time, by name; they run until they may end."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.may_end = asyncio.Event()

    async def run(self, name: str) -> None:
        self.now[name] += 1
        self.most[name] = max(self.most[name], self.now[name])
        await self.may_end.wait()
        self.now[name] -= 1


@pytest.fixture
def app() -> App:
    return App("shop")


@pytest.fixture
def gauge() -> Gauge:
    return Gauge()


async def test_a_queue_and_a_task_have_no_more_than_their_slots(
    app: App, dsn: str, conn: Connection, gauge: Gauge
) -> None:
    @app.task(slots=3)
    async def render(ctx: Context) -> None:
        await gauge.run("render")

    @app.task(queue="mail")
    async def send(ctx: Context) -> None:
        await gauge.run("mail")

    @app.task
    async def other(ctx: Context) -> None:
        await gauge.run("other")

    app.enqueue_many(conn, [task.job() for _ in range(20) for task in (render, send, other)])
    app.enqueue_many(conn, [render.job().using(queue="mail")] * 5)
    async with Runner(app, dsn, slots=12, queue_slots={"mail": 2}, **FAST) as runner:
        await eventually(lambda: gauge.now.total() == 12, what="all twelve slots taken")
        running = "select count(*) from jobrunner.jobs where state = 'running' and queue = 'mail'"
        assert one(conn, running) <= 2, "jobs of render in the queue mail count for both"
        gauge.may_end.set()
        await runner.wait_idle(10)

    assert gauge.most["render"] == 3
    assert gauge.most["mail"] <= 2
    assert gauge.most["other"] >= 7
    assert one(conn, "select count(*) from jobrunner.finished_jobs") == 65


async def test_a_job_that_ends_makes_room_for_the_next_of_its_kind_at_once(
    app: App, dsn: str, conn: Connection
) -> None:
    @app.task(slots=1)
    async def t(ctx: Context, n: int) -> None: ...

    app.enqueue_many(conn, [t.job(n=n) for n in range(30)])
    async with Runner(app, dsn, slots=5, **{**FAST, "poll": "30s"}) as runner:
        await runner.wait_idle(10)  # at a poll for each it would take a quarter of an hour

    ran = conn.execute("select args ->> 'n' from jobrunner.finished_jobs order by started_at, finished_at").fetchall()
    assert [int(n) for (n,) in ran] == list(range(30))


async def test_a_lane_does_not_starve_behind_a_backlog_of_others(app: App, dsn: str, conn: Connection) -> None:
    ran: list[str] = []

    @app.task(queue="bulk")
    async def bulk(ctx: Context) -> None:
        ran.append("bulk")

    @app.task(queue="mail")
    async def send(ctx: Context) -> None:
        ran.append("mail")

    @app.task(slots=1)
    async def render(ctx: Context) -> None:
        ran.append("render")

    app.enqueue_many(conn, [bulk.job()] * 25 + [send.job()] * 3 + [render.job()] * 3)
    async with Runner(app, dsn, slots=1, queue_slots={"mail": 1}, **FAST) as runner:
        await runner.wait_idle(10)

    # One slot is free at a time. Fewer bulk jobs than make a task quick: nothing is claimed ahead here.
    assert ran[:16].count("mail") == 3, ran
    assert ran[:16].count("render") == 3, ran


async def test_floors_of_one_lane_do_not_hide_the_jobs_of_another(app: App, dsn: str, conn: Connection) -> None:
    """Claims of the others pass over what waits for a slot; it must not lie below the floor that they raise."""
    go = asyncio.Event()

    @app.task(slots=1)
    async def slow(ctx: Context) -> None:
        await go.wait()

    @app.task
    async def quick(ctx: Context) -> None: ...

    first = app.enqueue(conn, slow.job())
    async with Runner(app, dsn, slots=4, **FAST) as runner:
        runner._claimer._next_net = float("inf")  # without the net that looks from the beginning again
        await eventually(lambda: state(conn, first) == "running")
        second = app.enqueue(conn, slow.job())
        others = app.enqueue_many(conn, [quick.job()] * 50)
        await eventually(lambda: state(conn, others[-1] or 0) == "succeeded")
        seq = one(conn, "select seq from jobrunner.jobs where id = %s", second)
        await eventually(lambda: runner._claimer._floors.ready["default", 0] > seq, what="the floor to rise")
        go.set()
        await eventually(lambda: state(conn, second) == "succeeded", 3, "the second, behind the floor of the others")


async def test_a_pause_survives_restarts_of_every_runner(app: App, dsn: str, conn: Connection) -> None:
    @app.task(queue="mail")
    async def send(ctx: Context) -> None: ...

    conn.execute("select jobrunner.op_pause('mail', 'ann', 'the provider is down')")
    job_id = app.enqueue(conn, send.job())
    for _ in range(2):
        async with Runner(app, dsn, **FAST) as runner:
            await within(5, runner._claimer.resting.wait())
    assert state(conn, job_id) == "ready"

    conn.execute("select jobrunner.op_resume('mail', 'ann', 'it is back')")
    async with Runner(app, dsn, **FAST) as runner:
        await runner.wait_idle(5)

    assert state(conn, job_id) == "succeeded"


def test_lanes_take_turns_to_go_first_and_each_job_belongs_to_one() -> None:
    lanes = Lanes(Known(["a", "b", "c"], [1, 2, 1]), Floors(), {"mail": 2, "pdf": 1}, {"c": 3})
    firsts = [lanes.in_turn()[0] for _ in range(6)]

    assert len({id(lane) for lane in firsts}) == 6, "three of the free tasks, three of c"
    for queue in ("mail", "pdf", "default"):
        for task in ("a", "b", "c"):
            assert len([lane for lane in firsts if lane.takes(queue) and task in lane.known.tasks]) == 1, (queue, task)
    assert lanes.free.known == Known(["a", "b"], [1, 2])


def test_room_is_what_the_tightest_limit_leaves() -> None:
    both = Lanes(Known(["c"], [1]), Floors(), {"mail": 2}, {"c": 3})
    lane = next(lane for lane in both.in_turn() if lane.takes("mail"))

    assert lane.room([]) == 2
    assert lane.room([claimed("c", queue="default")] * 2) == 1
    assert lane.room([claimed("x", queue="mail")] * 2) == 0
    assert Lane(Known([], []), bool).room([]) == float("inf")


def test_tasks_that_share_slots_are_one_lane_and_one_with_its_own_is_bound_by_both() -> None:
    lanes = Lanes(Known(["a", "b", "c", "d"], [1, 1, 2, 1]), Floors(), {"mail": 9}, {"c": 3}, (["b", "c", "d"], 2))
    found = {(lane.takes("mail"), *lane.known.tasks): lane for lane in (lanes.in_turn()[0] for _ in range(6))}

    assert set(found) == {(mail, *tasks) for mail in (True, False) for tasks in (("a",), ("c",), ("b", "d"))}
    assert found[False, "b", "d"].room([claimed("c"), claimed("a")]) == 1
    assert found[False, "c"].room([]) == found[True, "c"].room([claimed("a")]) == 2
    assert found[True, "b", "d"].room([claimed("d"), claimed("b")]) == 0
    assert lanes.limits(claimed("d")) and not lanes.limits(claimed("a"))


def test_every_lane_is_lowered_and_begins_anew() -> None:
    floors = Floors()
    lanes = Lanes(Known(["a", "c"], [1, 1]), floors, {}, {"c": 1})
    lane = next(lane for lane in lanes.in_turn() if lane is not lanes.free)
    lanes.know(lane, [("default", 0)])
    lane.floors.claimed([("default", 0)], {}, False, Mark(50, NOW))
    assert lane.floors.ready == {("default", 0): 50}

    lanes.lower(Mark(20, NOW))
    assert lane.floors.ready == {("default", 0): 20}
    lanes.begin_anew()
    assert lane.floors.ready == {}


def test_limits_that_cannot_be_are_refused(app: App) -> None:
    with pytest.raises(OutOfBounds, match=r"the slots of shop\.t"):
        app.task(name="shop.t", slots=0)(lambda ctx: None)
    app.task(name="shop.t", slots=2)(lambda ctx: None)
    with pytest.raises(OutOfBounds, match="the slots of queue mail"):
        Runner(app, queue_slots={"mail": 0})
    with pytest.raises(BadName):
        Runner(app, queue_slots={"": 1})
