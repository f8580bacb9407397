"""T06: a commit gets through and its answer does not.

PostgreSQL itself makes the moment: while a commit waits for a standby that does not exist it is done, and not yet answered.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import LiteralString

import pytest

from jobrunner import Job
from tests.faults.program import effect, work
from tests.faults.rig import Connection, Rig
from tests.support import wait_until

pytestmark = pytest.mark.faults

WAITING: LiteralString = "select pid, application_name, query from pg_stat_activity where wait_event = 'SyncRep'"

CASES: dict[str, tuple[str, str, Callable[[int], Job]]] = {
    "of a claim": ("jobrunner claim", "claim_v1", lambda n: work.job(n=n, ms=1)),
    "of a settlement": ("jobrunner settle", "finish_v1", lambda n: work.job(n=n, ms=1)),
    "of a keyed settlement": ("jobrunner settle", "settle_v1", lambda n: work.job(n=n, ms=1).using(key="k")),
    "of a handler's transaction": ("jobrunner handler", "commit", lambda n: effect.job(n=n, ms=1)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_lost_answer_costs_no_job_and_no_second_run(rig: Rig, case: str) -> None:
    whose, statement, make = CASES[case]
    runner = rig.spawn()

    with rig.connect() as producer, rig.connect() as conn:
        producer.execute("set synchronous_commit = local")
        with _commits_unanswered(conn):
            rig.send(producer, make)
            wait_until(lambda: _strike(conn, whose, statement), 10, "the commit")
    rig.drained(within=5)

    assert rig.alive() == [runner]
    runner.send(signal.SIGTERM)
    assert runner.ends(within=5) == 0
    assert "no good-bye" not in runner.said(), "a settlement has no answer yet"
    assert rig.value("select count(*) from jobrunner.finished_jobs where state = 'succeeded' and crashes = 0") == 1
    rig.check_end(repeats=0)


@contextmanager
def _commits_unanswered(conn: Connection) -> Iterator[None]:
    conn.execute("alter system set synchronous_standby_names = 'nobody'")
    conn.execute("select pg_reload_conf()")
    try:
        yield
    finally:
        conn.execute("alter system reset synchronous_standby_names")
        conn.execute("select pg_reload_conf()")


def _strike(conn: Connection, whose: str, statement: str) -> bool:
    """Terminate the session whose commit it is; every other commit gets its answer."""
    struck = False
    for pid, name, query in conn.execute(WAITING).fetchall():
        ours = name == whose and statement in query.lower()
        conn.execute("select pg_terminate_backend(%s)" if ours else "select pg_cancel_backend(%s)", [pid])
        struck = struck or ours
    return struck
