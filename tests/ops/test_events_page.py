"""docs/events.md runs: every block of SQL in the order of the page, on a real database, and shows what the page says it shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from jobrunner.store.queries import text
from tests.conftest import Connection
from tests.store import calls, log

PAGE = Path(__file__).resolve().parents[2] / "docs" / "events.md"
PART = re.compile(
    r"<!-- meanwhile: (?P<deed>.*?) -->|```sql\n(?P<sql>.*?)```\n(?:```text\n(?P<shown>.*?)```\n)?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that the page does: what happens meanwhile, or a block with what it shows."""

    deed: str | None
    sql: str | None
    shown: str | None


def parts() -> list[Part]:
    return [Part(found["deed"], found["sql"], found["shown"]) for found in PART.finditer(PAGE.read_text())]


def cell(value: object) -> str:
    """A value as psql writes it."""
    match value:
        case None:
            return ""
        case bool():
            return "t" if value else "f"
        case list():
            return f"{{{','.join(map(cell, value))}}}"
        case _:
            return str(value)


def table(shown: str) -> list[list[str]]:
    """The cells of a table as psql draws it, its head first."""
    lines = [line for line in shown.splitlines() if not re.fullmatch(r"[-+]+", line)]
    return [[each.strip() for each in line.split("|")] for line in lines]


def run(conn: Connection, sql: str) -> list[list[str]]:
    """What the last statement of a block shows, its head first."""
    cursor = conn.execute(sql.encode())
    while cursor.nextset():
        pass
    if cursor.description is None:
        return []
    return [
        [column.name for column in cursor.description],
        *[[cell(each) for each in row] for row in cursor.fetchall()],
    ]


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
    meanwhile = Meanwhile(conn)

    for part in parts():
        if part.deed is not None:
            meanwhile.deeds[part.deed]()
        elif part.sql is not None and part.shown is not None and part.shown.startswith("ERROR"):
            with pytest.raises(psycopg.Error) as refused:
                run(conn, part.sql)
            assert f"ERROR: {refused.value.diag.message_primary}\n" == part.shown
        elif part.sql is not None:
            found = run(conn, part.sql)
            if part.shown is not None:
                wanted = table(part.shown)
                seen = [
                    [w if w == "…" else f for w, f in zip(row, got, strict=True)]
                    for row, got in zip(wanted, found, strict=False)
                ]
                assert seen + found[len(wanted) :] == wanted, part.sql


def test_every_deed_of_the_page_is_done_and_every_doer_is_called(tx: Connection) -> None:
    assert {part.deed for part in parts() if part.deed is not None} == set(Meanwhile(tx).deeds)


def test_the_page_asks_every_view_of_events() -> None:
    views = set(re.findall(r"create view jobrunner\.(v_\w+)", text("migrations/0002_add_the_events.sql")))

    assert {view for view in views if f"jobrunner.{view}" not in PAGE.read_text()} <= {"v_log_head"}
