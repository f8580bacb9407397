"""What `run --http` adds to a runner: its probes and metrics, in its own event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from jobrunner import config
from jobrunner.errors import ConfigError

if TYPE_CHECKING:
    from jobrunner.ops.http.serve import Address
    from jobrunner.worker.runner import Runner

Http: TypeAlias = Annotated[
    str | None,
    typer.Option("--http", metavar="HOST:PORT", help="Serve this runner's probes and metrics there."),
]
Token: TypeAlias = Annotated[
    str | None,
    typer.Option("--http-token", help="What /metrics asks for; better in JOBRUNNER_HTTP_TOKEN, which no ps shows."),
]
Insecure: TypeAlias = Annotated[bool, typer.Option("--insecure", help="With --http: answer everyone who can reach it.")]


@dataclass(frozen=True, slots=True)
class Probes:
    """Where to serve them, and for whom."""

    at: Address
    token: str | None
    insecure: bool


def probes(http: str | None, token: str | None, *, insecure: bool, processes: int | None) -> Probes | None:
    """What the options ask for; None: nothing.

    Raises:
        ConfigError: no address, no token, or several processes.
        Refused: others could reach it, and it would answer everyone.
    """
    if http is None:
        return None
    if processes is not None:
        raise ConfigError(
            "--http", "serves one process, and --processes makes several; `jobrunner web` shows all of them"
        )
    from jobrunner.ops.http import access, serve  # slow to import, and only needed with --http

    at, secret = serve.address(http, what="--http"), config.http_token(token)
    serve.allow(at, token=secret, insecure=insecure, flag="--http-token")
    return Probes(at, access.check_token(secret) if secret else None, insecure)


async def around(runner: Runner, wanted: Probes | None, serve: Callable[[], Awaitable[None]]) -> None:
    """*serve* the runner. Its probes answer before it starts, so that an orchestrator can wait for it, until it has said
    good-bye."""
    if wanted is None:
        await serve()
        return
    from jobrunner.ops.http.app import probe_app
    from jobrunner.ops.http.serve import listen, serving

    app = probe_app(runner, token=wanted.token, local=wanted.at.is_loopback and not wanted.insecure)
    async with serving(app, listen(wanted.at)):
        await serve()
