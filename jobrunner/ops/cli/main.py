"""The command line as a whole: its commands, and the one place where an error becomes a sentence and an exit code."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import psycopg
import typer
from typer.main import get_command

from jobrunner.errors import JobrunnerError
from jobrunner.ops.cli import (
    adopt,
    asyncapi,
    dead,
    demo,
    doctor,
    enqueue,
    events,
    jobs,
    publish,
    queues,
    replay,
    run,
    sagas,
    sql,
    status,
    subs,
    trace,
    web,
)
from jobrunner.ops.cli.session import declare, expand_embedded, remember_common
from jobrunner.store.failures import in_our_words
from jobrunner.version import VERSION

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A Postgres-only outbox and job runner.",
    epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 unhealthy, 4 not found, 5 conflict, 6 database unavailable, 7 refused, "
    "130 Ctrl-C, 143 SIGTERM.",
)
for part in (run, web, enqueue, publish, status, doctor, queues, trace, sql, demo, asyncapi):
    app.registered_commands += part.top.registered_commands
for name, group in (
    ("jobs", jobs.app),
    ("dead", dead.app),
    ("adopt", adopt.app),
    ("queues", queues.app),
    ("events", events.app),
    ("subs", subs.app),
    ("replay", replay.app),
    ("sagas", sagas.app),
):
    app.add_typer(group, name=name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; see `jobrunner.errors` for the codes."""
    args = expand_embedded(list(sys.argv[1:] if argv is None else argv))
    debug = "--debug" in args
    try:
        with _terminable():
            code = _whole().main(args=args, prog_name="jobrunner", standalone_mode=False)
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return 130
    except typer.Abort:
        return _fail("stopped", 130)
    except SystemExit as ended:  # SIGTERM, or a reader that went away: nobody is left to talk to
        return ended.code if isinstance(ended.code, int) else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter flushes stdout once more, and complains
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _explain(error, debug=debug)


def _whole() -> Any:
    whole = get_command(app)
    _hide_types_of_flags(whole, None)
    return whole


def _hide_types_of_flags(command: Any, above: typer.Context | None) -> None:
    """A flag takes no value, and Typer would show one in its help: <bool>."""
    context = typer.Context(command, above, **command.context_settings)  # the option of help is made from it, once
    for option in command.get_params(context):
        if getattr(option, "is_flag", False):
            option.metavar = ""
    for inner in getattr(command, "commands", {}).values():
        _hide_types_of_flags(inner, context)


def _explain(error: Exception, *, debug: bool) -> int:
    if isinstance(error, psycopg.Error):
        error = in_our_words(error, "") or error
    if isinstance(error, JobrunnerError):
        return _fail(str(error), error.exit_code)
    if (usage := _usage(error)) is not None:
        return _fail(usage, 2) if usage else 2  # empty: no command was given, and the help has been shown instead
    hint = "" if debug else "; this is a bug: run it again with --debug for the traceback"
    told = " ".join(str(error).split()) or "no message"
    return _fail(f"unexpected {type(error).__name__}: {told}{hint}", 1)


def _usage(error: Any) -> str | None:
    """The sentence of one of Typer's usage errors, whose class is not public; None for any other error."""
    if not hasattr(error, "format_message"):
        return None
    said = str(error.format_message()).rstrip(".")
    command = error.ctx.command_path if getattr(error, "ctx", None) else "jobrunner"
    return said and f"{said[0].lower()}{said[1:]}{'' if said.endswith('?') else ';'} see {command} --help"


def _fail(sentence: str, code: int) -> int:
    typer.echo(f"error: {sentence}", err=True)
    return code


@contextmanager
def _terminable() -> Iterator[None]:
    """Inside, SIGTERM unwinds like an exception, so that an embedded server is stopped; `run` puts its own handler above."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# -------------------------------------------------------------------------------------------------------- the root


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jobrunner {VERSION}")
        raise typer.Exit


_VERSION = typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")


def _root(ctx: typer.Context, show_version: Annotated[bool, _VERSION] = False, **given: Any) -> None:
    remember_common(ctx, given)


declare(_root, list(inspect.signature(_root, eval_str=True).parameters.values())[:2])
app.callback()(_root)
