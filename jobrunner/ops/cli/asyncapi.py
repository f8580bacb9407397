"""`jobrunner asyncapi`: the events of an app as a document, and whether they still fit an earlier one. Needs no database."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from jobrunner.errors import Incompatible
from jobrunner.ops.cli import output
from jobrunner.ops.cli.run import load_app
from jobrunner.ops.cli.session import Session, command

top = typer.Typer()


@command(top, "asyncapi")
def show_asyncapi(
    session: Session,
    where: Annotated[str, typer.Argument(metavar="APP", help="Where the App is: package.module:attribute.")],
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="FILE", help="Compare with an earlier output instead of printing a new one."),
    ] = None,
    api_version: Annotated[
        str, typer.Option("--api-version", metavar="TEXT", help="The version in the document's info.")
    ] = "1.0.0",
) -> None:
    """Print the events of an app as an AsyncAPI 3 document, in JSON.

    With --check: exit with 0 when every reader and writer of the earlier document still fits, else with 3 and a line for each
    change that breaks one. Needs no database.
    """
    from jobrunner.ops import asyncapi, compatibility  # slow to import, and only this command needs them

    made = asyncapi.document(load_app(where), version=api_version)
    if check is None:
        output.write_json(made)
        return
    found = compatibility.changes(compatibility.load(check), made, source=str(check))
    session.show(
        lambda: {"compatible": not found, "changes": [dataclasses.asdict(one) for one in found]},
        lambda: Text("\n".join(map(str, found)) or f"compatible with {check}"),
    )
    if found:
        raise Incompatible([str(one) for one in found], str(check))
