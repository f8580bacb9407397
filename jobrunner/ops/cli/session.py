"""What every command has in common: its options, its connection, and how it speaks.

`command` registers a function whose first parameter is a `Session`; the options of a session are added to its own.
"""

from __future__ import annotations

import functools
import getpass
import inspect
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import psycopg
import typer
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rich.console import RenderableType

from jobrunner import config
from jobrunner.embedded import EmbeddedServer
from jobrunner.errors import ConfigError
from jobrunner.ops.cli import output
from jobrunner.store.failures import told_plainly
from jobrunner.store.migrate import check, installed, migrate

Connection: TypeAlias = psycopg.Connection[Any]

EMBEDDED_HOME = ".jobrunner/pg"
"""Where `--embedded` without a directory keeps its server."""

_CONNECT_SECONDS = "10"


@dataclass(frozen=True, slots=True)
class Session:
    """One run of a command."""

    dsn: str | None = None
    embedded: Path | None = None
    json: bool = False
    quiet: bool = False
    debug: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)
    """The arguments and options of the command itself, by the names of its parameters."""

    @contextmanager
    def server(self, *, migrated: bool = True) -> Iterator[str]:
        """The connection string; with --embedded the server runs inside the block, with the schema unless *migrated* is false."""
        if self.embedded is None:
            yield config.dsn(self.dsn)
            return
        if self.dsn:
            raise ConfigError("--embedded", "and --dsn name two servers: give one of them")
        with EmbeddedServer.start(self.embedded) as running:
            self.say(f"embedded PostgreSQL in {running.directory}: --dsn '{running.dsn}'")
            if migrated:
                with psycopg.connect(running.dsn, autocommit=True) as conn:
                    migrate(conn)
            yield running.dsn

    @contextmanager
    def connect(self, *, migrated: bool = True) -> Iterator[Connection]:
        """A connection in autocommit, to a schema that fits unless *migrated* is false. Raises errors of ours only."""
        with self.server(migrated=migrated) as dsn:
            with told_plainly(dsn):
                conn = connect(dsn)
            with conn, told_plainly(dsn, conn):
                if migrated:
                    check(installed(conn))
                yield conn

    def say(self, text: str) -> None:
        """Talk: one line on stderr, unless --quiet."""
        if not self.quiet:
            typer.echo(text, err=True)

    def show(self, data: Callable[[], object], view: Callable[[], RenderableType]) -> None:
        """Data: the JSON of *data* with --json, else *view*, on stdout."""
        if self.json:
            output.write_json(data())
        else:
            output.console().print(view())


def connect(dsn: str) -> Connection:
    """A connection as every command uses it: autocommit, READ COMMITTED, 10 s to connect unless the address says otherwise."""
    given = conninfo_to_dict(dsn)
    given.setdefault("application_name", "jobrunner")
    if "PGCONNECT_TIMEOUT" not in os.environ:
        given.setdefault("connect_timeout", _CONNECT_SECONDS)
    conn = psycopg.connect(make_conninfo("", **given), autocommit=True, prepare_threshold=None)
    level, pid = conn.execute("select current_setting('default_transaction_isolation'), pg_backend_pid()").fetchall()[0]
    if level != "read committed":  # what an op_* function needs
        if pid != conn.info.backend_pid:  # the session is a pooler's: somebody else would get it with our setting
            conn.close()
            raise ConfigError("default_transaction_isolation", _ISOLATION.format(level))
        conn.execute("set default_transaction_isolation = 'read committed'")
    return conn


_ISOLATION = (
    "of this role is {}, which cannot be changed through a pooler: alter role … set default_transaction_isolation = "
    "'read committed', or give the address of the server itself"
)


def actor() -> str:
    """Who runs the command, for the audit: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a uid that has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


_PANEL = "Common options"


def _common(
    dsn: Annotated[
        str | None,
        typer.Option(
            "--dsn",
            metavar="URL",
            help="The database; else JOBRUNNER_DSN, DATABASE_URL, then libpq's PG*.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    embedded: Annotated[
        Path | None,
        typer.Option(
            "--embedded",
            metavar="[DIR]",
            help=f"Run a private PostgreSQL for this command, in DIR (it needs a slash) or {EMBEDDED_HOME}.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.", rich_help_panel=_PANEL)] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Say nothing on stderr but errors.", rich_help_panel=_PANEL)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=_PANEL)
    ] = False,
) -> None:
    """The options of every command, before or after its name."""


COMMON = inspect.signature(_common, eval_str=True).parameters


def command(app: typer.Typer, name: str, **settings: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function as the command *name* of *app*; it gets a Session and then its own arguments."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(ctx: typer.Context, **given: Any) -> None:
            before = ctx.find_root().obj or {}
            common: dict[str, Any] = {option: given.pop(option) or before.get(option) for option in COMMON}
            function(Session(**common, given=given), **given)

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        declare(run, [context, *own])
        app.command(name, **settings)(run)
        return function

    return register


def declare(function: Callable[..., None], own: list[inspect.Parameter]) -> None:
    """Gives *function* the parameters *own* and the common ones, for Typer to read."""
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *COMMON.values())]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {one.name: one.annotation for one in parameters}


def remember_common(ctx: typer.Context, given: dict[str, Any]) -> None:
    """Keeps the common options that stood before the command's name."""
    ctx.obj = {option: given[option] for option in COMMON}


def expand_embedded(args: list[str]) -> list[str]:
    """*args* with a directory for every bare `--embedded`: a word is taken for one only when it has a slash in it."""
    out: list[str] = []
    rest = iter(range(len(args)))
    for n in rest:
        following = args[n + 1] if n + 1 < len(args) else ""
        if args[n] == "--":
            return out + args[n:]
        if args[n] != "--embedded":
            out.append(args[n])
        elif "/" in following or following in {".", ".."}:
            out.append(f"--embedded={following}")
            next(rest)
        else:
            out.append(f"--embedded={EMBEDDED_HOME}")
    return out
