"""`jobrunner migrate` and `jobrunner run`: what a deployment starts."""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from jobrunner.errors import ConfigError, JobrunnerError
from jobrunner.ops import logs
from jobrunner.ops.cli import fleet, output, probing
from jobrunner.ops.cli.session import Session, command
from jobrunner.policy.durations import duration
from jobrunner.policy.models import Job
from jobrunner.policy.sizes import size
from jobrunner.store.failures import told_plainly
from jobrunner.store.migrate import SCHEMA_VERSION, Migrated, check_known, installed, migrate

if TYPE_CHECKING:
    from jobrunner.worker.app import App

top = typer.Typer()

Level = Literal["debug", "info", "warning", "error"]


@command(top, "migrate")
def migrate_schema(
    session: Session,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say from which version to which, and do nothing.")
    ] = False,
) -> None:
    """Install the schema, or bring it to this version.

    One transaction; safe to run again, and from several places at once.
    """
    with session.connect(migrated=False) as conn:
        if dry_run:
            there = installed(conn)
            if there is not None:
                check_known(there)
            found = Migrated(there.version if there else None, SCHEMA_VERSION)
        else:
            found = migrate(conn)
    session.show(
        lambda: {"dry_run": dry_run, "before": found.before, "after": found.after},
        lambda: Text(_migrated(found, dry_run=dry_run)),
    )


def _migrated(found: Migrated, *, dry_run: bool) -> str:
    would = "would " if dry_run else ""
    if found.before is None:
        return f"{would}install{'' if dry_run else 'ed'} schema jobrunner version {found.after}"
    if found.before == found.after:
        return (
            f"schema jobrunner has version {found.after} already; {would}refresh{'' if dry_run else 'ed'} its functions"
        )
    return f"{would}upgrade{'' if dry_run else 'd'} schema jobrunner from version {found.before} to {found.after}"


@command(top, "run")
def run_app(
    session: Session,
    where: Annotated[str, typer.Argument(metavar="APP", help="Where the App is: package.module:attribute.")],
    queue: Annotated[
        list[str] | None, typer.Option("--queue", help="Read this queue; give it several times. Else: all.")
    ] = None,
    slots: Annotated[int, typer.Option("--slots", min=1, max=10_000, help="Jobs at a time.")] = 10,
    queue_slots: Annotated[
        list[str] | None,
        typer.Option(
            "--queue-slots", metavar="NAME=N", help="At most N of this queue at a time; give it several times."
        ),
    ] = None,
    lease: Annotated[
        str, typer.Option("--lease", metavar="DURATION", help="How long it counts as alive after a heartbeat.")
    ] = "30s",
    poll: Annotated[
        str, typer.Option("--poll", metavar="DURATION", help="How often to look without a notification.")
    ] = "1s",
    grace: Annotated[
        str, typer.Option("--grace", metavar="DURATION", help="What running jobs get to end at a stop.")
    ] = "25s",
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes", metavar="N", min=1, max=1000, help="Run in N processes, and replace those that die."
        ),
    ] = None,
    max_jobs: Annotated[
        int | None, typer.Option("--max-jobs", metavar="N", min=1, help="End a process after so many jobs.")
    ] = None,
    max_rss: Annotated[
        str | None,
        typer.Option("--max-rss", metavar="SIZE", help="End a process that holds more memory than this: 500MB."),
    ] = None,
    children: Annotated[
        int | None,
        typer.Option("--children", min=1, max=1000, help="Processes for tasks that compute. Else: a core each."),
    ] = None,
    no_quarantine: Annotated[
        bool, typer.Option("--no-quarantine", help="Run jobs that may have crashed a runner like all others.")
    ] = False,
    log_level: Annotated[Level, typer.Option("--log-level", help="From which level on to log.")] = "info",
    log_format: Annotated[
        Literal["text", "json"], typer.Option("--log-format", help="One line of text, or of JSON.")
    ] = "text",
    http: probing.Http = None,
    http_token: probing.Token = None,
    insecure: probing.Insecure = False,
) -> None:
    """Run the tasks of an app until SIGTERM or Ctrl-C.

    A signal stops it gracefully: running jobs get the grace to end. A second one hands them back at once.
    """
    from jobrunner.worker.link import Broken  # slow to import, and only this command needs it
    from jobrunner.worker.runner import Runner
    from jobrunner.worker.tether import Tether

    tether = Tether.from_environment()
    level = "error" if session.quiet and log_level in ("info", "warning") else log_level
    logs.configure(level, log_format, **({"child": tether.number} if tether else {}))
    settings: dict[str, Any] = {
        name: duration(text, what=f"--{name}") for name, text in (("lease", lease), ("poll", poll), ("grace", grace))
    }
    settings |= {"children": children, "quarantine": not no_quarantine}
    for name in queue or ():
        Job("x.x", queue=name)  # a name that no queue can have is refused here
    own = dict(_slots_of(text) for text in queue_slots or ())
    limit = None if max_rss is None else size(max_rss, what="--max-rss")
    probes = probing.probes(http, http_token, insecure=insecure, processes=processes)
    if processes is not None and tether is None:
        raise typer.Exit(fleet.supervise(session, where, processes, grace=settings["grace"].total_seconds()))
    found = load_app(where)
    fleet.check_room(limit)
    with session.server() as dsn, told_plainly(dsn):
        runner = Runner(found, dsn, queues=queue or None, slots=slots, queue_slots=own, **settings)
        told = f"runs {', '.join(found.tasks)} with {output.many(slots, 'slot')}; Ctrl-C stops it"
        if tether is None:
            runner.telemetry.attach(lambda event, n, facts: session.say(told) if event == "runner.started" else None)
        try:
            asyncio.run(probing.around(runner, probes, lambda: fleet.serve(runner, tether, max_jobs, limit)))
        except Broken as error:  # its cause says more: what the server answered
            raise (error.__cause__ or error) from None


