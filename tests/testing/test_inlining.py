"""Inline mode: what is enqueued or published has run when the call returns."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import psycopg
import pytest

from jobrunner import App, Context
from jobrunner.testing import inline
from tests.conftest import Connect, Connection
from tests.testing.shop import ORDER, OTHER, OrderPaid, OrderShipped, Shop


@pytest.fixture
def conn(jobrunner_conn: Connection) -> Connection:
    jobrunner_conn.execute("create table ledger (order_id uuid, amount numeric)")
    return jobrunner_conn


def test_each_call_runs_what_follows_from_it(conn: Connection) -> None:
    shop = Shop()
    with inline(conn, shop.app) as runs:
        shop.app.publish(conn, OrderPaid(order_id=ORDER, amount=Decimal(5)))
        assert shop.seen == [("order.paid", 1), ("ship", Decimal(5)), ("order.shipped", 2)]
        shop.app.enqueue_many(conn, [shop.post_ledger.job(ORDER, Decimal(n)) for n in range(2)])
        assert conn.execute("select count(*) from ledger").fetchone() == (2,)
        shop.app.publish_many(conn, [OrderShipped(order_id=OTHER)])
        job_id = shop.app.enqueue(conn, shop.send_receipt.job(ORDER))
        assert (runs[-1].task, runs[-1].job_id) == ("shop.send_receipt", job_id)
        shop.app.enqueue(conn, shop.send_receipt.job(ORDER), delay="1m")
    assert len(runs) == 7

    shop.app.enqueue(conn, shop.send_receipt.job(OTHER))
    assert shop.seen[-1] == ("receipt", ORDER)


async def test_each_call_on_an_async_connection_does(
    conn: Connection, jobrunner_aconn: psycopg.AsyncConnection[Any]
) -> None:
    shop = Shop()
    with inline(jobrunner_aconn, shop.app) as runs:
        await shop.pay_async(jobrunner_aconn)
        assert len(runs) == 4
        await shop.app.enqueue(jobrunner_aconn, shop.send_receipt.job(ORDER))
    assert shop.seen[-1] == ("receipt", ORDER)


def test_calls_on_other_connections_only_enqueue(conn: Connection, connect: Connect) -> None:
    shop = Shop()
    other = connect()
    with inline(conn, shop.app) as runs:
        shop.app.enqueue(other, shop.send_receipt.job(ORDER))
    assert runs == []


def test_the_exception_of_a_handler_comes_out_of_the_call(conn: Connection) -> None:
    app = App("shop")

    @app.task
    def fail(ctx: Context) -> None:
        raise ZeroDivisionError

    with inline(conn, app), pytest.raises(ZeroDivisionError):
        app.enqueue(conn, fail.job())
    with inline(conn, app, raises=False) as runs:
        app.enqueue(conn, fail.job())
        with inline(conn, app):
            pass
        app.enqueue(conn, fail.job())
    assert [run.ended for run in runs] == ["failed", "failed"]
    assert vars(app).keys().isdisjoint({"enqueue", "publish"})
