"""What `jobrunner run` does beside running: as the parent of several processes, and as one of their children."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from jobrunner.errors import ConfigError
from jobrunner.ops.cli import output
from jobrunner.ops.cli.session import Session
from jobrunner.policy.sizes import told

if TYPE_CHECKING:
    from jobrunner.worker.runner import Runner
    from jobrunner.worker.tether import Tether


def supervise(session: Session, where: str, count: int, *, grace: float) -> int:
    """Runs *count* children of `jobrunner run where`, with the options that were given here; returns the exit code.
    *grace*: theirs, in seconds."""
    from jobrunner.worker.supervisor import Supervisor

    kept = {name: value for name, value in session.given.items() if name not in ("where", "processes")}
    words = options({**kept, "quiet": session.quiet, "debug": session.debug})
    command = [sys.executable, "-m", "jobrunner", "run", *words, "--", where]
    said = f"runs {where} in {output.many(count, 'process')}; Ctrl-C stops it"
    with session.server() as dsn:
        environment = {"JOBRUNNER_DSN": dsn} if dsn else {}  # not an option: others could read a password in it
        supervisor = Supervisor(command, environment, count=count, dsn=dsn, grace=grace)
        return asyncio.run(supervisor.run(on_begun=lambda: session.say(said)))


def options(given: Mapping[str, Any]) -> list[str]:
    """*given*, options by the names of their parameters, as words of a command line."""
    words = list[str]()
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif isinstance(value, list):
            words += [f"{option}={one}" for one in value]
        elif value is not None and value is not False:
            words.append(f"{option}={value}")
    return words


async def serve(runner: Runner, tether: Tether | None, max_jobs: int | None, max_rss: int | None) -> None:
    """Runs it until it is told to stop, by a signal, its parent or a limit.

    Raises:
        JobrunnerError: as `Runner.run`.
    """
    from jobrunner.worker.recycling import Recycling

    recycling = Recycling(max_jobs, max_rss, tether.recycle if tether else lambda kind, why: runner.end(why))
    runner.telemetry.attach(recycling.observe)
    beside: list[Coroutine[Any, Any, None]] = [recycling.watch()]
    if tether:
        runner.telemetry.attach(tether.observe)
        beside.append(tether.follow(runner))
    tasks = [asyncio.create_task(one) for one in beside]  # they begin when `run` waits for the first time
    try:
        await runner.run()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def check_room(max_rss: int | None) -> None:
    """Refuses a limit that the app is over before its first job: every child would be replaced at once, for ever.

    Raises:
        ConfigError: with what it takes.
    """
    from jobrunner.worker.recycling import rss

    if max_rss is not None and (held := rss()) > max_rss:
        raise ConfigError("--max-rss", f"must be above what the app takes before its first job: {told(held)}")
