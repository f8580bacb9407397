"""The in-process bus: subscribers one after another in the caller, on his connection, and the first error is his."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
import pytest

from jobrunner import App, Context, Event
from jobrunner.errors import ConfigError, InvalidArguments
from tests.conftest import Connection
from tests.worker.rig import one


class Opened(Event, name="account.opened", key="owner"):
    owner: str


@pytest.fixture
def app() -> App:
    return App("bank")


def test_subscribers_run_in_the_order_of_their_declaration(app: App) -> None:
    ran: list[Any] = []

    @app.on("account.*")
    def first(ctx: Context, event: dict[str, Any]) -> None:
        ran.append(("first", event, ctx.envelope.type, ctx.envelope.key, ctx.envelope.position))

    @app.on(Opened)
    async def second(ctx: Context, event: Opened) -> None:
        ran.append(("second", event))

    @app.stream(Opened)
    def third(ctx: Context, events: list[Opened]) -> None:
        ran.append(("third", events))

    @app.on("order.*")
    def other(ctx: Context, event: dict[str, Any]) -> None:
        raise AssertionError("not for it")

    @app.on(Opened, match={"tenant": "a"})
    def picky(ctx: Context, event: Opened) -> None:
        ran.append(("picky", dict(ctx.envelope.headers)))

    app.dispatch(Opened(owner="ann"))

    assert ran == [
        ("first", {"owner": "ann"}, "account.opened", "ann", 0),
        ("second", Opened(owner="ann")),
        ("third", [Opened(owner="ann")]),
    ]
    app.dispatch(Opened(owner="bob"), headers={"tenant": "a"})
    assert ran[-1] == ("picky", {"tenant": "a"})


def test_the_first_error_is_raised_and_ends_it(app: App) -> None:
    ran: list[str] = []

    @app.on(Opened)
    def good(ctx: Context, event: Opened) -> None:
        ran.append("good")

    @app.on(Opened)
    def bad(ctx: Context, event: Opened) -> None:
        raise ValueError("no")

    @app.on(Opened)
    def never(ctx: Context, event: Opened) -> None:
        ran.append("never")

    with pytest.raises(ValueError, match="no"):
        app.dispatch(Opened(owner="ann"))
    assert ran == ["good"]


def test_the_callers_connection_is_lent_as_a_savepoint(app: App, conn: Connection) -> None:
    conn.execute("create table accounts (owner text)")

    @app.on(Opened)
    def write(ctx: Context, event: Opened) -> None:
        with suppress(ZeroDivisionError), ctx.transaction(final=False) as tx:
            tx.execute("insert into accounts values ('never')")
            raise ZeroDivisionError
        with ctx.transaction() as tx:
            tx.execute("insert into accounts values (%s)", [event.owner])
        app.publish(conn, Opened(owner="from a handler"))

    with conn.transaction(force_rollback=True):
        app.dispatch(Opened(owner="ann"), conn)
        assert conn.execute("select owner from accounts").fetchall() == [("ann",)]
    assert conn.execute("select owner from accounts").fetchall() == []

    with conn.transaction():
        app.dispatch(Opened(owner="ann"), conn)
        conn.execute("select jobrunner.enqueue('bank.later')")
    assert conn.execute("select owner from accounts").fetchall() == [("ann",)]
    assert one(conn, "select count(*) from jobrunner.job_links") == 0, "the caller's own job has no cause"
    assert one(conn, "select cause_job_id from jobrunner.outbox") is None


async def test_async_handlers_get_an_async_connection(app: App, dsn: str, conn: Connection) -> None:
    conn.execute("create table accounts (owner text)")

    @app.on(Opened)
    async def write(ctx: Context, event: Opened) -> None:
        async with ctx.transaction() as tx:
            await tx.execute("insert into accounts values (%s)", [event.owner])

    async with await psycopg.AsyncConnection.connect(dsn) as own:
        await app.dispatch(Opened(owner="ann"), own)
        await own.rollback()
        await app.dispatch(Opened(owner="bob"), own)
    assert conn.execute("select owner from accounts").fetchall() == [("bob",)]


def test_without_a_transaction_of_his_own_the_caller_still_commits(app: App, dsn: str, conn: Connection) -> None:
    conn.execute("create table accounts (owner text)")

    @app.on(Opened)
    def write(ctx: Context, event: Opened) -> None:
        with ctx.transaction() as tx:
            tx.execute("insert into accounts values (%s)", [event.owner])

    with psycopg.connect(dsn) as own:
        app.dispatch(Opened(owner="ann"), own)
        own.rollback()
        app.dispatch(Opened(owner="bob"), own)
    assert conn.execute("select owner from accounts").fetchall() == [("bob",)]


async def test_inside_an_event_loop_an_async_handler_must_be_awaited(app: App) -> None:
    ran: list[str] = []

    @app.on(Opened)
    async def note(ctx: Context, event: Opened) -> None:
        ran.append(event.owner)

    with pytest.raises(ConfigError, match="dispatch_async"):
        app.dispatch(Opened(owner="ann"))
    await app.dispatch_async(Opened(owner="ann"))
    assert ran == ["ann"]


def test_a_handler_without_a_connection_is_told_so(app: App) -> None:
    @app.on(Opened)
    def write(ctx: Context, event: Opened) -> None:
        with ctx.transaction():
            pass

    with pytest.raises(ConfigError, match=r"app\.dispatch"):
        app.dispatch(Opened(owner="ann"))


class Newer(Event, name="account.opened"):
    owner: int


def test_the_payload_is_validated_as_it_would_be(app: App) -> None:
    @app.on("account.*")
    def typed(ctx: Context, event: Newer) -> None: ...

    with pytest.raises(InvalidArguments, match="owner: Input should be a valid integer"):
        app.dispatch(Opened(owner="ann"))
