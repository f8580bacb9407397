"""docs/operations.md runs: every block of SQL in the order of the page, on a database where that trouble was really made."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from jobrunner.store.queries import text
from tests.conftest import Connect, Connection
from tests.ops.pages import DOCS, check, parts
from tests.ops.test_attention_view import attention_codes
from tests.store import calls
from tests.store.calls import enqueue, value
from tests.support import wait_until

PAGE = "operations.md"

ANN = "ann"
"""The person of the page."""


@pytest.fixture
def ann(conn: Connection, connect: Connect) -> Iterator[Connection]:
    """A login of that name, which may do what is needed."""
    conn.execute(f"create role {ANN} login superuser".encode())
    person = connect(user=ANN)
    yield person
    person.close()
    conn.execute(f"drop role {ANN}".encode())


class Meanwhile:
    """What runners, services and other people do between two blocks, by the words of the page."""

    def __init__(self, conn: Connection, connect: Connect) -> None:
        self.conn = conn
        self.connect = connect
        self.runner = 1
        self.hung: list[calls.Claim] = []
        self.deeds: dict[str, Callable[[], object]] = {
            "three mails wait in a queue that bob has paused": self.pause,
            "runners do all there is to do": self.work,
            "a payment dies": lambda: self.die("shop.pay", "KeyError: 'account 7'", subject="order:42"),
            "the mail server is away, twelve mails die, and one for another reason": self.outage,
            "two jobs come whose tasks no runner has the code for": self.strangers,
            "a runner with the code of shop.gift starts and works": self.deploy,
            "an export of customer 7 has run for an hour and two more wait": self.hang,
            "its runner stops it, and the next one has its turn": self.stop,
            "a runner falls silent over a job, and no other is alive": self.fall_silent,
            "a new runner starts and looks": self.rescue,
            "a report forgets its transaction": self.forget,
            "its session ends": self.end,
        }
        self.tasks = ["shop.mail", "shop.pay", "shop.export"]
        self.start(1)

    def start(self, runner: int, host: str = "mail-1") -> None:
        calls.register(self.conn, runner, self.tasks)
        self.conn.execute("update jobrunner.runners set listening = true, host = %s where id = %s", [host, runner])
        self.runner = runner

    def claim(self) -> list[calls.Claim]:
        calls.seat(self.conn)
        queues = [(queue, 0) for queue in ("default", "mail")]
        return calls.claim(self.conn, self.runner, classes=queues, tasks=dict.fromkeys(self.tasks, 1))

    def work(self) -> None:
        """Also what is scheduled, as if its time had come."""
        self.conn.execute("update jobrunner.jobs set run_at = now() where state = 'scheduled'")
        calls.promote(self.conn)
        while claims := self.claim():
            calls.settle(self.conn, self.runner, claims, "succeeded")

    def pause(self) -> None:
        for _ in range(3):
            enqueue(self.conn, "shop.mail", queue="mail")
        self.conn.execute("select jobrunner.op_pause('mail', 'bob', 'the printer is on fire')")

    def die(self, task: str, error: str, **options: object) -> None:
        """Out of attempts at the second failure."""
        enqueue(self.conn, task, max_attempts=2, **options)
        kind, _, message = error.partition(": ")
        told = {
            "failed": True,
            "outcome": "failed",
            "error": error,
            "error_type": kind,
            "message": message,
            "traceback": "…",
        }
        calls.settle(self.conn, self.runner, self.claim(), "scheduled", delay=0, **told)
        calls.promote(self.conn)
        calls.settle(self.conn, self.runner, self.claim(), "dead", reason="exhausted", **told)

    def outage(self) -> None:
        for n in range(12):
            self.die("shop.mail", f"OSError: no route to 'mail-{n % 3}', try {n}", queue="mail")
        self.die("shop.mail", "ValueError: no @ in 'ann'", queue="mail")

    def strangers(self) -> None:
        self.work()
        for task in ("shop.gift", "shop.gfit"):
            enqueue(self.conn, task)
        self.conn.execute("select jobrunner.park_v1('default', 100)")

    def deploy(self) -> None:
        self.tasks.append("shop.gift")
        self.start(2)
        self.conn.execute("select jobrunner.unpark_v1(array['shop.gift'], array[1::smallint], 100)")
        self.work()

    def hang(self) -> None:
        for _ in range(3):
            enqueue(self.conn, "shop.export", key="customer 7", subject="customer:7")
        self.hung = self.claim()
        self.conn.execute("update jobrunner.jobs set started_at = now() - interval '1 hour' where state = 'running'")

    def stop(self) -> None:
        calls.settle(self.conn, self.runner, self.hung, "cancelled", outcome="cancelled", reason="requested")

    def fall_silent(self) -> None:
        """All that there was before stopped in good order; the one that hangs is number 9."""
        self.conn.execute("select jobrunner.stop_v1(1), jobrunner.stop_v1(2)")
        self.start(9, "mail-2")
        enqueue(self.conn, "shop.pay")
        self.hung = self.claim()
        enqueue(self.conn, "shop.pay")
        self.conn.execute("update jobrunner.runners set beat_at = now() - interval '5 minutes' where id = 9")

    def rescue(self) -> None:
        self.start(10)
        calls.mark_lost(self.conn)
        calls.give_back(self.conn)

    def forget(self) -> None:
        report = self.connect(autocommit=False, application_name="report")
        report.execute("set transaction isolation level repeatable read")
        report.execute("select count(*) from jobrunner.v_job")

    def end(self) -> None:
        gone = "select count(*) from pg_stat_activity where application_name = 'report'"
        wait_until(lambda: value(self.conn, gone) == 0, what="the end of the session")


def test_the_page_runs_and_shows_what_it_says(conn: Connection, ann: Connection, connect: Connect) -> None:
    check(ann, PAGE, Meanwhile(conn, connect).deeds)


def test_every_deed_of_the_page_is_done_and_every_doer_is_called(conn: Connection, connect: Connect) -> None:
    assert {part.deed for part in parts(PAGE) if part.deed is not None} == set(Meanwhile(conn, connect).deeds)


def test_every_code_has_its_cure_on_the_page() -> None:
    table = (DOCS / PAGE).read_text().split("## Every code")[1]

    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == attention_codes()


def test_the_page_teaches_what_the_answers_of_why_mean() -> None:
    """Every command that `why` ends with has its words for psql."""
    page = (DOCS / PAGE).read_text()
    sentences = " ".join(re.findall(r"format\('(.*)'", text("functions/why.sql") + text("functions/why_paused.sql")))
    commands = {command.strip() for command in re.findall(r"jobrunner ((?:[a-z]+ ?)+)", sentences)}

    assert len(commands) >= 7
    for command in commands:
        assert f"`jobrunner {command}" in page, command
