"""The fixtures, for pytest, which finds them by itself. Give them your test database in your conftest.py:

@pytest.fixture(scope="session")
def jobrunner_dsn() -> str:
    return "postgresql://localhost/shop_test"                # migrated: `jobrunner migrate`, and your own tables
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import psycopg


@pytest.fixture
def jobrunner_dsn() -> str:
    """The address of a migrated test database: override it, or set JOBRUNNER_TEST_DSN."""
    dsn = os.environ.get("JOBRUNNER_TEST_DSN")
    if not dsn:
        pytest.fail(
            "which database? override the fixture jobrunner_dsn in conftest.py, or set JOBRUNNER_TEST_DSN",
            pytrace=False,
        )
    return dsn


@pytest.fixture
def jobrunner_conn(jobrunner_dsn: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection in a transaction that is rolled back after the test; assertions look through it."""
    from jobrunner.testing.connections import opened

    with opened(jobrunner_dsn) as conn:
        yield conn


@pytest.fixture
def jobrunner_aconn(
    jobrunner_conn: psycopg.Connection[tuple[Any, ...]],
) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    """The same session and transaction as an AsyncConnection, for async tests under any plugin."""
    from jobrunner.testing.connections import async_twin

    return async_twin(jobrunner_conn)
