"""What was enqueued and published: what counts as like it, and what a failure says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from jobrunner import App, Context, Job
from jobrunner.errors import BadName, ConfigError
from jobrunner.testing import (
    assert_enqueued,
    assert_published,
    drain,
    refute_enqueued,
    refute_published,
    use,
)
from tests.conftest import Connection
from tests.testing.shop import ORDER, OTHER, OrderPaid, OrderShipped, Shop

AT = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def conn(jobrunner_conn: Connection, shop: Shop) -> Connection:
    jobrunner_conn.execute("create table ledger (order_id uuid, amount numeric)")
    return jobrunner_conn


def said(call: Any, *args: Any, **options: Any) -> str:
    """What a failed assertion says, with ids as #."""
    with pytest.raises(AssertionError) as caught:
        call(*args, **options)
    return str(caught.value)


def test_a_job_is_found_before_and_after_it_has_run(conn: Connection, shop: Shop) -> None:
    job_id = shop.app.enqueue(conn, shop.post_ledger.job(ORDER, Decimal(5)))

    (before,) = assert_enqueued(shop.post_ledger.job(ORDER, Decimal(5)), count=1)
    drain(conn, shop.app)
    (after,) = assert_enqueued(shop.post_ledger.job(ORDER, Decimal(5)), count=1)

    assert (before.id, before.state, after.id, after.state) == (job_id, "ready", job_id, "succeeded")
    assert after.args == {"order_id": str(ORDER), "amount": "5"}


def test_arguments_that_are_not_given_may_be_any(conn: Connection, shop: Shop) -> None:
    shop.app.enqueue(conn, shop.send_receipt.job(ORDER, copies=2))

    assert_enqueued(shop.send_receipt)
    assert_enqueued(shop.send_receipt.job(ORDER))
    assert_enqueued(Job("shop.send_receipt", {"copies": 2}))
    refute_enqueued(shop.send_receipt.job(OTHER))
    refute_enqueued(shop.send_receipt.job(ORDER, copies=3))
    refute_enqueued(shop.post_ledger)


def test_options_have_to_be_equal_where_they_are_given(conn: Connection, shop: Shop) -> None:
    receipt = shop.send_receipt.job(ORDER)
    shop.app.enqueue(
        conn,
        receipt,
        queue="slow",
        key="k",
        subject="s",
        unique_key="u",
        delay="5m",
        priority=3,
        headers={"a": 1, "b": 2},
    )

    assert_enqueued(receipt, queue="slow", key="k", subject="s", unique_key="u", delay="5m", priority=3)
    assert_enqueued(
        receipt.using(key="k", headers={"a": 1}), delay=300, max_attempts=3, version=1, unique_until="start"
    )
    refute_enqueued(receipt, queue="mail")
    refute_enqueued(receipt, key=None)
    refute_enqueued(receipt, delay="6m")
    refute_enqueued(receipt, delay=None, run_at=AT)
    refute_enqueued(receipt, headers={"a": 2})
    refute_enqueued(receipt.using(subject="other"))

    shop.app.enqueue(conn, receipt, run_at=AT)
    assert_enqueued(receipt, run_at=AT, count=1)


def test_a_failure_tells_the_nearest_jobs_and_how_they_differ(conn: Connection, shop: Shop) -> None:
    first = shop.app.enqueue(conn, shop.send_receipt.job(OTHER, copies=2), key="k")
    second = shop.app.enqueue(conn, shop.send_receipt.job(ORDER), delay="90s")

    assert said(assert_enqueued, shop.send_receipt.job(ORDER), delay="2m", key=None) == "\n".join([
        "no job was enqueued like",
        f"    shop.send_receipt(order_id='{ORDER}') with delay='2m', key=None",
        "the nearest of 2:",
        f"  job {second}, scheduled: shop.send_receipt(order_id='{ORDER}')",
        "      it is delayed by 1m 30s, not by 2m",
        f"  job {first}, blocked: shop.send_receipt(copies=2, order_id='{OTHER}') with key='k'",
        f"      order_id is '{OTHER}', not '{ORDER}'",
        "      it is delayed by 0s, not by 2m",
        "      key is 'k', not None",
    ])  # fmt: skip


def test_a_failure_tells_what_else_was_enqueued(conn: Connection, shop: Shop) -> None:
    assert (
        said(assert_enqueued, shop.send_receipt)
        == "no job was enqueued like\n    shop.send_receipt()\nnothing was enqueued at all"
    )

    shop.app.enqueue_many(conn, [shop.post_ledger.job(ORDER, Decimal(1))] * 2)
    shop.app.enqueue(conn, shop.send_receipt.job(ORDER))

    assert said(assert_enqueued, Job("shop.send_receit")) == "\n".join([
        "no job was enqueued like",
        "    shop.send_receit()",
        "what was enqueued: 2 × shop.post_ledger, 1 × shop.send_receipt; did you mean shop.send_receipt?",
    ])  # fmt: skip


