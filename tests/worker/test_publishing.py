"""App.publish and what belongs to it: in the caller's transaction, in both colours, with its causes; one entity's history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from jobrunner import App, Context, Event, Runner
from jobrunner.errors import BadName, ConfigError, InvalidArguments, InvalidJob, PayloadTooLarge
from tests.conftest import Connection
from tests.worker.rig import one

ORDER = UUID(int=42)


class OrderPaid(Event, name="order.paid", version=2, oldest=2, key="order_id", subject="order:{order_id}"):
    order_id: UUID
    amount: Decimal


class Noted(Event, name="noted"):
    text: str


@pytest.fixture
def app() -> App:
    return App("shop")


@pytest.fixture
async def aconn(dsn: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        yield conn


def _outbox(conn: Connection) -> list[dict[str, Any]]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("select * from jobrunner.outbox order by id").fetchall()


def test_an_event_is_written_as_its_class_says(conn: Connection, app: App) -> None:
    event_id = app.publish(conn, OrderPaid(order_id=ORDER, amount=Decimal("9.50")), headers={"tenant": "a"})

    (row,) = _outbox(conn)
    assert (row["event_id"], row["type"], row["version"], row["source"]) == (event_id, "order.paid", 2, "shop")
    assert (row["key"], row["subject"]) == (str(ORDER), f"order:{ORDER}")
    assert row["data"] == {"order_id": str(ORDER), "amount": "9.50"}
    assert row["headers"] == {"tenant": "a"}
    assert (row["correlation_id"], row["cause_job_id"], row["cause_event"]) == (None, None, None)


def test_a_rollback_takes_the_event_along(conn: Connection, app: App) -> None:
    with conn.transaction(force_rollback=True):
        app.publish(conn, Noted(text="never"))
        app.publish_many(conn, [Noted(text="nor this")])

    assert _outbox(conn) == []


def test_what_is_given_stands_above_what_the_class_says(conn: Connection, app: App) -> None:
    event_id = uuid4()

    app.publish(
        conn, OrderPaid(order_id=ORDER, amount=Decimal(1)), key="k", subject="s", source="till", event_id=event_id
    )

    (row,) = _outbox(conn)
    assert (row["key"], row["subject"], row["source"], row["event_id"]) == ("k", "s", "till", event_id)


async def test_an_async_connection_gives_an_awaitable(
    aconn: psycopg.AsyncConnection[Any], conn: Connection, app: App
) -> None:
    one_id = await app.publish(aconn, Noted(text="1"))
    more = await app.publish_many(aconn, (Noted(text=str(n)) for n in (2, 3)))

    assert [row["event_id"] for row in _outbox(conn)] == [one_id, *more]
    assert [row["data"]["text"] for row in _outbox(conn)] == ["1", "2", "3"]


def test_thousands_in_a_call_come_in_order_and_tell_how_far_they_are(conn: Connection, app: App) -> None:
    told: list[int] = []

    ids = app.publish_many(conn, (Noted(text=str(n)) for n in range(12_000)), progress=told.append)

    assert told == [5000, 10_000, 12_000]
    rows = conn.execute("select event_id, data ->> 'text' from jobrunner.outbox order by id").fetchall()
    assert rows == [(event_id, str(n)) for n, event_id in enumerate(ids)]


def test_what_travels_alone_travels_in_bulk_too(conn: Connection, app: App) -> None:
    event = OrderPaid(order_id=ORDER, amount=Decimal(3))
    app.publish(conn, event, headers={"h": [1, {"a": None}]}, subject="s:1")
    app.publish_many(conn, [event], headers={"h": [1, {"a": None}]}, subject="s:1")

    alone, bulk = (
        {k: v for k, v in row.items() if k not in ("id", "event_id", "xact", "occurred_at")} for row in _outbox(conn)
    )
    assert alone == bulk


@pytest.mark.parametrize(
    ("event", "options", "error"),
    [
        (Noted(text="x" * 300_000), {}, PayloadTooLarge),
        (Noted(text="\0"), {}, InvalidJob),
        (Noted(text="x"), {"key": ""}, BadName),
        (Noted(text="x"), {"subject": "a\nb"}, BadName),
        (Noted(text="x"), {"headers": {"h": float("nan")}}, InvalidArguments),
    ],
)
def test_what_cannot_be_stored_is_refused_before_any_sql(
    conn: Connection, app: App, event: Event, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        app.publish(conn, event, **options)
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert _outbox(conn) == []


def test_what_the_database_refuses_is_a_sentence(tx: Connection, app: App) -> None:
    with pytest.raises(psycopg.Error, match="at most 512 bytes"):
        app.publish(tx, Noted(text="x"), source="s" * 600)


def test_a_class_without_a_name_cannot_be_published(tx: Connection, app: App) -> None:
    class Nameless(Event):
        n: int

    with pytest.raises(ConfigError, match="has no name"):
        app.publish(tx, Nameless(n=1))


async def test_what_a_handler_publishes_is_caused_by_what_it_handles(dsn: str, conn: Connection, app: App) -> None:
    """Event → handler → event → handler → job → event: one correlation id, each with its cause."""
    seen: dict[str, Any] = {}

    class Shipped(Event, name="order.shipped"):
        n: int

    @app.task
    def after(ctx: Context, n: int) -> None:
        with ctx.transaction() as tx:
            tx.execute("""select jobrunner.publish('order.closed', '{"n": 1}')""")  # as a trigger would

    @app.on("order.closed")
    async def closed(ctx: Context, event: dict[str, Any]) -> None:
        seen["closed"] = ctx.envelope

    @app.on(Shipped)
    def shipped(ctx: Context, event: Shipped) -> None:
        seen["shipped"] = ctx.envelope
        with ctx.transaction() as tx:
            app.enqueue(tx, after.job(1))

    @app.on(OrderPaid)
    async def paid(ctx: Context, event: OrderPaid) -> None:
        seen["paid"] = ctx.envelope
        async with ctx.transaction() as tx:
            await app.publish(tx, Shipped(n=1))

    async with Runner(app, dsn) as runner:
        event_id = app.publish(
            conn, OrderPaid(order_id=ORDER, amount=Decimal(1)), headers={"traceparent": "00-ab-cd-01"}
        )
        await runner.wait_idle(10)

    paid_, shipped_, closed_ = seen["paid"], seen["shipped"], seen["closed"]
    assert {one.correlation_id for one in seen.values()} == {event_id}
    assert (paid_.causation_id, shipped_.causation_id, closed_.causation_id) == (
        None,
        str(event_id),
        f"job:{one(conn, 'select id from jobrunner.finished_jobs where task = %s', 'shop.after')}",
    )
    assert shipped_.headers == {"traceparent": "00-ab-cd-01"}
    tree = conn.execute("select kind, coalesce(type, task) from jobrunner.trace(%s)", [f"order:{ORDER}"]).fetchall()
    assert tree == [
        ("transaction", None),
        ("event", "order.paid"),
        ("delivery", "shop.paid"),
        ("event", "order.shipped"),
        ("delivery", "shop.shipped"),
        ("job", "shop.after"),
        ("event", "order.closed"),
        ("delivery", "shop.closed"),
    ]
    for ref in (
        f"event:{closed_.id}",
        f"event:{event_id}",
        f"job:{one(conn, 'select max(id) from jobrunner.finished_jobs')}",
    ):
        assert conn.execute("select kind, coalesce(type, task) from jobrunner.trace(%s)", [ref]).fetchall() == tree


async def test_an_event_becomes_a_cloudevent(dsn: str, conn: Connection, app: App) -> None:
    seen: list[dict[str, Any]] = []

    @app.on(OrderPaid)
    async def paid(ctx: Context, event: OrderPaid) -> None:
        seen.append(ctx.envelope.cloudevent())

    async with Runner(app, dsn) as runner:
        event_id = app.publish(conn, OrderPaid(order_id=ORDER, amount=Decimal(1)))
        await runner.wait_idle(10)

    (event,) = seen
    assert event.pop("time").endswith("Z")
    assert event == {
        "specversion": "1.0",
        "id": str(event_id),
        "source": "shop",
        "type": "order.paid",
        "subject": f"order:{ORDER}",
        "datacontenttype": "application/json",
        "dataschema": "urn:jobrunner:order.paid:2",
        "partitionkey": str(ORDER),
        "sequence": "0000000000000000001",
        "correlationid": str(event_id),
        "data": {"order_id": str(ORDER), "amount": "1"},
    }


async def test_an_entitys_history_is_read_in_order_and_rebuilt(
    dsn: str, conn: Connection, aconn: psycopg.AsyncConnection[Any], app: App
) -> None:
    @app.upcast("account.credited", 1)
    def cents(data: dict[str, Any]) -> dict[str, Any]:
        return {"account": data["account"], "amount": data["cents"] / 100}

    class Credited(Event, name="account.credited", version=2, key="account"):
        account: str
        amount: Decimal

    app.publishes(Credited)
    conn.execute("""select jobrunner.publish('account.credited', '{"account": "a", "cents": 250}', key => 'a')""")
    app.publish_many(conn, [Credited(account=name, amount=Decimal(n)) for n, name in enumerate("aba", 1)])
    conn.execute("""select jobrunner.publish('account.closed', '{}', key => 'a')""")
    conn.execute("select jobrunner.sequence_v1(100)")

    history = app.events(conn, key="a")
    assert [one.position for one in history] == [1, 2, 4, 5]
    credited = app.events(conn, key="a", types="*.credited")
    assert [app.parse(one) for one in credited] == [
        Credited(account="a", amount=Decimal("2.5")),
        Credited(account="a", amount=Decimal(1)),
        Credited(account="a", amount=Decimal(3)),
    ]
    assert [one.position for one in await app.events(aconn, key="a", after=2, limit=1)] == [4]
    with pytest.raises(ConfigError, match="no class"):
        app.parse(history[-1])
