"""What the type checkers must say of calls. Never run: each ignored line is an error that has to be there (both checkers
report an ignore that is not needed), every other line has to be right."""

from __future__ import annotations

from typing import Any, assert_type

from psycopg import AsyncConnection, Connection

from jobrunner import App, Context, Job, Snooze

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
