"""A newer library migrates while older services run: they enqueue, claim and settle as before, and nobody waits for long."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import pytest

from jobrunner.store.migrate import SCHEMA_VERSION, Installed, installed, migrate
from jobrunner.store.queries import names, text
from tests.store.calls import Connection
from tests.support import wait_until

pytestmark = pytest.mark.pg16

CALLED = Path(__file__).with_name("version_2.txt").read_text(encoding="utf-8").splitlines()
"""What libraries of schema version 2 called: every function with its arguments and result."""

REGISTER = "select jobrunner.register_v1(7, '30 s', 10, 'shop', 'old', 1, '0.1.0', null, %s::jsonb)"
CLAIM = "select id from jobrunner.claim_v1(7, 10, '{default}', '{0}', '{0}', '{shop.pay}', '{1}')"


@pytest.fixture
def at_version_2(bare_dsn: str) -> Any:
    """A database as a library of version 2 left it, with one of its runners, one of its jobs running and one ready."""
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        for path in [*names("migrations")[:2], *names("functions")]:
            conn.execute(text(path))
        conn.execute("drop function jobrunner.register_v2; select jobrunner.make_partitions(now(), 7)")
        conn.execute("update jobrunner.settings set value = '2' where name = 'schema_version'")
        conn.execute(
            REGISTER,
            ['[{"name": "shop.pay", "version": 1, "queue": "default", "priority": 0, "max_attempts": 5, "retry": {}}]'],
        )
        conn.execute("select jobrunner.enqueue('shop.pay')")
        conn.execute(CLAIM)
        conn.execute("select jobrunner.enqueue('shop.pay')")
        yield conn


def test_what_version_2_called_is_there_unchanged(tx: Connection) -> None:
    there = tx.execute(
        """select p.proname || '(' || pg_get_function_arguments(p.oid) || ') returns ' || pg_get_function_result(p.oid)
           from pg_proc p where p.pronamespace = 'jobrunner'::regnamespace"""
    )

    assert len(CALLED) > 50
    assert set(CALLED) - {one for (one,) in there.fetchall()} == set()


def test_an_older_service_goes_on_through_a_migration(at_version_2: Connection, bare_dsn: str) -> None:
    with psycopg.connect(bare_dsn) as service:
        service.execute("select jobrunner.enqueue('shop.pay'), jobrunner.publish('order.paid', '{}')")
        service.commit()

        found = migrate(at_version_2)

        # The same calls, in its transaction; then what its runner does: claim, settle, beat.
        service.execute("select jobrunner.enqueue('shop.pay'), jobrunner.publish('order.paid', '{}')")
        service.commit()
    assert (found.before, found.after) == (2, SCHEMA_VERSION)
    assert installed(at_version_2) == Installed(SCHEMA_VERSION, serves=2)
    assert len(at_version_2.execute(CLAIM).fetchall()) == 3
    assert at_version_2.execute("select alive from jobrunner.beat_v1(7, 4, true)").fetchone() == (True,)
    running = at_version_2.execute(
        "select array_agg(id order by id), array_agg(attempt order by id) from jobrunner.jobs"
    ).fetchone()
    assert running is not None
    assert at_version_2.execute("select jobrunner.finish_v1(7, %s, %s)", running).fetchone() == (running[0],)
    assert at_version_2.execute("select runner, poll, schema_newest from jobrunner.v_runner").fetchall() == [
        (7, None, None)
    ]
    assert at_version_2.execute("select count(*) from jobrunner.v_job where state = 'succeeded'").fetchone() == (4,)


def test_a_login_that_had_rights_on_tables_goes_on(at_version_2: Connection, bare_dsn: str) -> None:
    """At version 2 functions were open to all and acted with the caller's rights."""
    at_version_2.execute("drop role if exists jobrunner_test_old; create role jobrunner_test_old login")
    try:
        at_version_2.execute(
            """grant usage on schema jobrunner to jobrunner_test_old;
               grant select, insert, update, delete on all tables in schema jobrunner to jobrunner_test_old;
               grant usage, select, update on all sequences in schema jobrunner to jobrunner_test_old"""
        )
        with psycopg.connect(bare_dsn, user="jobrunner_test_old", autocommit=True) as service:
            service.execute("select jobrunner.enqueue('shop.pay')")
            migrate(at_version_2)
            service.execute("select jobrunner.enqueue('shop.pay'), jobrunner.publish('order.paid', '{}')")
            assert len(service.execute(CLAIM).fetchall()) == 3
    finally:
        at_version_2.execute("drop owned by jobrunner_test_old; drop role jobrunner_test_old")


def test_a_migration_that_meets_a_lock_lets_others_pass_and_comes_again(
    at_version_2: Connection, bare_dsn: str, background: Callable[..., Future[Any]]
) -> None:
    """A dump holds every table for as long as it takes; an ALTER that waits for it makes everybody else wait behind it."""
    with psycopg.connect(bare_dsn) as dump, psycopg.connect(bare_dsn, autocommit=True) as service:
        dump.execute("select * from jobrunner.v_runner")
        migrating = background(migrate, at_version_2)
        wait_until(lambda: _alters(service), what="the migration to wait for the dump")

        began = monotonic()
        assert service.execute("select alive from jobrunner.beat_v1(7, 0, true)").fetchone() == (True,)
        assert monotonic() - began < 3, "a heartbeat waits for one try of the migration at the most"

        dump.rollback()
        assert migrating.result(20).after == SCHEMA_VERSION


def _alters(conn: Connection) -> bool:
    waits = (
        "select from pg_stat_activity where wait_event_type = 'Lock' and query like '%alter table jobrunner.runners%'"
    )
    return conn.execute(waits).fetchone() is not None
