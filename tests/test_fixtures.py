"""The fixtures that every other test stands on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import psycopg
import pytest

from jobrunner.embedded import EmbeddedServer
from tests.conftest import Connect, Connection
from tests.support import eventually, wait_until

pytestmark = pytest.mark.pg16


def test_the_server_has_the_major_that_was_asked_for(conn: Connection, pg_major: int) -> None:
    assert conn.info.server_version // 10000 == pg_major


@pytest.mark.parametrize("_time", [1, 2])
def test_each_test_has_a_database_of_its_own(conn: Connection, _time: int) -> None:
    conn.execute("create table mine ()")

    assert conn.execute("select to_regclass('jobrunner.jobs') is not null").fetchone() == (True,)


@pytest.mark.parametrize("_time", [1, 2])
def test_what_tx_does_is_rolled_back(tx: Connection, _time: int) -> None:
    tx.execute("create table mine ()")


def test_a_bare_database_has_no_schema(bare_dsn: str) -> None:
    with psycopg.connect(bare_dsn) as conn:
        assert conn.execute("select to_regnamespace('jobrunner') is null").fetchone() == (True,)


def test_blocked_returns_only_when_the_session_truly_waits(
    conn: Connection,
    connect: Connect,
    background: Callable[..., Future[Any]],
    blocked: Callable[[Connection], None],
) -> None:
    other = connect()
    conn.execute("create table seats (id int primary key)")

    with conn.transaction():
        conn.execute("insert into seats values (1)")
        waiting = background(other.execute, "insert into seats values (1) on conflict do nothing")
        blocked(other)
        assert not waiting.done()

    assert waiting.result(10).rowcount == 0


def test_wait_until_fails_with_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"the moon did not come within 0\.01 s"):
        wait_until(lambda: False, deadline=0.01, what="the moon")


async def test_an_async_test_runs_and_may_wait_for_its_own_loop() -> None:
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, done.set)

    assert await eventually(done.is_set)


def test_a_server_of_ones_own_has_the_schema_and_may_crash(server: EmbeddedServer) -> None:
    server.restart("immediate")

    with psycopg.connect(server.dsn) as conn:
        assert conn.execute("select to_regclass('jobrunner.jobs') is not null").fetchone() == (True,)
