"""Apps with events for the tests of their document."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pydantic
from pydantic import Field

from jobrunner import App, Context, Event


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Line(pydantic.BaseModel):
    sku: str
    pieces: int = 1


class Card(pydantic.BaseModel):
    kind: Literal["card"] = "card"
    number: str


class Cash(pydantic.BaseModel):
    kind: Literal["cash"] = "cash"


class Wire(pydantic.BaseModel):
    kind: Literal["wire"] = "wire"
    iban: str


class Tree(pydantic.BaseModel):
    name: str
    below: list[Tree] = []


class OrderPaid(Event, name="order.paid", version=2, key="order_id"):
    """An order was paid.

    Also by voucher.
    """

    order_id: UUID
    amount: Decimal
    colour: Colour = Colour.RED
    lines: list[Line] = Field([])
    how: Annotated[Card | Cash, Field(discriminator="kind")] = Cash()
    place: tuple[int, str] | None = None
    tags: frozenset[str] = frozenset({"x", "y", "z"})
    tree: Tree = Field(Tree(name="root"), description="Where it hangs.")


class OrderRefunded(Event, name="order.refunded"):
    order_id: UUID


def shop() -> App:
    app = App("shop")
    app.publishes(OrderPaid)
    app.upcast(OrderPaid, 1)(lambda data: data)

    @app.on(OrderPaid, ordered=True)
    def post_ledger(ctx: Context, event: OrderPaid) -> None:
        """Posts what was paid."""

    @app.on("order.*", "#")
    async def audit(ctx: Context, event: OrderPaid | OrderRefunded | dict[str, Any]) -> None: ...

    @app.stream("stock.#.gone")
    def totals(ctx: Context, events: list[dict[str, Any]]) -> None:
        """Counts."""

    return app
