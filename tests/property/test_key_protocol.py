"""Keys, hammered: one at a time, in order, never stuck, by eight sessions at once; and each mutant is caught."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.property import hammer
from tests.store import calls
from tests.store.calls import Connection

SECONDS = 7.0
MUTANT_SECONDS = 20.0
"""At most: it ends at the first violation, mostly within one, also on a machine that does something else beside it."""


@pytest.mark.pg16
def test_eight_sessions_keep_the_key_protocol(dsn: str) -> None:
    hammered = hammer.run(dsn, SECONDS)

    assert hammered.found == [], hammered.did
    for happened in (
        "zombies refused",
        "given back",
        "in place",
        "swept",
        "settled dead",
        "settled scheduled",
        "cancelled",
    ):
        assert hammered.did[happened] > 2, f"the hammer did not hit: {hammered.did}"


@pytest.mark.slow
@pytest.mark.pg16
@pytest.mark.parametrize("seed", [1, 2])
def test_eight_sessions_keep_the_key_protocol_for_a_minute(dsn: str, seed: int) -> None:
    hammered = hammer.run(dsn, 60, seed)

    assert hammered.found == [], hammered.did


LINGER = ("    perform jobrunner.wake(_queues);", "    perform pg_sleep(0.05), jobrunner.wake(_queues);")
"""A seat step that stays open for a while: what goes wrong beside it goes wrong at once, however busy the machine is."""


def _seat_without_holding_the_holders(conn: Connection) -> None:
    calls.replace(conn, "seat_rows_v1", LINGER, ("            for key share skip locked\n", ""))


def _settle_with_the_weaker_lock(conn: Connection) -> None:
    """A seat step may hold the row then, and the job dies without giving up its key."""
    calls.replace(conn, "seat_rows_v1", LINGER)
    calls.replace(
        conn, "settle_v1", ("            for update skip locked", "            for no key update skip locked")
    )


def _settle_without_the_fence(conn: Connection) -> None:
    calls.replace(
        conn,
        "settle_v1",
        (
            "                and x.attempt = f.attempt\n                and x.runner_id + 0 = _runner\n",
            "",
        ),
    )


@pytest.mark.parametrize(
    "mutate", [_seat_without_holding_the_holders, _settle_with_the_weaker_lock, _settle_without_the_fence]
)
def test_the_mutant_is_caught(dsn: str, mutate: Callable[[Connection], None]) -> None:
    """The fourth, a departure in one statement, takes luck here; tests/store/test_keys.py makes it sure."""
    hammered = hammer.run(dsn, MUTANT_SECONDS, mutate=mutate)

    assert hammered.found != []
