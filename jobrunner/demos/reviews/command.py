"""`jobrunner demo reviews`: submit an import, run it, watch it, report it; or go on with one that was killed.

The process is the submitting service, the runner and the person who watches, in one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import psycopg
import typer
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobrunner.demos.reviews import imports, report
from jobrunner.demos.reviews.source import Source, examine, made
from jobrunner.demos.reviews.tasks import app, submit
from jobrunner.embedded import EmbeddedServer
from jobrunner.errors import ConfigError, JobrunnerError
from jobrunner.policy.progress import Progress
from jobrunner.store.failures import told_plainly
from jobrunner.store.migrate import migrate
from jobrunner.worker.runner import Runner

LEASE = "5s"
"""Short, so that the jobs of a killed process are back soon after the next start."""

GRACE = "500ms"
"""No chunk ends sooner for being waited for, and its cursor loses nothing when it is cancelled."""

T = TypeVar("T")

_LOOK = 0.2  # seconds between two looks at the progress
_MADE_ROWS = 10_000
_SETUP_LOCK = 727_100  # two starts at once apply the demo's schema one after the other


def command(
    input: Annotated[  # noqa: A002 (the option's name)
        str | None, typer.Option(metavar="FILE|URL", help="JSON lines to import, plain or gzip.", show_default=False)
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(min=1, help="Make this many reviews instead, 1 % bad lines and 1 % duplicates among them."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same reviews.")] = 1,
    dsn: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The database; without it a temporary PostgreSQL is started for this run."),
    ] = None,
    provider: Annotated[str, typer.Option(help="The provider_id of every review.")] = "demo",
    slots: Annotated[int, typer.Option(min=1, help="Jobs that run at a time: 1 watches, 8 import.")] = 10,
    errors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all bad lines here, as JSON lines.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing on stderr but errors.")] = False,
) -> None:
    """Import hotel reviews in bulk: one job splits the file, eight store its parts, a transaction every 100 lines.

    Killed half-way and started again with the same arguments and --dsn, it goes on where it was; every good line is
    stored exactly once. Exits with 0 when every line is accounted for, bad ones included.
    """
    if input is not None and rows is not None:
        raise ConfigError("--input", "and --rows name two sources: give one of them")
    _check_writable(errors)
    source = made(rows or _MADE_ROWS, seed) if input is None else examine(input)
    with _database(dsn, quiet=quiet) as (address, folder), told_plainly(address):
        _set_up(address)
        try:
            import_id = _run(_import(address, source, provider=provider, folder=folder, slots=slots, quiet=quiet))
        except (KeyboardInterrupt, SystemExit):
            _say(
                "stopped; the same command goes on with this import" if dsn else "stopped; its server is gone with it",
                quiet=quiet,
            )
            raise
        _run(_report(address, import_id, source, errors=errors, json=json, quiet=quiet))


def _check_writable(errors: Path | None) -> None:
    """Before anything starts: an import of an hour must not end with a report that cannot be written."""
    if errors is None:
        return
    place = errors if errors.exists() else errors.absolute().parent
    if errors.is_dir():
        raise ConfigError("--errors", f"must name a file, and {errors} is a directory")
    if not place.exists():
        raise ConfigError("--errors", f"cannot be written: there is no directory {place}")
    if not place.is_dir() and place != errors:
        raise ConfigError("--errors", f"cannot be written: {place} is not a directory")
    if not os.access(place, os.W_OK):
        raise ConfigError("--errors", f"cannot be written: no permission for {place}")


def _run(work: Coroutine[Any, Any, T]) -> T:
    """asyncio.run, where SIGTERM and SIGINT cancel *work*: raised from inside a handler they would pass for its failure."""
    if threading.current_thread() is not threading.main_thread():
        return asyncio.run(work)
    caught: list[int] = []

    async def stoppable() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def stop(number: int) -> None:
            if not caught:  # once: the runner is saying good-bye
                caught.append(number)
                for name in ("psycopg", "psycopg.pool"):  # of connections that are cut off on purpose
                    logging.getLogger(name).setLevel(logging.CRITICAL)
                task.cancel()

        for number in before:
            loop.add_signal_handler(number, stop, number)
        return await work

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        if not caught:
            raise
        raise KeyboardInterrupt if caught[0] == signal.SIGINT else SystemExit(128 + caught[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _database(dsn: str | None, *, quiet: bool) -> Iterator[tuple[str, Path | None]]:
    """Its address, and a folder that goes when it goes: even after a kill nothing is left of a temporary one."""
    if dsn:
        yield dsn, None
        return
    _say("starting a temporary PostgreSQL; --dsn names one that stays", quiet=quiet)
    with EmbeddedServer.start() as server:
        yield server.dsn, server.directory


def _set_up(dsn: str) -> None:
    with psycopg.connect(
        make_conninfo("", **{"connect_timeout": 10, **conninfo_to_dict(dsn)}), autocommit=True, prepare_threshold=None
    ) as conn:
        migrate(conn)
        with conn.transaction():
            conn.execute("set local client_min_messages = warning")
            conn.execute("select pg_advisory_xact_lock(%s)", [_SETUP_LOCK])
            conn.execute(imports.SCHEMA)


async def _import(dsn: str, source: Source, *, provider: str, folder: Path | None, slots: int, quiet: bool) -> int:
    """Submits the import, or finds the one to go on with, and runs it to its end; returns its id."""
    async with await AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None) as conn:
        unfinished = await imports.unfinished(conn, source, provider)
        if unfinished is None:
            async with conn.transaction():
                import_id = await submit(conn, source, provider=provider, folder=folder)
        else:
            import_id = unfinished
            _say(f"import {import_id} of this source is not finished: going on with it", quiet=quiet)
        this = await imports.get(conn, import_id)
        _say(f"import {import_id}: {source.name}, job {this.job_id}", quiet=quiet)
        async with Runner(app, dsn, slots=slots, lease=LEASE, grace=GRACE) as runner:
            with report.live(f"import {import_id}", quiet=quiet) as show:
                await _follow(conn, this, runner, show, requeue=unfinished is not None)
    return import_id


async def _follow(
    conn: AsyncConnection[Any], this: imports.Import, runner: Runner, show: report.Show, *, requeue: bool
) -> None:
    """Shows what `jobs show` would, until the import has ended; *requeue*: gives dead jobs another life, once."""
    while True:
        state, progress = await _look(conn, this.job_id)
        show(progress)
        match state:
            case "succeeded":
                return
            case "dead" if requeue:  # its third crash, or a trouble that was mended before this start
                requeue = False
                await imports.requeue(conn, this.id)
            case "dead" | "cancelled":
                why = f"import {this.id} is {state}: {progress.message}"
                raise JobrunnerError(f"{why}; `jobrunner jobs show {this.job_id}` has the details")
            case _:
                if runner.failure is not None:
                    raise runner.failure
                await asyncio.sleep(_LOOK)


async def _look(conn: AsyncConnection[Any], job_id: int) -> tuple[str, Progress]:
    cursor = await conn.execute(
        """
        select
            j.state,
            case
                when j.state in ('dead', 'cancelled') then coalesce(j.error, j.reason)
                when j.blocked_on = 'key' then 'another import runs: waiting for its turn'
                when j.state = 'scheduled' and j.error is not null then 'will try again after: ' || j.error
                else j.message
            end,
            p.total,
            coalesce(p.processed, 0),
            coalesce(p.failed, 0),
            coalesce(p.started_at, now()),
            now()
        from jobrunner.v_job j
        left join jobrunner.job_progress p on p.job_id = j.id
        where j.id = %s
        """,
        [job_id],
    )
    row = await cursor.fetchone()
    assert row is not None
    state, message, total, processed, failed, started_at, now = row
    return state, Progress.compute(total, processed, failed, message, started_at, now)


async def _report(dsn: str, import_id: int, source: Source, *, errors: Path | None, json: bool, quiet: bool) -> None:
    async with await AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None) as conn:
        found, bad = await report.figures(conn, import_id), await report.groups(conn, import_id)
        if errors is not None:
            await report.write_errors(conn, import_id, errors)
    if not (quiet and json):  # with --json they go to stderr
        report.show_groups(report.console(err=json), bad, errors)
    if found.submitted == 0:
        _say(f"{source.name} has blank lines only: 0 lines to import", quiet=quiet)
    if json:
        sys.stdout.write(f"{report.as_json(found)}\n")
    else:
        report.show_figures(report.console(err=False), source.name, found)
    if found.processed + found.failed + found.duplicates != found.submitted:
        raise JobrunnerError(f"import {import_id} does not account for every line; this is a bug, please report it")


def _say(text: str, *, quiet: bool = False) -> None:
    if not quiet:
        typer.echo(text, err=True)
