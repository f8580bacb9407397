"""`app.inbox` says once for each consumer and message that it is new, and remembers it exactly when the caller commits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from jobrunner import App
from jobrunner.errors import BadDuration, BadName, OutOfBounds
from tests.conftest import Connect, Connection

pytestmark = pytest.mark.pg16

app = App("shop")


def expire(conn: Connection) -> None:
    conn.execute("update jobrunner.inbox set received_at = '2020-01-01', expires_at = now()")


def test_the_first_time_is_new_and_the_second_is_not_for_each_consumer_apart(tx: Connection) -> None:
    assert app.inbox(tx, "m1", consumer="shop.mail") is True
    assert app.inbox(tx, "m1", consumer="shop.mail") is False
    assert app.inbox(tx, "m2", consumer="shop.mail") is True
    assert app.inbox(tx, "m1", consumer="shop.stock") is True
    assert app.inbox(tx, "m1", consumer="shop.mail") is False


def test_what_is_rolled_back_was_never_taken(tx: Connection) -> None:
    with tx.transaction(force_rollback=True):
        assert app.inbox(tx, "m1", consumer="shop.mail")

    assert app.inbox(tx, "m1", consumer="shop.mail")


def test_whoever_comes_at_the_same_time_waits_and_hears_how_it_ended(
    connect: Connect, background: Callable[..., Future[Any]], blocked: Callable[..., None]
) -> None:
    first, other = connect(autocommit=False), connect()
    assert app.inbox(other, "expired", consumer="shop.mail")
    expire(other)

    for message_id, end, is_new in (
        ("new", first.commit, False),
        ("given up", first.rollback, True),
        ("expired", first.commit, False),
    ):
        assert app.inbox(first, message_id, consumer="shop.mail")
        waiting = background(app.inbox, other, message_id, consumer="shop.mail")
        blocked(other)
        end()
        assert waiting.result(10) is is_new, message_id


def test_above_read_committed_a_message_that_was_taken_meanwhile_is_a_conflict(connect: Connect) -> None:
    mine, other = connect(autocommit=False), connect()
    mine.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    mine.execute("select 1")
    assert app.inbox(other, "m1", consumer="shop.mail")

    with pytest.raises(psycopg.errors.SerializationFailure):
        app.inbox(mine, "m1", consumer="shop.mail")


def test_a_message_counts_as_new_when_it_has_expired(tx: Connection) -> None:
    assert app.inbox(tx, "m1", consumer="shop.mail")
    expire(tx)

    assert app.inbox(tx, "m1", consumer="shop.mail", expires="1h")
    assert not app.inbox(tx, "m1", consumer="shop.mail")
    left = "select expires_at - now() = '1 h' and received_at > now() - interval '1 min' from jobrunner.inbox"
    assert tx.execute(left).fetchall() == [(True,)]


@pytest.mark.parametrize(
    ("expires", "kept"), [(None, "7 days"), ("90m", "1:30"), (30, "30 s"), (timedelta(days=400), "400 days")]
)
def test_it_is_kept_for_as_long_as_you_say(tx: Connection, expires: Any, kept: str) -> None:
    app.inbox(tx, "m1", consumer="shop.mail", **({} if expires is None else {"expires": expires}))

    assert tx.execute("select expires_at = now() + %s::interval from jobrunner.inbox", [kept]).fetchone() == (True,)


async def test_it_is_an_awaitable_on_an_async_connection(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, row_factory=dict_row) as conn:
        assert await app.inbox(conn, "m1", consumer="shop.mail") is True
        assert await app.inbox(conn, "m1", consumer="shop.mail") is False


@pytest.mark.parametrize(
    ("message_id", "options", "error"),
    [
        ("", {}, BadName),
        ("x" * 513, {}, BadName),
        ("a\nb", {}, BadName),
        (7, {}, BadName),
        ("m1", {"consumer": ""}, BadName),
        ("m1", {"consumer": "x" * 201}, BadName),
        ("m1", {"expires": 0}, OutOfBounds),
        ("m1", {"expires": "soon"}, BadDuration),
        ("m1", {"expires": -1}, BadDuration),
    ],
)
def test_what_cannot_be_is_refused_before_any_sql(
    message_id: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        app.inbox(None, message_id, **{"consumer": "shop.mail", **options})  # type: ignore[call-overload]
