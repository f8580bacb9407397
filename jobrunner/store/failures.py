"""What an error of psycopg means to a person: takes the exception, returns the error of ours that says what to do.

Store functions let psycopg's errors pass; whoever talks to a person translates them here, once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from jobrunner.errors import (
    ConfigError,
    Conflict,
    DatabaseUnavailable,
    InvalidJob,
    JobrunnerError,
    MissingPrivilege,
    NotFound,
    ReadOnlyServer,
    SchemaMismatch,
)
from jobrunner.store.migrate import SCHEMA_VERSION

BAD_CALL = "JR003"
"""Raised by the SQL functions for arguments that they refuse, with a sentence."""

CANNOT_BE = "JR004"
"""Raised by the SQL functions for what cannot be right in the state that there is, with a sentence."""

NOT_THERE = "JR005"
"""Raised by the SQL functions for a name that nothing has, with a sentence."""

_OURS = "jobrunner: "
"""How the sentences of the SQL functions begin."""

_UNKNOWN_OBJECT = {"3F000", "42P01", "42703", "42704", "42883"}

_SECRETS = re.compile(
    r"""(?<=host\ ['"])[^'"]*@ | (?<=host\ name\ ['"])[^'"]*@ | (?<=integer\ value\ )"[^"]*" """, re.VERBOSE
)
"""A password with an unescaped @ or / ends up as a part of the host or as the port, and libpq quotes those."""

_REMEDIES = (
    ("password authentication failed", "check the user and the password"),
    ("no password supplied", "give the password in the address, in PGPASSWORD or in ~/.pgpass"),
    ("does not exist", "check the name, or create it first"),
    ("no pg_hba.conf entry", "ask the server's owner to let you in (pg_hba.conf)"),
    ("too many", "try again when other clients have gone, or put a pooler in front"),
    ("remaining connection slots", "try again when other clients have gone, or put a pooler in front"),
    ("starting up", "try again in a moment"),
    ("shutting down", "try again in a moment"),
    ("SSL", "check sslmode in the address"),
)


@contextmanager
def told_plainly(dsn: str, conn: psycopg.Connection[Any] | None = None) -> Iterator[None]:
    """Inside, an error of psycopg is raised as the error of ours that `in_our_words` finds."""
    try:
        yield
    except psycopg.Error as error:
        ours = in_our_words(error, dsn, "" if conn is None else conn.info.user)
        if ours is None:
            raise
        raise ours from error


def in_our_words(error: psycopg.Error, dsn: str, role: str = "") -> JobrunnerError | None:
    """The error of ours that *error* amounts to; None for one that only a bug explains. Never shows a password."""
    said = error.diag.message_primary or str(error)
    match error.sqlstate:
        case None if isinstance(error, psycopg.OperationalError):
            return _no_connection(str(error), dsn)
        case None if isinstance(error, psycopg.ProgrammingError):
            return ConfigError("the address of the database (--dsn)", _malformed(said))
        case "25006":
            return ReadOnlyServer(dsn, said)
        case "42501":
            return MissingPrivilege(role or _role(dsn), _denied(said))
        case "55P03" if said.startswith(_OURS):
            return Conflict("do this now", said.removeprefix(_OURS))
        case "55P03":
            return Conflict("change the schema", "another session holds a table that it needs; try again in a moment")
        case "57014":
            return DatabaseUnavailable(dsn, said, "raise statement_timeout, or ask for less at once")
        case state if state == BAD_CALL:
            return InvalidJob(said.removeprefix(_OURS))
        case state if state == CANNOT_BE:
            return Conflict("do this", said.removeprefix(_OURS))
        case state if state == NOT_THERE:
            return _not_there(said.removeprefix(_OURS))
        case state if state in _UNKNOWN_OBJECT:
            return SchemaMismatch(None, SCHEMA_VERSION, f"is not complete ({said}); run `jobrunner migrate`")
        case str() as state if state[:2] in {"08", "28", "3D", "53", "57"}:
            return _no_connection(said, dsn)
        case _:
            return None


def _denied(said: str) -> str:
    found = re.fullmatch(r"permission denied for (.+)", said)
    return f"use {found[1]}" if found else f"do this ({said})"


def _not_there(said: str) -> NotFound:
    if found := re.fullmatch(r"there is no (subscription|replay|saga) (.+)", said):
        lists = {"subscription": "subs list", "replay": "replay list", "saga": "sagas list"}[found[1]]
        return NotFound(found[1], found[2], f"list them with: jobrunner {lists}")
    if found := re.fullmatch(r"no dead delivery blocks key (.+) of subscription (.+)", said):
        where = f"blocks key {found[1]} of {found[2]}"
        return NotFound("dead delivery that", where, f"look at it with: jobrunner subs show {found[2]}")
    return NotFound("such thing:", said, "look what there is with: jobrunner status")


def _no_connection(said: str, dsn: str) -> DatabaseUnavailable:
    # With several addresses libpq tells each failure on a line, and indents its advice below; the last one counts.
    *_, last = [line for line in said.splitlines() if line.strip() and not line.startswith("\t")] or ["no connection"]
    reason = last.removeprefix("connection failed: ").removeprefix("connection is bad: ")
    reason = _SECRETS.sub("***", reason.rpartition("FATAL:")[2].strip())
    if "session is read-only" in reason or "hot standby" in reason:
        return ReadOnlyServer(dsn)
    remedy = next((remedy for mark, remedy in _REMEDIES if mark in reason), None)
    return DatabaseUnavailable(dsn, reason, remedy)


def _role(dsn: str) -> str:
    """The role that *dsn* connects as: what it says, else what libpq takes."""
    default = next((one.val for one in pq.Conninfo.get_defaults() if one.keyword == b"user" and one.val), b"in use")
    return str(conninfo_to_dict(dsn).get("user") or default.decode())


def _malformed(said: str) -> str:
    # libpq quotes the whole text here, and a password may be anywhere in it.
    if 'missing "="' in said:
        return 'is neither a URL (postgresql://user@host/database) nor "name=value" pairs'
    return f"cannot be read: {said}"
