"""Subscriptions with real runners: who gets what, in which order, in which version, and what a person can do about it."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import psycopg
import pytest

from jobrunner import App, Backoff, Context, Event, Reject, Retry, Runner, Snooze
from jobrunner.errors import BadName, ConfigError, OutOfBounds
from jobrunner.policy.subscriptions import OnDead
from tests.conftest import Connection
from tests.support import eventually
from tests.worker.rig import one

FAST: dict[str, Any] = {"lease": "3s", "poll": "100ms", "grace": "2s"}

pytestmark = pytest.mark.pg16


class Placed(Event, name="order.placed", key="order", subject="order:{order}"):
    order: str
    n: int = 0


class Paid(Event, name="order.paid", key="order"):
    order: str
    n: int = 0


@pytest.fixture
def app() -> App:
    return App("shop")


def _open(conn: Connection) -> list[tuple[Any, ...]]:
    return conn.execute(
        "select task, state, blocked_on, attempt, failures, reason from jobrunner.jobs order by id"
    ).fetchall()


# ------------------------------------------------------------------------------------------------ who gets what


async def test_each_subscription_gets_what_it_asks_for_once_and_in_its_own_way(
    app: App, dsn: str, conn: Connection
) -> None:
    got: dict[str, list[Any]] = defaultdict(list)

    @app.on(Placed)
    def by_class(ctx: Context, event: Placed) -> None:
        got["class"].append(event)

    @app.on(Placed, Paid, queue="audit", priority=3, retry=Backoff(attempts=2))
    async def by_classes(ctx: Context, event: Placed | Paid) -> None:
        got["classes"].append(type(event).__name__)

    @app.on("order.*")
    async def by_pattern(ctx: Context, event: dict[str, Any]) -> None:
        got["pattern"].append((ctx.envelope.type, event["order"]))

    @app.on("#", match={"tenant": "a"})
    async def by_header(ctx: Context, event: Any) -> None:
        got["header"].append(ctx.envelope.headers["tenant"])

    @app.on("jobrunner.#")
    async def system(ctx: Context, event: Any) -> None:
        got["system"].append(ctx.envelope.type)

    @app.on("order.#", name="mixed")
    async def some_known(ctx: Context, event: Paid | dict[str, Any]) -> None:
        got["mixed"].append(type(event).__name__)

    async with Runner(app, dsn, **FAST) as runner:
        app.publish(conn, Placed(order="1"), headers={"tenant": "a"})
        app.publish(conn, Paid(order="1"), headers={"tenant": "b"})
        conn.execute("select jobrunner.publish('nobody.listens', '{}')")
        await runner.wait_idle(10)

    assert got == {
        "class": [Placed(order="1")],
        "classes": ["Placed", "Paid"],
        "pattern": [("order.placed", "1"), ("order.paid", "1")],
        "header": ["a"],
        "mixed": ["dict", "Paid"],
    }
    jobs = conn.execute(
        "select task, queue, priority, max_attempts from jobrunner.finished_jobs where task = 'shop.by_classes'"
    ).fetchall()
    assert jobs == [("shop.by_classes", "audit", 3, 2)] * 2
    assert one(conn, "select count(*) from jobrunner.events") == 3, "what nobody listens to is in the log"


async def test_answers_and_failures_mean_for_a_delivery_what_they_mean_for_a_job(
    app: App, dsn: str, conn: Connection
) -> None:
    @app.on(Placed, retry=Backoff(base="1h", jitter="none"))
    async def answers(ctx: Context, event: Placed) -> Retry | Snooze | Reject | None:
        match event.n:
            case 1:
                return Snooze("1h")
            case 2:
                return Reject("no")
            case 3:
                raise ValueError("broken")
        return None

    async with Runner(app, dsn, **FAST) as runner:
        app.publish_many(conn, [Placed(order="x", n=n) for n in range(4)])
        await runner.wait_idle(10)

    assert [row[1:] for row in _open(conn)] == [
        ("scheduled", None, 1, 0, None),
        ("dead", None, 1, 0, "no"),
        ("scheduled", None, 1, 1, None),
    ]


async def test_a_dead_delivery_publishes_an_event_and_one_of_such_an_event_does_not(
    app: App, dsn: str, conn: Connection
) -> None:
    alarms: list[dict[str, Any]] = []

    @app.on(Placed)
    async def dies(ctx: Context, event: Placed) -> Reject:
        return Reject("never")

    @app.on("jobrunner.job.dead")
    async def alarm(ctx: Context, event: dict[str, Any]) -> Reject:
        alarms.append(event)
        return Reject("the alarm is broken as well")

    async with Runner(app, dsn, **FAST) as runner:
        app.publish(conn, Placed(order="1"))
        await runner.wait_idle(10)

    (alarm_,) = alarms
    assert (alarm_["task"], alarm_["reason"]) == ("shop.dies", "never")
    assert one(conn, "select count(*) from jobrunner.events where type like 'jobrunner.%%'") == 1


async def test_concurrency_bounds_what_runs_at_a_time_in_one_runner(app: App, dsn: str, conn: Connection) -> None:
    running = most = others = 0
    may_end = asyncio.Event()

    @app.on(Placed, concurrency=2)
    async def few(ctx: Context, event: Placed) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await may_end.wait()
        running -= 1

    @app.on(Paid)
    async def many(ctx: Context, event: Paid) -> None:
        nonlocal others
        others += 1

    async with Runner(app, dsn, slots=8, **FAST) as runner:
        app.publish_many(conn, [Placed(order=str(n)) for n in range(20)])
        app.publish_many(conn, [Paid(order=str(n)) for n in range(50)])
        await eventually(lambda: running == 2 and others == 50, what="two of the one, all of the other")
        running_rows = "select count(*) from jobrunner.jobs where state = 'running'"
        await eventually(lambda: one(conn, running_rows) == 2, what="the end of the others in the database")
        may_end.set()
        await runner.wait_idle(10)

    assert most == 2
    assert one(conn, "select distinct queue from jobrunner.finished_jobs where task = 'shop.few'") == "shop.few"


# ------------------------------------------------------------------------------------------------ declared and stored


async def test_a_start_never_changes_what_is_there_and_says_how_it_differs(
    app: App, dsn: str, conn: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    @app.on("order.*", queue="mail")
    async def send(ctx: Context, event: Any) -> None: ...

    async with Runner(app, dsn, **FAST):
        pass
    before = one(conn, "select s from jobrunner.subscriptions s")
    newer = App("shop")

    @newer.on("order.#", queue="post", ordered=True, name="shop.send")
    async def send_too(ctx: Context, event: Any) -> None: ...

    caplog.set_level("WARNING")
    async with Runner(newer, dsn, **FAST):
        pass

    assert one(conn, "select s from jobrunner.subscriptions s") == before
    (warning,) = [record.getMessage() for record in caplog.records if "subscription" in record.getMessage()]
    assert "shop.send stays as it is" in warning
    assert "queue is mail, the code says post" in warning
    assert 'types is ["order.*"], the code says ["order.#"]' in warning
    assert "subs apply" in warning


async def test_where_a_new_subscription_starts(app: App, dsn: str, conn: Connection) -> None:
    got: dict[str, list[int]] = defaultdict(list)

    @app.task
    async def other(ctx: Context) -> None: ...

    async with Runner(app, dsn, **FAST) as runner:
        app.publish_many(conn, [Placed(order="x", n=n) for n in (1, 2)])
        await runner.wait_idle(10)
        middle = one(conn, "select clock_timestamp()")
        app.publish_many(conn, [Placed(order="x", n=n) for n in (3, 4)])
        await runner.wait_idle(10)

    starts: dict[str, Any] = {"now": "now", "all": "beginning", "time": middle, "position": 2, "later": 6}
    for name, start in starts.items():
        for ordered in (False, True):

            @app.on(Placed, name=f"{name}.{ordered}", start=start, ordered=ordered)
            async def note(ctx: Context, event: Placed) -> None:
                got[ctx.task].append(event.n)

    async with Runner(app, dsn, **FAST) as runner:
        await runner.wait_idle(10)
        app.publish_many(conn, [Placed(order="x", n=n) for n in (5, 6)])
        await runner.wait_idle(10)

    wanted = {"now": [5, 6], "all": [1, 2, 3, 4, 5, 6], "time": [3, 4, 5, 6], "position": [2, 3, 4, 5, 6], "later": [6]}
    assert {name: sorted(numbers) for name, numbers in got.items()} == {
        f"{name}.{ordered}": numbers for name, numbers in wanted.items() for ordered in (False, True)
    }
    assert all(got[f"{name}.True"] == numbers for name, numbers in wanted.items()), "ordered is in order"
    assert set(conn.execute("select state from jobrunner.subscriptions").fetchall()) == {("live",)}


def _declare(app: App, *what: Any, **options: Any) -> None:
    @app.on(*what, **options)
    async def handler(ctx: Context, event: Any) -> None: ...


@pytest.mark.parametrize(
    ("what", "options", "error", "told"),
    [
        ((), {}, ConfigError, "names no event"),
        (("order..x",), {}, BadName, "words of letters"),
        (("order.pa*",), {}, BadName, "words of letters"),
        ((Placed,), {"on_dead": "block_key"}, ConfigError, "only with ordered=True"),
        ((Placed,), {"on_dead": "explode"}, ConfigError, "needs on_dead"),
        ((Placed,), {"start": 0}, ConfigError, "needs start"),
        ((Placed,), {"start": "yesterday"}, ConfigError, "needs start"),
        ((Placed,), {"start": datetime(2026, 1, 1)}, ConfigError, "needs start"),  # noqa: DTZ001
        ((Placed,), {"concurrency": 0}, OutOfBounds, "concurrency"),
        ((Placed,), {"timeout": 0}, ConfigError, "longer than zero"),
        ((Placed,), {"queue": "a\nb"}, BadName, "control"),
        ((Placed,), {"on_lag": "panic"}, ConfigError, "needs on_lag"),
        ((Placed,), {"name": "shop.there"}, ConfigError, "registered already"),
    ],
)
def test_what_cannot_be_right_is_refused_where_it_is_declared(
    app: App, what: tuple[Any, ...], options: dict[str, Any], error: type[Exception], told: str
) -> None:
    _declare(app, Placed, name="shop.there")

    with pytest.raises(error, match=told):
        _declare(app, *what, **options)
    assert list(app.tasks) == ["shop.there"]


def test_a_handler_that_cannot_take_an_event_is_refused(app: App) -> None:
    with pytest.raises(ConfigError, match="must take the context and what it is subscribed to"):

        @app.on(Placed)  # type: ignore[arg-type]
        def one_argument(ctx: Context) -> None: ...

    with pytest.raises(ConfigError, match="must take"):

        @app.on(Placed)  # type: ignore[arg-type]
        def three(ctx: Context, event: Placed, more: int) -> None: ...

    with pytest.raises(ConfigError, match="cannot hand out a int"):

        @app.on("order.*")
        def number(ctx: Context, event: int) -> None: ...


def test_a_handler_that_says_dict_gets_payloads_as_they_were_published(app: App) -> None:
    @app.on(Placed)  # type: ignore[arg-type]
    def plain(ctx: Context, event: dict[str, Any]) -> None: ...

    assert plain.takes_any
    assert plain.classes == {}


def test_a_subscription_stays_the_plain_function(app: App) -> None:
    @app.on(Placed)
    def double(ctx: Context, event: Placed) -> int:
        return event.n * 2

    context: Any = None
    assert double(context, Placed(order="x", n=4)) == 8


# ------------------------------------------------------------------------------------------------ order


async def test_ordered_deliveries_of_a_key_come_one_at_a_time_in_the_order_of_the_log_retries_included(
    app: App, dsn: str, conn: Connection
) -> None:
    """Two runners, sixteen slots each, a handler that fails a fifth of the time and takes its time."""
    dice = random.Random(7)
    ran: dict[str, list[int]] = defaultdict(list)
    running: set[str] = set()
    overlaps = 0

    @app.on(Placed, ordered=True, retry=Backoff(attempts=100, base="1ms", cap="5ms"))
    async def post(ctx: Context, event: Placed) -> None:
        nonlocal overlaps
        overlaps += event.order in running
        running.add(event.order)
        try:
            await asyncio.sleep(dice.uniform(0, 0.003))
            if dice.random() < 0.2:
                raise RuntimeError("again")
            ran[event.order].append(event.n)
        finally:
            running.discard(event.order)

    events = [Placed(order=str(n % 40), n=n) for n in range(600)]
    async with Runner(app, dsn, slots=16, **FAST) as runner, Runner(app, dsn, slots=16, **FAST) as other:
        for first in range(0, 600, 30):
            app.publish_many(conn, events[first : first + 30])
            await asyncio.sleep(0)
        await runner.wait_idle(30)
        await other.wait_idle(30)

    assert overlaps == 0
    assert ran == {str(key): list(range(key, 600, 40)) for key in range(40)}


async def test_a_key_keeps_the_order_of_commits_when_the_first_took_longer_than_the_floor_waits(
    app: App, dsn: str, conn: Connection
) -> None:
    """After a second the floor passes an open transaction. B waited for its row lock and published after it had committed; a
    step that the floor began above A's event took B's first."""
    ran: dict[str, list[int]] = defaultdict(list)
    conn.execute("create table orders as select 'k' || n as id, 0 as n from generate_series(1, 8) n")

    @app.on(Placed, ordered=True)
    async def post(ctx: Context, event: Placed) -> None:
        ran[event.order].append(event.n)

    @app.task
    async def keyed(ctx: Context, order: str, n: int) -> None:
        ran[f"job {order}"].append(n)

    def write(order: str, n: int, may_commit: threading.Event, has_locked: threading.Event) -> None:
        with psycopg.connect(dsn) as own:
            own.execute("update orders set n = %s where id = %s", [n, order])
            app.publish(own, Placed(order=order, n=n))
            app.enqueue(own, keyed.job(order, n), key=order)
            has_locked.set()
            assert may_commit.wait(20)

    orders, freely = [f"k{n}" for n in range(1, 9)], threading.Event()
    freely.set()
    slow = {order: threading.Event() for order in orders}
    async with Runner(app, dsn, slots=20, lease="3s", grace="2s") as runner:
        threads = ThreadPoolExecutor(len(orders) * 2)
        writers = []
        for order in orders:
            locked = threading.Event()
            writers.append(threads.submit(write, order, 1, slow[order], locked))
            await asyncio.to_thread(locked.wait, 10)
            writers.append(threads.submit(write, order, 2, freely, threading.Event()))
        for n in range(24):  # the floor goes on over what others publish
            app.publish(conn, Placed(order="other"))
            await asyncio.sleep(0.15)
            if n >= 16:
                slow[orders[n - 16]].set()
        await asyncio.gather(*map(asyncio.wrap_future, writers))
        await runner.wait_idle(20)

    del ran["other"]
    assert ran == {name: [1, 2] for order in orders for name in (order, f"job {order}")}


async def test_a_delivery_that_somebody_made_by_hand_and_wrongly_stops_nobody(
    app: App, dsn: str, conn: Connection
) -> None:
    got: list[int] = []

    @app.on(Placed)
    async def note(ctx: Context, event: Placed) -> None:
        got.append(event.n)

    async with Runner(app, dsn, **FAST) as runner:
        for args in (
            '{"position": "abc", "recorded_at": "2026-11-25"}',
            '{"position": 1, "recorded_at": "never"}',
            "{}",
        ):
            conn.execute("select jobrunner.enqueue('shop.note', %s, queue => 'events')", [args])
        app.publish_many(conn, [Placed(order="x", n=n) for n in range(5)])
        await runner.wait_idle(10)

    assert sorted(got) == list(range(5))
    assert {row[1] for row in _open(conn)} == {"dead"}
    assert one(conn, "select count(*) from jobrunner.v_delivery_open") >= 0
    assert one(conn, "select jobrunner.free_log_v1(100)") is not None


async def test_a_dead_delivery_blocks_its_key_until_a_person_resolves_it(app: App, dsn: str, conn: Connection) -> None:
    ran: list[tuple[str, int]] = []
    well = False

    @app.on(Placed, ordered=True)
    async def post(ctx: Context, event: Placed) -> Reject | None:
        if event.n == 1 and not well:
            return Reject("ill")
        ran.append((event.order, event.n))
        return None

    async with Runner(app, dsn, **FAST) as runner:
        app.publish_many(conn, [Placed(order=key, n=n) for n in (0, 1, 2) for key in ("a", "b", "c")])
        await runner.wait_idle(10)
        assert sorted(ran) == [("a", 0), ("b", 0), ("c", 0)]
        assert {row[1:3] for row in _open(conn)} == {("dead", None), ("blocked", "key")}
        waiting = one(conn, "select min(id) from jobrunner.jobs where blocked_on = 'key'")
        assert "waits behind a dead delivery of its key" in one(conn, "select jobrunner.why(%s)", waiting)

        conn.execute("select jobrunner.op_resolve_key('shop.post', 'a', 'discard', 'ann')")
        await runner.wait_idle(10)
        assert ran[3:] == [("a", 2)]

        well = True
        conn.execute("select jobrunner.op_resolve_key('shop.post', 'b', 'retry', 'ann')")
        await runner.wait_idle(10)
        assert ran[4:] == [("b", 1), ("b", 2)]
        with pytest.raises(psycopg.Error, match="no dead delivery blocks key 'b'"):
            conn.execute("select jobrunner.op_resolve_key('shop.post', 'b', 'retry', 'ann')")
    assert len(_open(conn)) == 2


async def test_on_dead_skip_goes_on_and_pause_stops_the_subscription(app: App, dsn: str, conn: Connection) -> None:
    ran: dict[str, list[int]] = defaultdict(list)
    ill = True

    policies: dict[str, OnDead] = {"skips": "skip", "pauses": "pause"}
    for name, on_dead in policies.items():

        @app.on(Placed, name=name, ordered=True, on_dead=on_dead)
        async def handle(ctx: Context, event: Placed) -> Reject | None:
            if event.n == 1 and ill:
                return Reject("ill")
            ran[ctx.task].append(event.n)
            return None

    async with Runner(app, dsn, **FAST) as runner:
        app.publish_many(conn, [Placed(order="a", n=n) for n in (0, 1, 2)])
        await runner.wait_idle(10)
        await eventually(lambda: ran["skips"] == [0, 2], what="the one that skips")
        assert ran["pauses"] == [0]
        paused = one(conn, "select paused_by, pause_reason from jobrunner.subscriptions where name = 'pauses'")
        assert paused[0] == "on_dead"
        assert paused[1].startswith("job ")

        ill = False
        assert one(conn, "select jobrunner.op_resume_subscription('pauses', 'ann')") is True
        await eventually(lambda: ran["pauses"] == [0, 2], what="the resumed one")
    assert one(conn, "select count(*) from jobrunner.events where type = 'jobrunner.subscription.paused'") == 1


async def test_a_paused_subscription_waits_aside_while_others_of_its_queue_go_on(
    app: App, dsn: str, conn: Connection
) -> None:
    ran: dict[str, int] = defaultdict(int)

    for name in ("paused", "other"):

        @app.on(Placed, name=name)
        async def handle(ctx: Context, event: Placed) -> None:
            ran[ctx.task] += 1

    async with Runner(app, dsn, **FAST) as runner:
        conn.execute("select jobrunner.op_pause_subscription('paused', 'ann', 'a look')")
        app.publish_many(conn, [Placed(order=str(n)) for n in range(300)])
        await runner.wait_idle(10)
        assert ran == {"other": 300}
        waits = one(conn, "select min(id) from jobrunner.jobs")
        assert "paused" in one(conn, "select jobrunner.why(%s)", waits)
        conn.execute("select jobrunner.op_resume_subscription('paused', 'ann')")
        await runner.wait_idle(10)

    assert ran == {"other": 300, "paused": 300}


# ------------------------------------------------------------------------------------------------ versions


def _service(version: int, ran: list[tuple[int, Any]], **options: Any) -> App:
    """Version 1, 2 or 3 of one service, as its code would be."""
    app = App("shop")
    if version >= 2:

        @app.upcast("price.set", 1)
        def to_2(data: dict[str, Any]) -> dict[str, Any]:
            return {"item": data["item"], "cents": data["euros"] * 100}

    if version >= 3:

        @app.upcast("price.set", 2)
        def to_3(data: dict[str, Any]) -> dict[str, Any]:
            return {**data, "currency": "EUR"}

    class V1(Event, name="price.set", version=1, key="item"):
        item: str
        euros: int

    class V2(Event, name="price.set", version=2, key="item"):
        item: str
        cents: int

    class V3(Event, name="price.set", version=3, key="item"):
        item: str
        cents: int
        currency: str

    cls: Any = (V1, V2, V3)[version - 1]
    app.publishes(cls)

    @app.on(cls, **options)
    async def note(ctx: Context, event: Any) -> None:
        ran.append((version, event.model_dump()))

    return app


@pytest.mark.parametrize("ordered", [False, True])
async def test_two_versions_of_a_service_run_side_by_side(dsn: str, conn: Connection, ordered: bool) -> None:
    """A rolling deploy: the old code never sees a newer event; the new code sees old ones as if they were new."""
    old_ran: list[tuple[int, Any]] = []
    new_ran: list[tuple[int, Any]] = []
    old, new = _service(1, old_ran, ordered=ordered), _service(2, new_ran, ordered=ordered)
    first_class, second_class = old.published["price.set"], new.published["price.set"]

    async with Runner(old, dsn, **FAST) as first:
        old.publish(conn, first_class.model_validate({"item": "a", "euros": 1}))
        await first.wait_idle(10)
        assert old_ran == [(1, {"item": "a", "euros": 1})]

        new.publish(conn, second_class.model_validate({"item": "b", "cents": 250}))
        parked = "select state, blocked_on, attempt, failures from jobrunner.jobs"
        await eventually(
            lambda: conn.execute("select count(*) from jobrunner.jobs").fetchone() == (1,), what="its delivery"
        )
        await eventually(lambda: one(conn, parked)[2:] == (0, 0), what="no attempt")
        told = one(conn, "select jobrunner.why(id) from jobrunner.jobs")
        assert "version 2" in told or "arrived" in told

        async with Runner(new, dsn, **FAST) as second:
            await eventually(lambda: len(new_ran) == 1, what="the newer event")
            old.publish_many(conn, [first_class.model_validate({"item": f"i{n}", "euros": n}) for n in range(40)])
            new.publish_many(conn, [second_class.model_validate({"item": f"i{n}", "cents": n}) for n in range(40)])
            await second.wait_idle(20)

    assert all(set(event) == {"item", "euros"} for _, event in old_ran)
    assert all(set(event) == {"item", "cents"} for _, event in new_ran)
    assert len(old_ran) + len(new_ran) == 82
    assert sum(1 for _, event in new_ran if event["item"] == "b") == 1
    assert _open(conn) == []


async def test_a_chain_of_upcasters_leads_from_the_oldest_to_the_newest(dsn: str, conn: Connection) -> None:
    ran: list[tuple[int, Any]] = []
    app = _service(3, ran)

    async with Runner(app, dsn, **FAST) as runner:
        conn.execute("""select jobrunner.publish('price.set', '{"item": "a", "euros": 3}')""")
        await runner.wait_idle(10)

    assert ran == [(3, {"item": "a", "cents": 300, "currency": "EUR"})]


def test_a_version_without_a_way_up_is_found_at_import(app: App) -> None:
    class Moved(Event, name="moved", version=3):
        n: int

    app.upcast(Moved, 2)(lambda data: data)

    with pytest.raises(ConfigError, match=r"no way from version 1.*app\.upcast\('moved', 1\)"):
        _declare(app, Moved)
    app.upcast("moved", 1)(lambda data: data)
    _declare(app, Moved)
    with pytest.raises(ConfigError, match="declared already"):
        app.upcast("moved", 1)(lambda data: data)


async def test_a_payload_that_does_not_fit_is_dead_at_once_with_its_reason(
    app: App, dsn: str, conn: Connection
) -> None:
    @app.upcast("order.moved", 1)
    def broken(data: dict[str, Any]) -> dict[str, Any]:
        return {"n": data["m"]}

    class Moved(Event, name="order.moved", version=2):
        n: int

    @app.on(Moved)
    async def note(ctx: Context, event: Moved) -> None: ...

    async with Runner(app, dsn, **FAST) as runner:
        conn.execute("""select jobrunner.publish('order.moved', '{"n": "many"}', 2::smallint)""")
        conn.execute("""select jobrunner.publish('order.moved', '{}')""")
        await runner.wait_idle(10)

    dead = conn.execute("select state, attempt, reason, error from jobrunner.jobs order by id").fetchall()
    assert [row[:3] for row in dead] == [("dead", 1, "invalid_payload")] * 2
    assert "n: Input should be a valid integer" in dead[0][3]
    assert "the upcaster of order.moved from version 1 raised KeyError" in dead[1][3]


async def test_an_event_that_the_log_no_longer_has_makes_its_delivery_dead(
    app: App, dsn: str, conn: Connection
) -> None:
    @app.on(Placed)
    async def note(ctx: Context, event: Placed) -> Snooze:
        return Snooze("1h")

    async with Runner(app, dsn, **FAST) as runner:
        app.publish(conn, Placed(order="a"))
        await runner.wait_idle(10)
        conn.execute("delete from jobrunner.events")
        conn.execute("select jobrunner.op_retry_now(array(select id from jobrunner.jobs))")
        await runner.wait_idle(10)

    assert one(conn, "select state, reason from jobrunner.jobs") == (
        "dead",
        "expired: the log has no such event (any more)",
    )


# ------------------------------------------------------------------------------------------------ replay, system


async def test_a_replay_is_marked_and_runs_beside_what_is_new(app: App, dsn: str, conn: Connection) -> None:
    seen: list[tuple[int, bool]] = []

    @app.on(Placed)
    async def note(ctx: Context, event: Placed) -> None:
        seen.append((event.n, ctx.envelope.replay))

    @app.on(Placed, replay=False)
    async def mails(ctx: Context, event: Placed) -> None: ...

    async with Runner(app, dsn, **FAST) as runner:
        app.publish_many(conn, [Placed(order=str(n % 2), n=n) for n in range(6)])
        await runner.wait_idle(10)
        assert sorted(seen) == [(n, False) for n in range(6)]
        seen.clear()

        replay = one(conn, "select jobrunner.op_replay('shop.note', 0, _key => '1', _upto => 4, _actor => 'ann')")
        await runner.wait_idle(10)
        assert sorted(seen) == [(1, True), (3, True)]
        assert one(conn, "select state, delivered from jobrunner.replays where id = %s", replay) == ("done", 2)
        with pytest.raises(psycopg.Error, match="takes no replays"):
            conn.execute("select jobrunner.op_replay('shop.mails', 0)")


async def test_an_ordered_subscription_is_rewound_and_sees_everything_again_in_order(
    app: App, dsn: str, conn: Connection
) -> None:
    seen: list[tuple[int, bool]] = []

    @app.on(Placed, ordered=True)
    async def note(ctx: Context, event: Placed) -> None:
        seen.append((event.n, ctx.envelope.replay))

    async with Runner(app, dsn, **FAST) as runner:
        app.publish_many(conn, [Placed(order="a", n=n) for n in range(5)])
        await runner.wait_idle(10)
        with pytest.raises(psycopg.Error, match="can only be rewound"):
            conn.execute("select jobrunner.op_replay('shop.note', 0, _key => 'a')")
        seen.clear()
        conn.execute("select jobrunner.op_replay('shop.note', 2, _actor => 'ann')")
        app.publish(conn, Placed(order="a", n=5))
        await runner.wait_idle(10)

    assert seen == [(2, True), (3, True), (4, True), (5, False)]


async def test_a_lost_runner_is_an_event(app: App, dsn: str, conn: Connection) -> None:
    lost: list[Any] = []

    @app.on("jobrunner.runner.lost")
    async def alarm(ctx: Context, event: dict[str, Any]) -> None:
        lost.append(event)

    async with Runner(app, dsn, **FAST):
        conn.execute(
            """insert into jobrunner.runners (id, beat_at, app, host, pid)
               values (7, now() - interval '1 day', 'shop', 'there', 5)"""
        )
        await eventually(lambda: lost, what="the alarm")

    assert (lost[0]["runner"], lost[0]["app"], lost[0]["host"]) == ("7", "shop", "there")
