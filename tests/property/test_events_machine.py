"""Every committed event once to each that wants it, in order, under whatever Hypothesis can think of, on real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import Connect
from tests.property.event_machine import EventLife
from tests.store import calls
from tests.store.calls import Connection

CI = settings(
    max_examples=30, stateful_step_count=30, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
LONG = settings(CI, max_examples=1500, stateful_step_count=60)
MUTANT = settings(CI, max_examples=300, derandomize=True, phases=[Phase.generate], report_multiple_bugs=False)
"""The same steps in every run: caught once is caught always."""


@pytest.mark.pg16
def test_whatever_happens_each_event_comes_once(conn: Connection, connect: Connect) -> None:
    other = connect()
    run_state_machine_as_test(lambda: EventLife(conn, other), settings=CI)  # type: ignore[arg-type]  # it only calls it


@pytest.mark.slow
@pytest.mark.pg16
def test_whatever_happens_each_event_comes_once_for_long(conn: Connection, connect: Connect) -> None:
    other = connect()
    run_state_machine_as_test(lambda: EventLife(conn, other), settings=LONG)  # type: ignore[arg-type]  # it only calls it


def _register_without_the_lock(conn: Connection) -> None:
    calls.replace(conn, "subscribe_v1", ("        perform jobrunner.lock_log();\n", ""))


def _meet_the_present_without_the_lock(conn: Connection) -> None:
    calls.replace(conn, "replay_step_v1", ("        perform jobrunner.lock_log();\n", "        null;\n"))


def _arrivals_in_no_order(conn: Connection) -> None:
    calls.replace(conn, "deliver_v1", ("order by f.position, w.name", "order by f.position desc, w.name"))


def _live_before_it_caught_up(conn: Connection) -> None:
    calls.replace(conn, "deliver_v1", ("            and s.state = 'live'\n", ""))


def _a_walk_begins_where_it_was(conn: Connection) -> None:
    calls.replace(conn, "walk_v1", ("where e.position > _r.at_position", "where e.position >= _r.at_position"))


def _positions_in_no_order(conn: Connection) -> None:
    calls.replace(conn, "sequence_v1", ("row_number() over (order by g.id)", "row_number() over (order by g.id desc)"))


@pytest.mark.parametrize(
    "mutate",
    [
        _register_without_the_lock,
        _meet_the_present_without_the_lock,
        _arrivals_in_no_order,
        _live_before_it_caught_up,
        _a_walk_begins_where_it_was,
        _positions_in_no_order,
    ],
)
def test_the_mutant_is_caught(conn: Connection, connect: Connect, mutate: Callable[[Connection], None]) -> None:
    """Those of the pump of a stream take luck here; tests/store/test_streams.py makes them sure."""
    mutate(conn)
    other = connect()

    with pytest.raises((AssertionError, psycopg.errors.CheckViolation, pytest.fail.Exception)):
        run_state_machine_as_test(lambda: EventLife(conn, other), settings=MUTANT)  # type: ignore[arg-type]  # it only calls it
