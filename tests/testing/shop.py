"""A small service, and code of it that is to be tested; each test makes its own."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, Connection

from jobrunner import App, Backoff, Context, Event, Snooze

ORDER = UUID(int=42)
OTHER = UUID(int=43)


class OrderPaid(Event, name="order.paid", key="order_id", subject="order:{order_id}"):
    order_id: UUID
    amount: Decimal


class OrderShipped(Event, name="order.shipped", key="order_id"):
    order_id: UUID


class Shop:
    """Its app, and what its handlers have seen."""

    def __init__(self, name: str = "shop") -> None:
        self.app = App(name)
        self.seen: list[Any] = []
        self.mail_is_up = True

        @self.app.task(queue="mail", retry=Backoff(attempts=3, base="2s", cap="1h"), timeout="30s")
        async def send_receipt(ctx: Context, order_id: UUID, copies: int = 1) -> Snooze | None:
            if not self.mail_is_up:
                return Snooze("30s")
            self.seen.append(("receipt", order_id))
            return None

        @self.app.task
        def post_ledger(ctx: Context, order_id: UUID, amount: Decimal) -> None:
            with ctx.transaction() as tx:
                tx.execute("insert into ledger values (%s, %s)", [order_id, amount])

        @self.app.on(OrderPaid, ordered=True)
        def ship(ctx: Context, event: OrderPaid) -> None:
            self.seen.append(("ship", event.amount))
            with ctx.transaction() as tx:
                self.app.publish(tx, OrderShipped(order_id=event.order_id))

        @self.app.on("order.*")
        async def audit(ctx: Context, event: dict[str, Any]) -> None:
            self.seen.append((ctx.envelope.type, ctx.envelope.position))

        self.send_receipt, self.post_ledger, self.ship, self.audit = send_receipt, post_ledger, ship, audit

    def pay(self, conn: Connection[Any], order_id: UUID = ORDER, amount: int = 5) -> None:
        """Code under test."""
        with conn.transaction():
            self.app.publish(conn, OrderPaid(order_id=order_id, amount=Decimal(amount)))
            self.app.enqueue(conn, self.post_ledger.job(order_id, Decimal(amount)), key=f"order:{order_id}")
            self.app.enqueue(conn, self.send_receipt.job(order_id=order_id), delay="5m", subject=f"order:{order_id}")

    async def pay_async(self, conn: AsyncConnection[Any], order_id: UUID = ORDER, amount: int = 5) -> None:
        """The same."""
        async with conn.transaction():
            await self.app.publish(conn, OrderPaid(order_id=order_id, amount=Decimal(amount)))
            await self.app.enqueue(conn, self.post_ledger.job(order_id, Decimal(amount)), key=f"order:{order_id}")
            await self.app.enqueue(conn, self.send_receipt.job(order_id=order_id), delay="5m")