def test_a_count_that_is_wrong_shows_both_sides(conn: Connection, shop: Shop) -> None:
    ids = [shop.app.enqueue(conn, shop.send_receipt.job(order)) for order in (ORDER, ORDER, OTHER)]

    assert said(assert_enqueued, shop.send_receipt.job(ORDER), count=3).splitlines()[:4] == [
        "3 jobs were to be enqueued, and 2 were, like",
        f"    shop.send_receipt(order_id='{ORDER}')",
        f"  job {ids[0]}, ready: shop.send_receipt(order_id='{ORDER}')",
        f"  job {ids[1]}, ready: shop.send_receipt(order_id='{ORDER}')",
    ]
    assert said(assert_enqueued, shop.send_receipt.job(ORDER), count=1).startswith(
        "1 job was to be enqueued, and 2 were, like"
    )
    assert said(refute_enqueued, shop.send_receipt.job(OTHER)) == "\n".join([
        "this job was enqueued, and none should be like",
        f"    shop.send_receipt(order_id='{OTHER}')",
        f"  job {ids[2]}, ready: shop.send_receipt(order_id='{OTHER}')",
    ])  # fmt: skip
    assert_enqueued(shop.send_receipt, count=3)
    assert_enqueued(shop.post_ledger, count=0)


def test_a_dead_job_says_why(conn: Connection, shop: Shop) -> None:
    shop.app.enqueue(conn, Job("shop.send_receipt", {"order_id": "none"}))
    drain(conn, shop.app, raises=False)

    assert "dead (jobrunner.errors.InvalidArguments: invalid arguments for shop.send_receipt" in said(
        refute_enqueued, shop.send_receipt
    )


def test_an_event_is_found_in_the_outbox_and_in_the_log(conn: Connection, shop: Shop) -> None:
    event = OrderPaid(order_id=ORDER, amount=Decimal(5))
    shop.app.publish(conn, event, headers={"tenant": "a", "via": "web"})

    (before,) = assert_published(event)
    drain(conn, shop.app)
    (after,) = assert_published(event, key=str(ORDER), subject=f"order:{ORDER}", source="shop", headers={"tenant": "a"})

    assert (before.position, after.position, before.id) == (0, 1, after.id)
    assert_published(OrderPaid, data={"amount": "5"}, count=1)
    assert_published("order.*", count=2)
    assert_published("order.shipped", subject=None)
    refute_published(OrderPaid(order_id=ORDER, amount=Decimal(6)))
    refute_published(OrderPaid, headers={"tenant": "b"})
    refute_published(OrderPaid, data={"currency": "EUR"})
    refute_published(OrderShipped, key="other")
    refute_published("order")
    with pytest.raises(BadName):
        assert_published("order..paid")


def test_a_failure_tells_the_nearest_events(conn: Connection, shop: Shop) -> None:
    assert (
        said(assert_published, OrderPaid)
        == "no event was published like\n    order.paid()\nnothing was published at all"
    )
    shop.app.publish(conn, OrderPaid(order_id=ORDER, amount=Decimal(5)))

    assert said(assert_published, OrderPaid(order_id=OTHER, amount=Decimal(5)), headers={"tenant": "a"}) == "\n".join([
        "no event was published like",
        f"    order.paid(order_id='{OTHER}', amount='5') with headers={{'tenant': 'a'}}",
        "the nearest:",
        f"  event in the outbox: order.paid(amount='5', order_id='{ORDER}') with key='{ORDER}', subject='order:{ORDER}'",
        f"      data.order_id is '{ORDER}', not '{OTHER}'",
        "      headers has no tenant",
    ])  # fmt: skip
    assert said(assert_published, OrderShipped).endswith(
        "like\n    order.shipped()\nwhat was published: 1 × order.paid"
    )
    assert said(refute_published, "order.#").startswith(
        "this event was published, and none should be like\n    order.#\n"
    )


def test_a_long_value_is_cut(conn: Connection, shop: Shop) -> None:
    shop.app.enqueue(conn, Job("mail.send", {"text": "x" * 1000}))

    assert max(map(len, said(refute_enqueued, Job("mail.send")).splitlines())) < 200


async def test_assertions_look_through_an_async_connection_without_await(
    conn: Connection, jobrunner_aconn: psycopg.AsyncConnection[Any], shop: Shop
) -> None:
    await shop.app.enqueue(jobrunner_aconn, shop.send_receipt.job(ORDER))

    assert_enqueued(shop.send_receipt.job(ORDER))
    assert_enqueued(shop.send_receipt.job(ORDER), conn=jobrunner_aconn)


def test_assertions_need_a_connection(jobrunner_dsn: str, shop: Shop) -> None:
    with pytest.raises(ConfigError, match="give conn=, or use the fixture jobrunner_conn"):
        assert_enqueued(shop.send_receipt)

    with psycopg.connect(jobrunner_dsn) as conn, psycopg.connect(jobrunner_dsn) as other:
        shop.app.enqueue(conn, shop.send_receipt.job(ORDER))
        with use(conn):
            assert_enqueued(shop.send_receipt)
            refute_enqueued(shop.send_receipt, conn=other)
            with use(other):
                refute_enqueued(shop.send_receipt)
            assert_enqueued(shop.send_receipt)
        conn.rollback()


def test_what_a_handler_enqueues_on_a_later_day_keeps_its_delay(conn: Connection) -> None:
    app = App("shop")

    @app.task
    def remind(ctx: Context, n: int) -> None:
        with ctx.transaction() as tx:
            app.enqueue(tx, remind.job(n + 1), delay="1d")

    app.enqueue(conn, remind.job(0), delay="1d")
    drain(conn, app, until="3d")

    (third,) = assert_enqueued(remind.job(3), delay="1d")
    assert timedelta(days=3, hours=23) < third.run_at - datetime.now(UTC) < timedelta(days=4, minutes=1)
