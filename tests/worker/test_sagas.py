"""A saga with a real runner: every step happens exactly once, what it did is undone in reverse, and a person can see and mend it.

(long because: one process from every side: order, time, death, a person's hand, and many at once)
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from pydantic import BaseModel

from jobrunner import App, Backoff, Context, Effects, Event, Job, Runner, Saga
from jobrunner.errors import ConfigError, UnknownTask
from jobrunner.worker.saga import DeclaredSaga
from tests.conftest import Connect, Connection
from tests.support import eventually
from tests.worker.rig import one

FAST: dict[str, Any] = {"lease": "3s", "poll": "100ms", "grace": "2s"}
DOCS = Path(__file__).resolve().parents[2] / "docs" / "sagas.md"

pytestmark = pytest.mark.pg16


class Placed(Event, name="order.placed", key="order"):
    order: str | None


class Noted(Event, name="order.noted", key="order"):
    order: str
    n: int


class Taken(Event, name="payment.taken", key="order"):
    order: str


class Refused(Event, name="payment.refused", key="order"):
    order: str


class Wanted(Event, name="payment.wanted", key="order"):
    order: str


class State(BaseModel):
    order: str
    notes: list[int] = []


class Shop:
    """An app with one saga that does a bit of everything; *ran* is what its tasks did, *broken* what they fail at."""

    def __init__(self) -> None:
        self.app = App("shop")
        self.ran: list[str] = []
        self.broken: set[str] = set()

        @self.app.task(retry=Backoff(attempts=1))
        def do(ctx: Context, what: str) -> None:
            if what in self.broken:
                raise ValueError(what)
            self.ran.append(what)

        self.do = do
        self.payment = self.app.saga("payment", state=State, retry=Backoff(attempts=3, base="1ms"))
        self.payment.starts(Placed)(self.begin)
        self.payment.on(Noted)(self.note)
        self.payment.on(Taken)(lambda saga, event: saga.complete())
        self.payment.on(Refused)(lambda saga, event: saga.compensate("refused"))
        self.payment.on_timeout(lambda saga: saga.compensate("timed out"))

    def begin(self, saga: Saga[State], event: Placed) -> None:
        saga.state.order = saga.key
        saga.enqueue(self.do.job(f"reserve {saga.key}"))
        saga.compensate_with(self.do.job(f"release {saga.key}"))
        saga.publish(Wanted(order=saga.key))
        saga.timeout("15m")

    def note(self, saga: Saga[State], event: Noted) -> None:
        saga.state.notes.append(event.n)
        saga.enqueue(self.do.job(f"note {event.n} {saga.key}"))
        saga.compensate_with(self.do.job(f"unnote {event.n} {saga.key}"))

    def runner(self, dsn: str, **options: Any) -> Runner:
        return Runner(self.app, dsn, **{**FAST, **options})

    async def play(self, dsn: str, conn: Connection, *events: Event) -> None:
        """Publish *events*, one commit each, and let a runner do all that follows."""
        async with self.runner(dsn) as runner:
            for event in events:
                self.app.publish(conn, event)
            await runner.wait_idle(15)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def tx(tx: Connection) -> Connection:
    """In a transaction from here on, so that what is dispatched is a savepoint in it."""
    tx.execute("select 1")
    return tx


def status(conn: Connection, key: str = "o1") -> str | None:
    found = conn.execute(
        "select status from jobrunner.sagas where name = 'shop.payment' and key = %s", [key]
    ).fetchone()
    return None if found is None else str(found[0])


def saga_row(conn: Connection, key: str = "o1") -> dict[str, Any]:
    found = conn.cursor(row_factory=dict_row).execute("select * from jobrunner.sagas where key = %s", [key]).fetchone()
    assert found is not None
    return found


def seen(conn: Connection, key: str = "o1") -> tuple[str, int | None]:
    """What a person sees: its status, and the dead job that it waits for."""
    status, dead_job = one(conn, "select status, dead_job_id from jobrunner.v_saga where key = %s", key)
    return status, dead_job


def timeouts(conn: Connection) -> list[int]:
    """The jobs of timeouts that are still to come, the earliest deadline first."""
    rows = conn.execute("select id from jobrunner.jobs where state = 'scheduled' and args ? 'timeout' order by run_at")
    return [row[0] for row in rows]


def fire(conn: Connection, *jobs: int) -> None:
    conn.execute("select jobrunner.op_retry_now(%s)", [list(jobs)])


def dead(conn: Connection) -> int:
    return int(one(conn, "select id from jobrunner.jobs where state = 'dead'"))


# ------------------------------------------------------------------------------------------------------------ steps


async def test_a_saga_runs_from_its_start_to_its_end(shop: Shop, dsn: str, conn: Connection) -> None:
    await shop.play(dsn, conn, Placed(order="o1"))

    row = saga_row(conn)
    assert (row["name"], row["status"], row["version"], row["state"]) == (
        "shop.payment",
        "running",
        1,
        {"order": "o1", "notes": []},
    )
    assert one(conn, "select timeout_at - created_at between '14m50s' and '15m10s' from jobrunner.sagas")
    assert shop.ran == ["reserve o1"]

    await shop.play(dsn, conn, Noted(order="o1", n=5), Taken(order="o1"), Noted(order="o1", n=6))

    row = saga_row(conn)
    assert (row["status"], row["version"], row["state"]["notes"], row["timeout_at"]) == ("completed", 3, [5], None)
    assert row["finished_at"] >= row["created_at"]
    assert shop.ran == ["reserve o1", "note 5 o1"]


async def test_what_a_step_does_hangs_on_the_event_that_it_handles(shop: Shop, dsn: str, conn: Connection) -> None:
    await shop.play(dsn, conn, Placed(order="o1"), Refused(order="o1"))

    begin = "select event_id, correlation_id from jobrunner.events where type = 'order.placed'"
    event_id, _ = one(conn, begin)
    assert saga_row(conn)["correlation_id"] == event_id
    links = "select correlation_id from jobrunner.v_job where task = 'shop.do' and cause_job_id is not null order by id"
    first, undo = (row[0] for row in conn.execute(links))
    assert (first, undo) == (event_id, event_id)
    assert (
        one(conn, "select cause_event, correlation_id from jobrunner.events where type = 'payment.wanted'")
        == (event_id,) * 2
    )
    assert one(conn, "select correlation_id from jobrunner.v_job where id = %s", *timeouts(conn)) == event_id


async def test_events_of_one_key_come_one_at_a_time_in_the_order_of_the_log(
    shop: Shop, dsn: str, conn: Connection
) -> None:
    order = [(key, n) for n in range(10) for key in ("a", "b", "c")]

    await shop.play(dsn, conn, *(Placed(order=key) for key in "abc"), *(Noted(order=key, n=n) for key, n in order))

    assert [saga_row(conn, key)["state"]["notes"] for key in "abc"] == [list(range(10))] * 3


async def test_a_second_start_is_a_step_where_its_event_has_a_handler_of_its_own_and_else_ignored(
    shop: Shop, dsn: str, conn: Connection
) -> None:
    await shop.play(dsn, conn, Placed(order="o1"), Placed(order="o1"), Taken(order="o1"), Placed(order="o1"))

    assert (status(conn), saga_row(conn)["version"], shop.ran) == ("completed", 2, ["reserve o1"])

    shop.payment.on(Placed)(lambda saga, event: saga.state.notes.append(99))
    await shop.play(dsn, conn, Placed(order="o2"), Placed(order="o2"), Placed(order="o1"))

    assert saga_row(conn, "o2")["state"]["notes"] == [99]
    assert (status(conn), shop.ran) == ("completed", ["reserve o1", "reserve o2"])


async def test_an_event_without_a_usable_key_is_dead_with_a_sentence_and_blocks_nobody(
    shop: Shop, dsn: str, conn: Connection
) -> None:
    longest = "k" * 494  # with what stands before it: all that the key of a job can have
    await shop.play(dsn, conn, Placed(order=None), Placed(order=longest + "k"), Placed(order=longest))

    assert status(conn, longest) == "running"
    died = conn.execute("select reason, error from jobrunner.jobs where state = 'dead' order by id").fetchall()
    assert [reason for reason, _ in died] == ["invalid_payload"] * 2
    assert "the event has no key, and that is what its saga is found by" in died[0][1]
    assert "the key of the event must have at most 494 bytes" in died[1][1]


async def test_a_step_that_fails_leaves_nothing_behind_and_is_tried_again(
    shop: Shop, dsn: str, conn: Connection
) -> None:
    tries: list[int] = []

    @shop.payment.on(Wanted)
    def fails(saga: Saga[State], event: Wanted) -> None:
        tries.append(1)
        saga.state.notes.append(1)
        saga.enqueue(shop.do.job("once"))
        saga.publish(Noted(order="elsewhere", n=0))
        saga.compensate_with(shop.do.job("undo"))
        saga.timeout("1h")
        if len(tries) < 3:
            raise ValueError

    await shop.play(dsn, conn, Placed(order="o1"))

    row = saga_row(conn)
    assert (len(tries), row["version"], row["state"]["notes"], len(row["compensation"])) == (3, 2, [1], 2)
    assert shop.ran.count("once") == 1
    assert one(conn, "select count(*) from jobrunner.events where type = 'order.noted'") == 1
    assert len(timeouts(conn)) == 2  # the first one is late by now


async def test_a_step_whose_claim_is_lost_does_nothing_twice(
    shop: Shop, dsn: str, conn: Connection, connect: Connect
) -> None:
    thief = connect()
    tries: list[int] = []
    begin = shop.begin

    def robbed(saga: Saga[State], event: Any) -> None:
        tries.append(1)
        if len(tries) in (1, 3):  # what a rescue does when the runner looks dead
            thief.execute(
                """update jobrunner.jobs set state = 'ready', runner_id = null, seq = jobrunner.stamp()
                   where state = 'running' and task = 'shop.payment'"""
            )
        if isinstance(event, Placed):
            begin(saga, event)
        else:
            saga.compensate("refused")

    shop.payment.handlers.starts["order.placed"] = shop.payment.handlers.on["payment.refused"] = robbed
    await shop.play(dsn, conn, Placed(order="o1"), Refused(order="o1"))

    assert (len(tries), status(conn), saga_row(conn)["version"]) == (4, "compensated", 2)
    assert shop.ran == ["reserve o1", "release o1"]
    assert one(conn, "select count(*) from jobrunner.events where type = 'payment.wanted'") == 1
    assert len(timeouts(conn)) == 1


async def test_a_step_that_dies_blocks_its_key_until_a_person_decides(shop: Shop, dsn: str, conn: Connection) -> None:
    shop.payment.handlers.on["order.noted"] = lambda saga, event: saga.enqueue(Job("shop.typo"))
    await shop.play(dsn, conn, Placed(order="o1"), Noted(order="o1", n=1), Taken(order="o1"), Placed(order="o2"))

    assert (status(conn), seen(conn)) == ("running", ("stuck", dead(conn)))
    assert status(conn, "o2") == "running"
    assert "unknown task 'shop.typo'" in one(conn, "select error from jobrunner.jobs where state = 'dead'")

    shop.payment.handlers.on["order.noted"] = shop.note
    async with shop.runner(dsn) as runner:
        conn.execute("select jobrunner.op_resolve_key('shop.payment', 'o1', 'retry')")
        await runner.wait_idle(10)

    assert (status(conn), saga_row(conn)["state"]["notes"]) == ("completed", [1])


async def test_an_event_for_which_no_saga_runs_goes_to_not_found(shop: Shop, dsn: str, conn: Connection) -> None:
    @shop.payment.not_found
    def stray(effects: Effects, event: Event) -> None:
        effects.enqueue(shop.do.job(f"refund {effects.key} {effects.status}"))

    shop.broken.add("release o1")
    await shop.play(dsn, conn, Taken(order="o0"), Placed(order="o1"), Refused(order="o1"), Taken(order="o1"))

    assert sorted(shop.ran) == ["refund o0 None", "refund o1 compensating", "reserve o1"]


# ---------------------------------------------------------------------------------------------------------- undoing


async def test_what_was_done_is_undone_in_reverse_one_after_another(shop: Shop, dsn: str, conn: Connection) -> None:
    await shop.play(dsn, conn, Placed(order="o1"), *(Noted(order="o1", n=n) for n in range(4)), Refused(order="o1"))

    row = saga_row(conn)
    assert (row["status"], row["reason"], row["timeout_at"]) == ("compensated", "refused", None)
    assert row["finished_at"] is not None
    undone = [each for each in shop.ran if each.startswith(("un", "release"))]
    assert undone == [*(f"unnote {n} o1" for n in (3, 2, 1, 0)), "release o1"]
    assert one(conn, "select count(*) from jobrunner.finished_jobs where key = 'saga shop.payment o1'") == 6


def test_with_nothing_to_undo_it_is_compensated_at_once(shop: Shop, tx: Connection) -> None:
    def begin(saga: Saga[State], event: Placed) -> None:
        saga.state.order = "x"
        saga.compensate("no stock")

    shop.payment.handlers.starts["order.placed"] = begin
    shop.app.dispatch(Placed(order="o1"), tx)

    assert (status(tx), saga_row(tx)["reason"]) == ("compensated", "no stock")
    assert one(tx, "select count(*) from jobrunner.jobs") == 0


def test_what_a_step_both_does_and_undoes_is_in_line_in_this_order(shop: Shop, tx: Connection) -> None:
    def begin(saga: Saga[State], event: Placed) -> None:
        saga.state.order = "x"
        saga.compensate("no stock")
        saga.enqueue(shop.do.job("reserve"), undo=shop.do.job("release"), priority=3)

    shop.payment.handlers.starts["order.placed"] = begin
    shop.app.dispatch(Placed(order="o1"), tx)

    line = "select task, args, version, headers ->> 'on_dead' from jobrunner.jobs where key = 'saga shop.payment o1' order by seq"
    assert tx.execute(line).fetchall() == [
        ("shop.do", {"what": "reserve"}, 1, None),
        ("shop.do", {"what": "release"}, 1, "block_key"),
        ("shop.payment", {"compensated": True}, 1, "block_key"),
    ]


async def test_what_undoes_a_command_never_overtakes_it(shop: Shop, dsn: str, conn: Connection) -> None:
    tries: list[int] = []

    @shop.app.task(retry=Backoff(attempts=5, base="50ms", jitter="none"))
    def slow(ctx: Context) -> None:
        tries.append(1)
        if len(tries) < 4:
            raise ValueError
        shop.ran.append("slow")

    def begin(saga: Saga[State], event: Placed) -> None:
        saga.state.order = "x"
        saga.enqueue(slow.job(), undo=shop.do.job("undo slow"))

    shop.payment.handlers.starts["order.placed"] = begin
    async with shop.runner(dsn):
        for event in (Placed(order="o1"), Refused(order="o1")):
            shop.app.publish(conn, event)
        await eventually(lambda: status(conn) == "compensated", what="the compensation")

    assert shop.ran == ["slow", "undo slow"]


@pytest.mark.parametrize("how", ["requeue", "discard"])
async def test_a_dead_compensation_holds_the_rest_until_a_person_decides(
    shop: Shop, dsn: str, conn: Connection, how: str
) -> None:
    shop.broken.add("unnote 1 o1")
    await shop.play(dsn, conn, Placed(order="o1"), *(Noted(order="o1", n=n) for n in range(3)), Refused(order="o1"))
    undone = ["unnote 2 o1"]
    assert (status(conn), shop.ran[-1:]) == ("compensating", undone)
    assert seen(conn) == ("needs_attention", dead(conn))

    shop.broken.clear()
    async with shop.runner(dsn):
        if how == "requeue":
            conn.execute("select jobrunner.op_requeue(array[%s::bigint])", [dead(conn)])
            undone = [*undone, "unnote 1 o1"]
        else:
            conn.execute("select jobrunner.op_discard(array[%s::bigint])", [dead(conn)])
        await eventually(lambda: status(conn) == "compensated", what="the end of the chain")

    assert [each for each in shop.ran if each.startswith(("un", "release"))] == [*undone, "unnote 0 o1", "release o1"]


# ------------------------------------------------------------------------------------------------------------- time


async def test_a_timeout_fires_survives_a_restart_and_later_steps(shop: Shop, dsn: str, conn: Connection) -> None:
    await shop.play(dsn, conn, Placed(order="o1"))
    await shop.play(dsn, conn, Noted(order="o1", n=1))
    (timeout,) = timeouts(conn)
    assert one(conn, "select key from jobrunner.jobs where id = %s", timeout) == "shop.payment o1"

    async with shop.runner(dsn) as runner:
        fire(conn, timeout)
        await runner.wait_idle(10)

    assert (status(conn), saga_row(conn)["reason"]) == ("compensated", "timed out")
    assert shop.ran == ["reserve o1", "note 1 o1", "unnote 1 o1", "release o1"]


async def test_a_timeout_that_was_moved_cleared_or_outlived_does_nothing(
    shop: Shop, dsn: str, conn: Connection
) -> None:
    moves = {1: "1h", 2: None, 3: "2h"}
    shop.payment.handlers.on["order.noted"] = lambda saga, event: saga.timeout(moves[event.n])
    await shop.play(dsn, conn, Placed(order="o1"), Noted(order="o1", n=1))
    first, second = timeouts(conn)

    async with shop.runner(dsn) as runner:
        fire(conn, first)
        await runner.wait_idle(10)
        assert (status(conn), timeouts(conn)) == ("running", [second])

        shop.app.publish(conn, Noted(order="o1", n=2))
        await runner.wait_idle(10)
        assert saga_row(conn)["timeout_at"] is None
        fire(conn, second)
        await runner.wait_idle(10)
        assert (status(conn), timeouts(conn)) == ("running", [])

        shop.app.publish(conn, Noted(order="o1", n=3))
        shop.app.publish(conn, Taken(order="o1"))
        await runner.wait_idle(10)
        fire(conn, *timeouts(conn))
        await runner.wait_idle(10)

    assert (status(conn), timeouts(conn), shop.ran) == ("completed", [], ["reserve o1"])


async def test_a_timeout_may_set_the_next_one(shop: Shop, dsn: str, conn: Connection) -> None:
    def late(saga: Saga[State]) -> None:
        saga.state.notes.append(1)
        if len(saga.state.notes) < 3:
            saga.timeout("1h")

    shop.payment.handlers.timeout = late
    await shop.play(dsn, conn, Placed(order="o1"))
    async with shop.runner(dsn) as runner:
        for _ in range(3):
            fire(conn, *timeouts(conn))
            await runner.wait_idle(10)

    row = saga_row(conn)
    assert (row["state"]["notes"], row["status"], row["timeout_at"], timeouts(conn)) == ([1, 1, 1], "running", None, [])


def test_a_runner_that_knows_older_events_may_run_a_timeout_too(shop: Shop, tx: Connection) -> None:
    tx.execute(
        "insert into jobrunner.tasks (name, version, queue, max_attempts) values ('shop.payment', 5, 'events', 3)"
    )
    shop.app.dispatch(Placed(order="o1"), tx)

    assert one(tx, "select version, queue, max_attempts from jobrunner.jobs where args ? 'timeout'") == (1, "events", 3)


def test_a_timeout_without_a_handler_fails_the_step_that_sets_it(shop: Shop, tx: Connection) -> None:
    shop.payment.handlers.timeout = None

    with pytest.raises(ConfigError, match="has a timeout and no handler for it"):
        shop.app.dispatch(Placed(order="o1"), tx)


# --------------------------------------------------------------------------------------------------------- a person


async def test_a_person_compensates_a_saga(shop: Shop, dsn: str, conn: Connection) -> None:
    await shop.play(dsn, conn, Placed(order="o1"), Noted(order="o1", n=1))

    assert one(conn, "select jobrunner.op_saga_compensate('shop.payment', 'o1', 'ann', 'closed')") == 2
    assert (status(conn), saga_row(conn)["reason"]) == ("compensating", "closed")
    async with shop.runner(dsn) as runner:
        await runner.wait_idle(10)
        fire(conn, *timeouts(conn))
        await runner.wait_idle(10)

    assert status(conn) == "compensated"
    assert shop.ran == ["reserve o1", "note 1 o1", "unnote 1 o1", "release o1"]
    audit = one(
        conn, "select actor, action, target, jobs, reason, detail from jobrunner.audit where action = 'compensate'"
    )
    assert audit == ("ann", "compensate", "saga shop.payment", 2, "closed", {"key": "o1"})


async def test_a_person_ends_a_saga_as_it_is(shop: Shop, dsn: str, conn: Connection) -> None:
    shop.broken.add("release o2")
    await shop.play(dsn, conn, Placed(order="o1"), Placed(order="o2"), Refused(order="o2"))
    complete = "select jobrunner.op_saga_complete('shop.payment', %s, 'ann', 'by hand')"

    assert one(conn, complete, "o1") == "completed"
    with pytest.raises(
        psycopg.Error, match=f"job {dead(conn)} still compensates saga shop.payment of key 'o2'"
    ) as refused:
        conn.execute(complete, ["o2"])
    assert refused.value.sqlstate == "JR004"
    conn.execute(
        "select jobrunner.op_cancel(array(select id from jobrunner.jobs where args ? 'compensated'))"
    )  # by mistake
    conn.execute("select jobrunner.op_discard(array[%s::bigint])", [dead(conn)])
    async with shop.runner(dsn) as runner:
        await eventually(
            lambda: not conn.execute("select from jobrunner.jobs where holds_key").fetchall(), what="a free key"
        )
        await runner.wait_idle(10)

    assert status(conn, "o2") == "compensating"
    assert one(conn, complete, "o2") == "compensated"
    assert (
        one(conn, "select count(*) from jobrunner.audit where action = 'complete' and target = 'saga shop.payment'")
        == 2
    )


def test_a_person_is_told_that_there_is_no_such_saga_or_that_it_is_over(shop: Shop, tx: Connection) -> None:
    for event in (Placed(order="o1"), Taken(order="o1")):
        shop.app.dispatch(event, tx)
    told = {"o1": ("JR004", "of key 'o1' is completed"), "o9": ("JR005", r"no saga shop\.payment of key 'o9'")}

    for what in ("op_saga_compensate", "op_saga_complete"):
        call = sql.SQL("select jobrunner.{}('shop.payment', %s)").format(sql.Identifier(what))
        for key, (state, said) in told.items():
            with pytest.raises(psycopg.Error, match=said) as refused, tx.transaction():
                tx.execute(call, [key])
            assert refused.value.sqlstate == state


# -------------------------------------------------------------------------------------------------- many, and at once


async def test_two_hundred_sagas_end_once_each_and_do_everything_once(shop: Shop, dsn: str, conn: Connection) -> None:
    keys = [f"o{n}" for n in range(200)]
    events: list[Event] = [Placed(order=key) for key in keys]
    events += [Noted(order=key, n=n) for n in range(2) for key in reversed(keys)]
    events += [(Taken if n % 2 else Refused)(order=key) for n, key in enumerate(keys)]
    events += [(Refused if n % 2 else Taken)(order=key) for n, key in enumerate(keys)]  # too late

    async with shop.runner(dsn, slots=4) as runner:
        for start in range(0, len(events), 50):
            shop.app.publish_many(conn, events[start : start + 50])
        await runner.wait_idle(60)

    assert one(conn, "select array_agg(distinct status order by status) from jobrunner.sagas") == [
        "compensated",
        "completed",
    ]
    assert one(conn, "select count(*) from jobrunner.sagas where version = 4 and finished_at is not null") == 200
    done = Counter(shop.ran)
    assert max(done.values()) == 1
    for n, key in enumerate(keys):
        undone = [] if n % 2 else [f"unnote 1 {key}", f"unnote 0 {key}", f"release {key}"]
        assert [each for each in shop.ran if each.endswith(f" {key}") and each.startswith(("un", "rel"))] == undone
        assert {f"reserve {key}", f"note 0 {key}", f"note 1 {key}"} <= done.keys()
    assert one(conn, "select count(*) from jobrunner.jobs where state <> 'scheduled'") == 0


def test_dispatch_steps_a_saga_in_the_transaction_of_the_caller(shop: Shop, conn: Connection, dsn: str) -> None:
    with psycopg.connect(dsn, row_factory=dict_row) as mine:
        with mine.transaction():
            shop.app.dispatch(Placed(order="o1"), mine)
            shop.app.dispatch(Noted(order="o1", n=1), mine)
            assert status(conn) is None
        with mine.transaction(force_rollback=True):
            shop.app.dispatch(Taken(order="o1"), mine)

    assert (status(conn), saga_row(conn)["state"]["notes"]) == ("running", [1])
    assert len(timeouts(conn)) == 1
    assert one(conn, "select count(*) from jobrunner.jobs where task = 'shop.do'") == 2
    with pytest.raises(ConfigError, match="needs a psycopg Connection"):
        shop.app.dispatch(Placed(order="o2"))


# -------------------------------------------------------------------------------------------------------- declaring


def test_a_saga_is_an_ordered_subscription_of_all_its_events(shop: Shop) -> None:
    declared = shop.app.subscriptions[0].declaration

    assert [each.name for each in shop.app.subscriptions] == ["shop.payment"]
    assert declared.types == ("order.noted", "order.placed", "payment.refused", "payment.taken")
    assert (declared.ordered, declared.on_dead, declared.replay) == (True, "block_key", False)


def test_a_saga_that_cannot_work_is_refused_where_it_is_declared(shop: Shop) -> None:
    def step(saga: Saga[State], event: Any) -> None: ...

    async def later(saga: Saga[State], event: Any) -> None: ...

    class OtherPlaced(Event, name="order.placed"): ...

    def fresh(name: str = "other") -> DeclaredSaga[State]:
        return shop.app.saga(name, state=State)

    with pytest.raises(ConfigError, match="nothing that starts it"):
        fresh().on(Placed)
    with pytest.raises(ConfigError, match="is not async"):
        fresh().starts(Placed)(later)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"task shop\.payment is registered already"):
        fresh("payment").starts(Placed)(step)
    with pytest.raises(ConfigError, match="has a handler already"):
        shop.payment.on(Noted)(step)
    with pytest.raises(ConfigError, match=r"two classes for event order\.placed"):
        shop.payment.starts(OtherPlaced)(step)


def test_what_undoes_must_be_a_task_that_exists(shop: Shop, tx: Connection) -> None:
    shop.payment.handlers.on["order.noted"] = lambda saga, event: saga.compensate_with(Job("shop.typo"))
    shop.app.dispatch(Placed(order="o1"), tx)

    with pytest.raises(UnknownTask):
        shop.app.dispatch(Noted(order="o1", n=1), tx)


# --------------------------------------------------------------------------------------------------------- the page


async def test_the_example_of_the_page_runs_as_printed(dsn: str, conn: Connection) -> None:
    found = re.search(r"<!-- this block runs as printed.*?-->\n```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found, "the page has lost its example"
    shop: dict[str, Any] = {"__name__": "shop"}
    exec(compile(found[1], str(DOCS), "exec"), shop)
    app: App = shop["app"]
    conn.execute("create table reserved (order_id text primary key)")

    async with Runner(app, dsn, **FAST) as runner:
        for key in ("taken", "refused", "late"):
            app.publish(conn, shop["OrderPlaced"](order_id=key, amount=5))
        await runner.wait_idle(10)
        assert one(conn, "select count(*) from reserved") == 3
        app.publish(conn, shop["PaymentTaken"](order_id="taken"))
        app.publish(conn, shop["PaymentRefused"](order_id="refused", why="no money"))
        await runner.wait_idle(10)
        for _ in range(2):
            fire(conn, *timeouts(conn))
            await runner.wait_idle(10)

    ended = conn.execute("select key, status, reason from jobrunner.sagas order by key").fetchall()
    assert ended == [
        ("late", "compensated", "timed out"),
        ("refused", "compensated", "no money"),
        ("taken", "completed", None),
    ]
    assert conn.execute("select order_id from reserved").fetchall() == [("taken",)]
    assert one(conn, "select count(*) from jobrunner.events where type = 'payment.requested'") == 4

    (for_psql,) = re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)
    conn.execute(for_psql)
    calls = re.findall(r"`(select jobrunner\.op_[^`]*)`", DOCS.read_text())
    assert len(calls) == 3
    for call in calls:
        if "op_retry_now" in call:
            conn.execute(call)
        else:
            with pytest.raises(psycopg.Error, match="'o1'"):  # which is not here
                conn.execute(call)
