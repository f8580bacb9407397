"""docs/events.md runs: every block of SQL in the order of the page, on a real database, and shows what the page says it shows."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from jobrunner.store.queries import text
from tests.conftest import Connection
from tests.ops.pages import DOCS, check, parts
from tests.store import calls, log


class Meanwhile:
    """What runners and publishers do between two blocks, by the words of the page."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        calls.register(conn, tasks=["shop.mail", "shop.ledger", "shop.totals"])
        self.claimed: list[calls.Claim] = []
        self.deeds: dict[str, Callable[[], object]] = {
            "a runner moves it": lambda: log.sequence(conn),
            "a runner claims": self.claim,
            "the mail is sent and the ledger fails for good": self.one_succeeds_and_one_dies,
            "two more orders are paid, 42 and 43": lambda: self.pay("42", "43"),
            "one more order is paid, 44, and runners do all there is to do": lambda: self.pay_and_run("44"),
            "runners do all there is to do": self.run_all,
            "a runner walks": lambda: log.walk_to_the_end(conn),
            "the stream reads on": self.read,
            "a payment waits for the bank longer than it may": self.wait_for_the_bank,
        }

    def claim(self) -> None:
        self.claimed = log.claim(self.conn, "shop.mail", "shop.ledger")

    def one_succeeds_and_one_dies(self) -> None:
        mail = [one for one in self.claimed if one.task == "shop.mail"]
        ledger = [one for one in self.claimed if one.task == "shop.ledger"]
        calls.settle(self.conn, 1, mail, "succeeded")
        calls.settle(self.conn, 1, ledger, "dead", reason="failed", error="ValueError: no such book")

    def pay(self, *orders: str) -> None:
        for order in orders:
            log.publish(self.conn, "order.paid", {"order_id": int(order)}, key=order)
        log.sequence(self.conn)
        calls.seat(self.conn)

    def run_all(self) -> None:
        """All but the stream, which has a stop of its own."""
        while claims := log.claim(self.conn, "shop.mail", "shop.ledger"):
            calls.settle(self.conn, 1, claims, "succeeded")
        self.conn.execute("select jobrunner.park_v1('events', 1000)")

    def pay_and_run(self, order: str) -> None:
        self.pay(order)
        self.run_all()

    def read(self) -> None:
        while claims := log.claim(self.conn, "shop.totals"):
            batch = log.read(self.conn, "shop.totals")
            log.advance(self.conn, batch, "shop.totals")
            calls.settle(self.conn, 1, claims, "succeeded")

    def wait_for_the_bank(self) -> None:
        self.conn.execute(
            "insert into jobrunner.sagas (name, key, state, compensation, timeout_at) "
            "values ('shop.payment', '42', '{}', '[{\"task\": \"shop.give_back\"}]', now() - interval '5 minutes')"
        )


def test_the_page_runs_and_shows_what_it_says(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "QUEUE", "events")

    check(conn, "events.md", Meanwhile(conn).deeds)


def test_every_deed_of_the_page_is_done_and_every_doer_is_called(tx: Connection) -> None:
    assert {part.deed for part in parts("events.md") if part.deed is not None} == set(Meanwhile(tx).deeds)


def test_the_page_asks_every_view_of_events() -> None:
    views = set(re.findall(r"create view jobrunner\.(v_\w+)", text("migrations/0002_add_the_events.sql")))

    assert {view for view in views if f"jobrunner.{view}" not in (DOCS / "events.md").read_text()} <= {"v_log_head"}
