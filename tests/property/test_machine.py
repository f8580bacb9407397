"""Promises 1, 2, 4 and 5 under whatever order of events Hypothesis can think of, on real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.machine import Life
from tests.store import calls
from tests.store.calls import Connection

CI = settings(
    max_examples=120, stateful_step_count=40, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
LONG = settings(CI, max_examples=1500, stateful_step_count=60)
MUTANT = settings(CI, max_examples=300, derandomize=True, phases=[Phase.generate], report_multiple_bugs=False)
"""The same steps in every run: caught once is caught always."""


@pytest.mark.pg16
def test_whatever_happens_the_promises_hold(conn: Connection) -> None:
    run_state_machine_as_test(lambda: Life(conn), settings=CI)  # type: ignore[arg-type]  # it only calls it


@pytest.mark.slow
@pytest.mark.pg16
def test_whatever_happens_the_promises_hold_for_long(conn: Connection) -> None:
    run_state_machine_as_test(lambda: Life(conn), settings=LONG)  # type: ignore[arg-type]  # it only calls it


def _hand_back_refunds_the_attempt(conn: Connection) -> None:
    """The same number is given out twice: a repeated hand-back ends the next claim."""
    calls.replace(
        conn,
        "settle_v1",
        (
            "        set state = f.state,",
            "        set attempt = j.attempt - case when f.state = 'ready' then 1 else 0 end, state = f.state,",
        ),
    )


def _settle_without_the_runner(conn: Connection) -> None:
    calls.replace(conn, "settle_v1", ("                and x.runner_id + 0 = _runner\n", ""))


def _a_lost_runner_claims(conn: Connection) -> None:
    calls.replace(conn, "claim_v1", ("where r.id = _runner and r.lost_at is null)", "where r.id = _runner)"))


def _requeue_keeps_the_place_in_the_line(conn: Connection) -> None:
    """A dead job would come back without a seat."""
    calls.replace(
        conn,
        "op_requeue",
        ("when j.key is not null and not j.holds_key then 'blocked'", "when false then 'blocked'"),
        (
            "= _chosen[1]) and j.key is not null and not j.holds_key then 'arrival'",
            "= _chosen[1]) and false then 'arrival'",
        ),
    )


@pytest.mark.parametrize(
    "mutate",
    [
        _hand_back_refunds_the_attempt,
        _settle_without_the_runner,
        _a_lost_runner_claims,
        _requeue_keeps_the_place_in_the_line,
    ],
)
def test_the_mutant_is_caught(conn: Connection, mutate: Callable[[Connection], None]) -> None:
    mutate(conn)

    with pytest.raises((AssertionError, psycopg.errors.CheckViolation, pytest.fail.Exception)):
        run_state_machine_as_test(lambda: Life(conn), settings=MUTANT)  # type: ignore[arg-type]  # it only calls it
