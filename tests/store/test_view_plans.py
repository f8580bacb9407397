"""What a view says of its cost holds: what is asked all the time reads by an index, and no more than it shows."""

from __future__ import annotations

from typing import LiteralString

import pytest

from tests.conftest import Connect
from tests.store import calls
from tests.store.calls import Connection
from tests.store.plans import autovacuum_off, touched

pytestmark = pytest.mark.pg16

MANY = 20_000

BY_INDEX: dict[str, tuple[LiteralString, int]] = {
    "the front of each queue": ("select * from jobrunner.v_front", 20),
    "what runs next": ("select * from jobrunner.v_ready_next", 450),
    "tasks that nobody knows": ("select * from jobrunner.v_task_unknown", 4100),
    "what runs": ("select * from jobrunner.v_running", 60),
    "what is stuck": ("select * from jobrunner.v_stuck", 60),
    "lines of keys": ("select * from jobrunner.v_key_waiting", 60),
    "the next retries": ("select * from jobrunner.v_retrying order by run_at limit 20", 60),
    "the latest dead": ("select * from jobrunner.v_dead order by died_at desc limit 20", 60),
    "deaths within an hour": ("select count(*) from jobrunner.v_dead where died_at > now() - interval '1 hour'", 10),
    "the load of a day": ("select * from jobrunner.v_scheduled", 4000),
    "one job": ("select * from jobrunner.v_job where id = 4711", 3),
    "jobs of a subject": (
        "select id from jobrunner.v_job where id = any (array(select l.job_id from jobrunner.v_job_link l where l.subject = 'o'))",
        30,
    ),
    "a page of jobs": ("select * from jobrunner.v_job order by id desc limit 20", 60),
    "a page below": ("select * from jobrunner.v_job where id < 15000 order by id desc limit 20", 60),
    "tables": ("select * from jobrunner.v_table_health", 0),
}  # fmt: skip
"""The question, and how many entries any one index of jobs may give for it."""


@pytest.fixture
def filled(connect: Connect, request: pytest.FixtureRequest) -> Connection:
    conn = connect()
    autovacuum_off(conn)
    calls.register(conn)
    for queue in ("default", "mail"):
        calls.fill(conn, MANY // 4, queue=queue)
    conn.execute(
        """insert into jobrunner.jobs (task, state, run_at, failures, attempt)
           select 'shop.t', 'scheduled', now() + n * interval '1 minute', n % 2, n % 2 from generate_series(1, 10000) n;
           insert into jobrunner.jobs (task, state, finished_at, attempt, error)
           select 'shop.t', 'dead', now() - n * interval '1 hour', 1, 'ValueError: no ' || n from generate_series(1, 5000) n;
           insert into jobrunner.jobs (task, state, runner_id, started_at, attempt)
           select 'shop.t', 'running', 1, now(), 1 from generate_series(1, 20) n;
           insert into jobrunner.job_links (job_id, subject) select id, 'order:' || id / 10 from jobrunner.jobs"""
    )
    if request.param == "analysed":
        conn.execute("analyze jobrunner.jobs, jobrunner.job_links")
    return conn


@pytest.mark.parametrize("filled", ["analysed"], indirect=True)
def test_a_question_reads_by_an_index_what_it_shows(filled: Connection) -> None:
    for name, (question, most) in BY_INDEX.items():
        found = touched(filled, question)

        assert found.seq_scans == 0, (name, found)
        assert found.most <= most, (name, found)


@pytest.mark.parametrize("filled", ["as it was filled"], indirect=True)
def test_without_statistics_none_reads_the_whole_table(filled: Connection) -> None:
    for name, (question, _) in BY_INDEX.items():
        assert touched(filled, question).seq_scans == 0, name