def _slots_of(text: str) -> tuple[str, int]:
    name, equals, many = text.rpartition("=")
    if not equals or not many.isdecimal():
        raise ConfigError("--queue-slots", f"is written NAME=N, like mail=2; got {text!r}")
    return name, int(many)


def load_app(where: str) -> App:
    """The App that *where* names: "package.module:attribute", or "module" alone where it holds exactly one App. A procrastinate App
    becomes one with its tasks.

    Raises:
        ConfigError: no such module or attribute, or not an App; what the module itself raised is its cause.
    """
    from jobrunner.worker.app import App

    name, colon, attribute = where.partition(":")
    if not name or (colon and not attribute):
        raise ConfigError("APP", f"must be package.module:attribute, got {where!r}")
    if not all(part.isidentifier() for part in name.split(".")) or name.endswith(".py"):
        dotted = ".".join(part for part in PurePath(name.removesuffix(".py")).parts if part.isidentifier())
        told = f"{dotted or 'package.module'}:{attribute or 'app'}"
        raise ConfigError("APP", f"is written with dots, as import has it, and without .py: {told}; got {where!r}")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    module = _imported(name)
    if not attribute:
        apps = [(key, value) for key, value in vars(module).items() if isinstance(value, (App, *_theirs()))]
        if len({id(value) for _, value in apps}) != 1:
            told = f"several: {', '.join(f'{name}:{key}' for key, _ in apps)}" if apps else "none"
            raise ConfigError("APP", f"{name!r} must name one App, and the module has {told}; write module:attribute")
        return _as_app(apps[0][1], where)
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigError("APP", f"{where!r} does not exist: module {name} has no {attribute}")
        found = getattr(found, part)
    return _as_app(found, where)


def _theirs() -> tuple[type, ...]:
    """The App of procrastinate, where anybody has imported it: it is slow to import, and most have none."""
    module = sys.modules.get("procrastinate")
    return () if module is None else (module.App,)


def _as_app(found: Any, where: str) -> App:
    """*found*, or an App with the tasks of the procrastinate App that it is."""
    from jobrunner.worker.app import App

    if isinstance(found, App):
        return found
    theirs: Any = found
    if not isinstance(found, _theirs()):
        raise ConfigError("APP", f"{where!r} is a {type(found).__name__}, not a jobrunner App nor a procrastinate App")
    app = App(where.partition(":")[0])
    app.include(theirs)
    return app


def _imported(name: str) -> object:
    try:
        return importlib.import_module(name)
    except JobrunnerError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(
                "APP", f"names a module that is not there: no {error.name} in {Path.cwd()} or the environment"
            ) from None
        raise ConfigError("APP", f"cannot be imported: {name} needs {error.name}, which is not installed") from error
    except Exception as error:
        raise ConfigError(
            "APP", f"cannot be imported: {name} raised {type(error).__name__}: {error}; --debug shows where"
        ) from error
