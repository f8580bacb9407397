"""The example on the README's first page runs as printed."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from jobrunner import Runner
from tests.conftest import Connection
from tests.support import eventually

README = Path(__file__).resolve().parents[1] / "README.md"
ORDER = UUID(int=42)


class Mail:
    """What the example calls `mail`: down at first."""

    def __init__(self) -> None:
        self.is_up = False
        self.sent: list[tuple[UUID, int]] = []

    async def up(self) -> bool:
        return self.is_up

    async def send(self, order_id: UUID, *, idempotency_key: int) -> None:
        self.sent.append((order_id, idempotency_key))


def example() -> str:
    found = re.search(r"<!-- this block runs as printed.*?-->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, "the README has lost its example"
    return found[1]


def test_the_example_has_about_thirty_lines() -> None:
    assert len(example().splitlines()) <= 36


async def test_the_example_pays_an_order(dsn: str, conn: Connection) -> None:
    conn.execute("create table orders (id uuid primary key, paid boolean not null)")
    conn.execute("create table ledger (order_id uuid, amount numeric)")
    conn.execute("insert into orders values (%s, false)", [ORDER])
    mail = Mail()
    shop: dict[str, Any] = {"mail": mail, "__name__": "shop"}
    exec(compile(example(), str(README), "exec", dont_inherit=True), shop)

    shop["pay"](conn, ORDER, Decimal(5))
    assert conn.execute("select paid from orders").fetchall() == [(True,)]

    async with Runner(shop["app"], dsn, poll="100ms") as runner:
        await runner.wait_idle(10)
        assert conn.execute("select order_id, amount from ledger").fetchall() == [(ORDER, Decimal(5))]
        (receipt,) = conn.execute("select id, state, max_attempts from jobrunner.jobs").fetchall()
        assert receipt[1:] == ("scheduled", 8)

        conn.execute("select jobrunner.op_retry_now(array[%s]::bigint[])", [receipt[0]])
        snoozed = "select attempt = 1 and failures = 0 and state = 'scheduled' from jobrunner.jobs"
        await eventually(lambda: conn.execute(snoozed).fetchone() == (True,), what="the snooze")
        mail.is_up = True
        conn.execute("select jobrunner.op_retry_now(array[%s]::bigint[])", [receipt[0]])
        await eventually(lambda: mail.sent, what="the receipt")

    assert mail.sent == [(ORDER, receipt[0])]
    tree = conn.execute(
        "select depth, kind, coalesce(type, task) from jobrunner.trace(%s)", [f"order:{ORDER}"]
    ).fetchall()
    assert tree == [
        (0, "transaction", None),
        (1, "event", "order.paid"),
        (2, "delivery", "shop.post_ledger"),
        (1, "job", "shop.send_receipt"),
    ]


def test_every_proof_that_the_readme_names_exists() -> None:
    root = README.parent
    named = re.findall(r"`((?:tests|docs|sql|bin|jobrunner)/[\w./-]+)[` ]", README.read_text())
    linked = re.findall(r"\]\((?!http)([\w./-]+)\)", README.read_text())

    assert len(named) > 10
    assert [path for path in named + linked if not (root / path).exists()] == []
