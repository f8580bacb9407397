"""The schema in a database: install it, bring it forward, or say in one sentence why it does not fit.

A new database gets schema.sql; an older one the numbered migrations that it lacks; both then get every function of
sql/functions anew (they are versioned by name, so an older runner keeps its own), and the grants. All of it is one transaction,
as jobrunner_owner where the database has the roles of sql/roles.sql.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors

from jobrunner.errors import SchemaMismatch, SchemaMissing, SchemaTooNew, SchemaTooOld
from jobrunner.store.queries import names, query, text

SCHEMA_VERSION = 3
"""The newest schema that this library was written for: the number of the last file in sql/migrations."""

OLDEST_SCHEMA = 3
"""The oldest one that it works with: its runners call functions that came with this one."""

_VERSION = query("schema_version")
_VERSION_2 = query("schema_version_2")
_AS_OWNER = query("as_owner")
_EXISTS = query("schema_exists")
_LOCK_TRIES = 5


@dataclass(frozen=True, slots=True)
class Installed:
    """The schema of a database."""

    version: int
    """Its own."""
    serves: int
    """Libraries that were written for this version, or a later one, still work with it. Each migration says how far back."""


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
    for (statement,) in conn.execute(_AS_OWNER).fetchall():
        conn.execute(statement)
    found = installed(conn)
    if found is None:
        conn.execute(text("schema.sql"))
    else:
        check_known(found)
        for path in names("migrations")[found.version :]:
            conn.execute(text(path))
        conn.execute(
            "update jobrunner.settings set value = to_jsonb(%s::int) where name = 'schema_version'", [SCHEMA_VERSION]
        )
    for path in names("functions"):
        conn.execute(text(path))
    conn.execute(text("grants.sql"))
    conn.execute("select jobrunner.make_partitions(now(), 7)")
    return Migrated(found.version if found else None, SCHEMA_VERSION)


def roles() -> str:
    """The SQL that makes the roles and grants what each may do, for a superuser; also in a database that has no schema yet."""
    return "\n".join([text("roles.sql"), text("grants.sql"), "commit;"])


def installed(conn: psycopg.Connection[Any]) -> Installed | None:
    """The schema in this database; None where there is none."""
    row = conn.execute(_EXISTS).fetchone()
    if row is None or not row[0]:
        return None
    found = conn.execute(_VERSION if row[1] else _VERSION_2).fetchone()
    return None if found is None else Installed(*found)


async def installed_async(conn: psycopg.AsyncConnection[Any]) -> Installed | None:
    """The same on an async connection."""
    row = await (await conn.execute(_EXISTS)).fetchone()
    if row is None or not row[0]:
        return None
    found = await (await conn.execute(_VERSION if row[1] else _VERSION_2)).fetchone()
    return None if found is None else Installed(*found)


def check_known(found: Installed) -> None:
    """Return when the schema *found* can be brought to this library's.

    Raises:
        SchemaTooNew, SchemaMismatch: one sentence with what to do.
    """
    if found.version > SCHEMA_VERSION:
        raise SchemaTooNew(found.version, SCHEMA_VERSION)
    if found.version < 1:
        cure = "set schema_version in jobrunner.settings back to what it was"
        problem = f"has version {found.version}, which no library wrote; {cure} ({SCHEMA_VERSION} for this library)"
        raise SchemaMismatch(found.version, SCHEMA_VERSION, problem)


def check(found: Installed | None) -> None:
    """Return when this library works with the schema *found*: one that it knows, or a newer one that still serves it.

    Only runners and people's commands ask. Enqueuing and publishing do not: their functions keep their meaning for ever.

    Raises:
        SchemaMissing, SchemaTooOld, SchemaTooNew: one sentence with what to do.
    """
    if found is None:
        raise SchemaMissing(found, SCHEMA_VERSION)
    if found.version < OLDEST_SCHEMA:
        raise SchemaTooOld(found.version, OLDEST_SCHEMA)
    if found.version > SCHEMA_VERSION < found.serves:
        raise SchemaTooNew(found.version, SCHEMA_VERSION)
