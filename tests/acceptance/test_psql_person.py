"""A person who knows only psql finds a stuck job, learns why, mends it, and sees that it was done and by whom.

The program is psql, its queries are those of docs/operations.md, and the jobs are run by real runners in processes of their own.
"""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import Connection
from tests.ops.pages import DOCS
from tests.ops.shell import environment
from tests.support import wait_until

ANN, BOB = "ann_of_operations", "bob_of_operations"

APP = """
from pathlib import Path

from jobrunner import App, Backoff, Context

app = App("shop")


@app.task(queue="mail", retry=Backoff(attempts=1))
def mail(ctx: Context, to: str) -> None:
    if not Path("account").exists():
        raise FileNotFoundError(f"no account for {to!r}")
    Path(to).touch()
"""


def shape(sql: str) -> str:
    """A query without its values: what the page teaches, whatever the names and ids."""
    return " ".join(re.sub(r"'[^']*'|[0-9]+", "?", sql).split()).rstrip(";")


TAUGHT = {
    shape(query)
    for block in re.findall(r"```sql\n(.*?)```|`(select .*?;)`", (DOCS / "operations.md").read_text(), re.DOTALL)
    for query in block
    if query
}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a login, psql and the page."""

    psql: Path
    dsn: str

    def __call__(self, sql: str) -> list[dict[str, str]]:
        assert shape(sql) in TAUGHT, f"the page does not teach: {sql}"
        return self.run(sql)

    def run(self, sql: str) -> list[dict[str, str]]:
        done = subprocess.run(
            [self.psql, self.dsn, "-X", "--csv", "-v", "ON_ERROR_STOP=1", "-c", sql],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return list(csv.DictReader(io.StringIO(done.stdout)))


@pytest.fixture
def people(psql: Path, dsn: str, conn: Connection) -> Iterator[tuple[Person, Person]]:
    """Ann, who was called, and bob, who went home."""
    for name in (ANN, BOB):
        conn.execute(f"create role {name} login superuser".encode())
    yield Person(psql, make_conninfo(dsn, user=ANN)), Person(psql, make_conninfo(dsn, user=BOB))
    for name in (ANN, BOB):
        conn.execute(f"drop role {name}".encode())


@pytest.fixture
def runner(tmp_path: Path, dsn: str, conn: Connection) -> Iterator[Path]:
    """A real runner of the app; yields where it works."""
    (tmp_path / "shop.py").write_text(APP)
    process = subprocess.Popen(
        [sys.executable, "-m", "jobrunner", "run", "shop:app", "--poll", "200ms", "--log-level", "error"],
        cwd=tmp_path,
        env=environment(dsn),
    )
    alive = "select count(*) from jobrunner.v_runner where state = 'alive' and listening"
    wait_until(lambda: conn.execute(alive).fetchone() == (1,), deadline=20, what="the runner")
    yield tmp_path
    process.terminate()
    process.wait(20)


def test_a_person_with_psql_finds_mends_and_sees_who_mended(people: tuple[Person, Person], runner: Path) -> None:
    ann, bob = people
    bob.run("select jobrunner.op_pause('mail', _reason => 'the printer is on fire')")
    ann.run("""select jobrunner.enqueue('shop.mail', '{"to": "carol"}', subject => 'customer:7')""")

    # What is wrong? A queue is paused, by bob. Why does this job not run? Because of that.
    finding = ann("select severity, code, subject, message, hint from jobrunner.v_attention;")
    assert [(one["code"], one["subject"]) for one in finding] == [("queue_paused", "mail")]
    assert finding[0]["message"] == f"queue mail is paused by {BOB}, 1 job waits"
    found = ann(
        "select id, task, state, blocked_on, key from jobrunner.v_job where subject = 'customer:7' order by id;"
    )
    (job,) = [one["id"] for one in found]
    assert "queue mail is paused since" in ann(f"select jobrunner.why({job});")[0]["why"]

    # The cure is the hint; the reason for the audit is hers.
    assert shape(finding[0]["hint"]) in TAUGHT
    ann("select jobrunner.op_resume('mail', _reason => 'the printer is back') as was_paused;")

    # It runs now, and dies: another trouble, found the same way.
    wait_until(
        lambda: (
            "jobs_died"
            in [one["code"] for one in ann("select severity, code, message, hint from jobrunner.v_attention;")]
        )
    )
    (group,) = ann("select n, task, error, fingerprint from jobrunner.v_dead_group order by n desc;")
    assert group["error"] == "FileNotFoundError: no account for …"
    assert f"Job {job} is dead" in ann(f"select jobrunner.why({job});")[0]["why"]

    # She mends the cause, then the job.
    (runner / "account").touch()
    ann(f"select jobrunner.op_requeue(array[{job}], _reason => 'the account is there now') as requeued;")
    state = f"select state, failures, reason from jobrunner.v_job where id = {job};"
    wait_until(lambda: ann(state)[0]["state"] == "succeeded", what="the end of the job")
    assert (runner / "carol").exists()

    # Nothing is wrong any more, and the audit says who did what, and why.
    assert ann("select severity, code, subject, message, hint from jobrunner.v_attention;") == []
    done = ann("select actor, action, target, reason from jobrunner.v_audit order by id;")
    assert [tuple(one.values()) for one in done] == [
        (BOB, "pause", "queue mail", "the printer is on fire"),
        (ANN, "resume", "queue mail", "the printer is back"),
        (ANN, "requeue", f"job {job}", "the account is there now"),
    ]
