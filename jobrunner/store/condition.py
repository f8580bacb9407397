"""What doctor asks of the server and the schema. Takes a sync connection; reads only the catalogue, statistics and views."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import PurePosixPath

from jobrunner.store.queries import names, query
from jobrunner.store.reading import Connection, rows

_BLOCKERS = query("blockers")
_TABLES = query("tables")
_SERVER = query("server")
_DEATHS = query("deaths")
_LOCK_HOLDERS = query("lock_holders")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockerRow:
    """Somebody who keeps dead rows in every table."""

    pid: int | None
    kind: str
    """old_xact, idle_in_tx, prepared or slot."""
    name: str | None
    """Of a prepared transaction or a slot."""
    age: timedelta | None
    xmin_age: int | None
    """Transactions since its snapshot."""
    role: str | None
    application: str | None
    query_head: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One table, all its partitions together."""

    table_name: str
    live: int
    dead: int
    dead_pct: float | None
    last_autovacuum: datetime | None
    bytes: int
    oldest_partition: date | None
    partitions_ahead: int | None
    """Days; None where it has no partitions."""
    kept: timedelta | None
    """How long a day of it is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRow:
    """The server, the database, and the role that asks."""

    major: int
    encoding: str
    autovacuum: bool
    track_counts: bool
    is_standby: bool
    notifications: float
    """How full the queue of notifications is, 0 to 1."""
    sessions: int
    max_connections: int
    role: str
    sees_all_sessions: bool
    never_vacuumed: list[str]
    """Tables whose autovacuum somebody switched off."""
    owners: list[str]
    open_to_all: int
    """Functions that PUBLIC may execute, where there are roles for them."""
    missing_functions: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRow:
    """A session behind which everybody waits."""

    pid: int
    role: str | None
    application: str | None
    table_name: str
    """One of those that it has, or waits for."""
    age: timedelta | None
    """Of its transaction; None where this role may not see it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deaths:
    """Jobs that died."""

    last_hour: int
    usual: float
    """An hour, over the day before."""


def blockers(conn: Connection, longer: timedelta) -> list[BlockerRow]:
    """Who has kept dead rows for *longer*, the longest first; of others' sessions only what this role may see."""
    return rows(conn, BlockerRow, _BLOCKERS, {"longer": longer})


def tables(conn: Connection) -> list[TableRow]:
    """Every table, by name."""
    return rows(conn, TableRow, _TABLES, {})


def server(conn: Connection) -> ServerRow:
    """What jobrunner needs of the server."""
    functions = [PurePosixPath(path).stem for path in names("functions")]
    return rows(conn, ServerRow, _SERVER, {"functions": functions})[0]


def lock_holders(conn: Connection) -> list[LockRow]:
    """Who keeps everybody from reading a table; never waits for a table itself."""
    return rows(conn, LockRow, _LOCK_HOLDERS, {})


def deaths(conn: Connection) -> Deaths:
    """How many jobs died lately, and usually."""
    return rows(conn, Deaths, _DEATHS, {})[0]
