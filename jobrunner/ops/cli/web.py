"""`jobrunner web`: the status of a database over HTTP."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from jobrunner import config
from jobrunner.ops import logs
from jobrunner.ops.cli.session import Session, command

top = typer.Typer()


@command(top, "web")
def serve_web(
    session: Session,
    bind: Annotated[
        str, typer.Option("--bind", metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")
    ] = "127.0.0.1:8080",
    token: Annotated[
        str | None,
        typer.Option(
            "--token", help="What one has to show to look; better in JOBRUNNER_HTTP_TOKEN, which no ps shows."
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Answer everyone who can reach it, also beyond this machine.")
    ] = False,
    show_payloads: Annotated[
        bool, typer.Option("--show-payloads", help="Show arguments, headers and results of jobs.")
    ] = False,
) -> None:
    """Serve pages, JSON and metrics on what there is, until SIGTERM or Ctrl-C.

    Read-only. It needs no database to start, and says in words when it cannot reach one.
    """
    from jobrunner.ops.http import create_app, serve  # slow to import, and only this command needs it

    at, secret = serve.address(bind, what="--bind"), config.http_token(token)
    serve.allow(at, token=secret, insecure=insecure, flag="--token")
    with session.server() as dsn:
        app = create_app(dsn, token=secret, insecure=insecure, local=at.is_loopback, show_payloads=show_payloads)
        listener = serve.listen(at)
        logs.configure("error" if session.quiet else "info", "text")
        session.say(f"http://{serve.bound(listener)}/{'' if secret is None else ' (with the token)'}; Ctrl-C stops it")
        asyncio.run(serve.until_signalled(app, listener))
