"""What the type checkers must say of calls. Never run: each ignored line is an error that has to be there (both checkers
report an ignore that is not needed), every other line has to be right."""

from __future__ import annotations

from typing import Any, assert_type
from uuid import UUID

from psycopg import AsyncConnection, Connection

from jobrunner import App, Context, Envelope, Event, Job, Snooze, Subscription

app = App("shop")


@app.task
async def send(ctx: Context, to: str, *, copies: int = 1) -> Snooze | None: ...


@app.task(queue="mail", timeout="30s")
def count(ctx: Context, n: int) -> int:
    return n


def right(ctx: Context, conn: Connection[Any]) -> None:
    assert_type(send.job(to="a"), Job)
    assert_type(send.job("a", copies=2), Job)
    assert_type(count(ctx, 3), int)
    assert_type(app.enqueue(conn, count.job(n=1), delay="5m", key="k", priority=3), int)
    assert_type(app.enqueue_many(conn, [count.job(1)], progress=print), list[int | None])
    with ctx.transaction() as tx:
        assert_type(app.enqueue(tx, Job("other.task", {"a": [1, None]})), int)


async def right_too(ctx: Context, conn: AsyncConnection[Any]) -> None:
    assert_type(await app.enqueue(conn, count.job(n=1)), int)
    assert_type(await app.enqueue_many(conn, [count.job(n=1)]), list[int | None])
    assert_type(await send(ctx, "a"), Snooze | None)
    async with ctx.transaction(final=False) as tx:
        assert_type(await app.enqueue(tx, send.job("a")), int)


def wrong(ctx: Context, conn: Connection[Any], other: AsyncConnection[Any]) -> None:
    send.job()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    send.job(to=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    send.job(to="a", cc="b")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    send.job("a", 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    count.job("three")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    count(3)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    app.enqueue(conn, count.job(1), dealy="5m")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    app.enqueue(conn, count)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    app.enqueue(other, count.job(1)) + 1  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]


@app.task  # type: ignore[arg-type]  # pyright: ignore
def no_context(n: int) -> None: ...


@app.task(on_lease_uncertain="panic")  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportArgumentType]
def badly_declared(ctx: Context) -> None: ...


# ------------------------------------------------------------------------------------------------ events


class OrderPaid(Event, name="order.paid", key="order_id"):
    order_id: int


class OrderShipped(Event, name="order.shipped"):
    order_id: int


@app.on(OrderPaid, ordered=True, start="beginning")
def post(ctx: Context, event: OrderPaid) -> str:
    return str(event.order_id)


@app.on(OrderPaid, OrderShipped)
async def either(ctx: Context, event: OrderPaid | OrderShipped) -> None: ...


@app.on("order.*", "#", match={"tenant": "a"}, concurrency=2)
async def anything(ctx: Context, event: dict[str, Any]) -> None: ...


@app.stream(OrderPaid, batch=10)
def totals(ctx: Context, events: list[OrderPaid]) -> None: ...


def events_right(ctx: Context, conn: Connection[Any]) -> None:
    assert_type(post, Subscription[OrderPaid, str])
    assert_type(post(ctx, OrderPaid(order_id=1)), str)
    assert_type(app.publish(conn, OrderPaid(order_id=1), subject="s", headers={"a": 1}), UUID)
    assert_type(app.publish_many(conn, [OrderPaid(order_id=1), OrderShipped(order_id=1)]), list[UUID])
    assert_type(app.events(conn, key="1", after=5), list[Envelope])
    assert_type(app.inbox(conn, "m", consumer="c"), bool)
    app.dispatch(OrderPaid(order_id=1), conn)


async def events_right_too(conn: AsyncConnection[Any]) -> None:
    assert_type(await app.publish(conn, OrderPaid(order_id=1)), UUID)
    assert_type(await app.publish_many(conn, [OrderPaid(order_id=1)]), list[UUID])
    assert_type(await app.events(conn, key="1"), list[Envelope])
    assert_type(await app.inbox(conn, "m", consumer="c"), bool)
    await app.dispatch(OrderPaid(order_id=1), conn)
    await app.dispatch_async(OrderPaid(order_id=1))


def events_wrong(conn: Connection[Any]) -> None:
    app.publish(conn, "order.paid")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    app.publish(conn, OrderPaid(order_id=1), subjekt="s")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    app.inbox(conn, "m")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


@app.on(OrderPaid)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def wrong_event(ctx: Context, event: OrderShipped) -> None: ...


@app.on(OrderPaid, on_dead="explode")  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore
def wrong_policy(ctx: Context, event: OrderPaid) -> None: ...
