"""The private PostgreSQL 18 that a benchmark runs on: one server for all contenders, a fresh database for each run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobrunner.embedded import EmbeddedServer

SETTINGS = {
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",  # no checkpoint falls into one run and not into another
    "checkpoint_timeout": "30min",
}
"""What differs from PostgreSQL's own defaults. fsync and synchronous_commit are on."""

VARIABLES = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}


@dataclass(frozen=True, slots=True)
class Database:
    """One database of the benchmark's server."""

    dsn: str
    environment: dict[str, str]
    """The same place in libpq's variables, which every driver of every peer reads."""

    def connect(self) -> psycopg.Connection[Any]:
        """A new autocommit connection, unprepared."""
        return psycopg.connect(self.dsn, autocommit=True, prepare_threshold=None)

    def settle_down(self) -> None:
        """Statistics, visibility and a checkpoint, so that every drain starts from the same state."""
        with self.connect() as conn:
            conn.execute("vacuum (analyze)")
            conn.execute("checkpoint")

    def expect(self, table: LiteralString, rows: int) -> None:
        """See that *table* has exactly so many rows."""
        with self.connect() as conn:
            found = conn.execute(f"select count(*) from {table}").fetchone()
        if found != (rows,):
            raise RuntimeError(f"{table} has {found} rows, not {rows}")


@dataclass(frozen=True, slots=True)
class Server:
    """A running PostgreSQL."""

    dsn: str
    version: str

    @contextmanager
    def database(self, name: str) -> Iterator[Database]:
        """A new, empty database; dropped at the end, sessions and all."""
        with psycopg.connect(self.dsn, autocommit=True) as admin:
            admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            try:
                dsn = make_conninfo(self.dsn, dbname=name)
                parts = conninfo_to_dict(dsn)
                yield Database(dsn, {variable: str(parts[part]) for part, variable in VARIABLES.items()})
            finally:
                admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@contextmanager
def server() -> Iterator[Server]:
    """PostgreSQL 18 with `SETTINGS`, on temporary storage; stopped and removed at the end."""
    with EmbeddedServer.start(settings=SETTINGS) as embedded:
        with psycopg.connect(embedded.dsn) as conn:
            version = conn.info.parameter_status("server_version") or "?"
        yield Server(embedded.dsn, version)
