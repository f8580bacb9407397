"""The schema in a database: install it, bring it forward, or say in one sentence why it does not fit.

A new database gets schema.sql; an older one the numbered migrations that it lacks; both then get every function of
sql/functions anew (they are versioned by name, so an older runner keeps its own). All of it is one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors

from jobrunner.errors import SchemaMismatch, SchemaMissing, SchemaTooNew, SchemaTooOld
from jobrunner.store.queries import names, query, text

SCHEMA_VERSION = 2
"""The schema that this library was written for: the number of the last file in sql/migrations."""

_VERSION = query("schema_version")
_EXISTS = query("schema_exists")
_LOCK_TRIES = 5


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration found and what is there now; *before* is None where there was nothing."""

    before: int | None
    after: int


def migrate(conn: psycopg.Connection[Any]) -> Migrated:
    """Install or upgrade the schema; does nothing but refresh the functions when it is current.

    Atomic, and safe to run from several places at once (one waits for the other). *conn* must not be in a transaction.
    Waits at most 2 s for a lock, five times, so that it never makes live traffic queue behind it for long.

    Raises:
        SchemaTooNew: a newer library has been here.
        SchemaMismatch: the version that is written there is one that no library writes.
        psycopg.errors.LockNotAvailable: somebody held a table all the time.
    """
    for tries_left in reversed(range(_LOCK_TRIES)):
        try:
            with conn.transaction():
                return _migrate(conn)
        except errors.LockNotAvailable:
            if not tries_left:
                raise
    raise AssertionError


def _migrate(conn: psycopg.Connection[Any]) -> Migrated:
    conn.execute("set local lock_timeout = '2s'")
    conn.execute("set local client_min_messages = warning")
    conn.execute("select pg_advisory_xact_lock(727002)")
    before = installed_version(conn)
    if before is None:
        conn.execute(text("schema.sql"))
    else:
        check_known(before)
        for path in names("migrations")[before:]:
            conn.execute(text(path))
        conn.execute(
            "update jobrunner.settings set value = to_jsonb(%s::int) where name = 'schema_version'", [SCHEMA_VERSION]
        )
    for path in names("functions"):
        conn.execute(text(path))
    conn.execute("select jobrunner.make_partitions(now(), 7)")
    return Migrated(before, SCHEMA_VERSION)


def installed_version(conn: psycopg.Connection[Any]) -> int | None:
    """The version of the schema in this database; None where there is none."""
    row = conn.execute(_EXISTS).fetchone()
    if row is None or not row[0]:
        return None
    found = conn.execute(_VERSION).fetchone()
    return None if found is None else int(found[0])


async def installed_version_async(conn: psycopg.AsyncConnection[Any]) -> int | None:
    """The same on an async connection."""
    row = await (await conn.execute(_EXISTS)).fetchone()
    if row is None or not row[0]:
        return None
    found = await (await conn.execute(_VERSION)).fetchone()
    return None if found is None else int(found[0])


def check_known(found: int) -> None:
    """Return when a schema of version *found* can be brought to this library's.

    Raises:
        SchemaTooNew, SchemaMismatch: one sentence with what to do.
    """
    if found > SCHEMA_VERSION:
        raise SchemaTooNew(found, SCHEMA_VERSION)
    if found < 1:
        cure = "set schema_version in jobrunner.settings back to what it was"
        problem = f"has version {found}, which no library wrote; {cure} ({SCHEMA_VERSION} for this library)"
        raise SchemaMismatch(found, SCHEMA_VERSION, problem)


def check(found: int | None) -> None:
    """Return when a schema of version *found* is the one that this library works with.

    Raises:
        SchemaMissing, SchemaTooOld, SchemaTooNew: one sentence with what to do.
    """
    if found is None:
        raise SchemaMissing(found, SCHEMA_VERSION)
    if found < SCHEMA_VERSION:
        raise SchemaTooOld(found, SCHEMA_VERSION)
    if found > SCHEMA_VERSION:
        raise SchemaTooNew(found, SCHEMA_VERSION)
