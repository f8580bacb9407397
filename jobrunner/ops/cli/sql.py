"""`jobrunner sql`: the SQL that ships, for psql. Needs no connection."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

import typer
from rich.console import Group
from rich.text import Text

from jobrunner.errors import NotFound
from jobrunner.ops.cli import output
from jobrunner.ops.cli.session import Session, command
from jobrunner.store import queries
from jobrunner.store.migrate import roles

top = typer.Typer()

_WHOLE = {
    "schema": "The whole schema: tables, states, lock order.",
    "functions": "Every function of the schema.",
    "roles": "The roles and what each may do: for a superuser, once a database.",
}


@command(top, "sql")
def show_sql(session: Session, name: Annotated[str | None, typer.Argument(metavar="NAME")] = None) -> None:
    """List the SQL that ships for psql, or print one.

    Needs no connection: jobrunner sql dead_jobs | psql
    """
    questions = {PurePosixPath(path).stem: path for path in queries.names("ops")}
    if name is None:
        told = {**{one: _question(path) for one, path in questions.items()}, **_WHOLE}
        rows = [(one, Text(question, style="dim")) for one, question in told.items()]
        listing = output.table("name", "what it answers", rows=rows, flexible="what it answers")
        hint = Text("\njobrunner sql NAME | psql", style="dim")
        session.show(
            lambda: [{"name": one, "about": question} for one, question in told.items()], lambda: Group(listing, hint)
        )
        return
    match name:
        case "schema":
            text = queries.text("schema.sql")
        case "functions":
            text = "\n".join(f"{queries.text(path).rstrip().rstrip(';')};\n" for path in queries.names("functions"))
        case "roles":
            text = roles()
        case _ if name in questions:
            text = queries.text(questions[name])
        case _:
            raise NotFound("query", name, "list them with: jobrunner sql")
    if session.json:
        output.write_json({"name": name, "sql": text})
    else:
        typer.echo(text.rstrip("\n"))


def _question(path: str) -> str:
    """The first sentence of a file is the question that it answers."""
    first, mark, _ = queries.text(path).splitlines()[0].removeprefix("--").strip().partition("?")
    return first + mark
