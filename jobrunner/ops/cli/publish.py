"""`jobrunner publish`: one event by hand."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from jobrunner.ops.cli.asking import json_object, pairs
from jobrunner.ops.cli.session import Session, command
from jobrunner.policy.events import Publication, check_type
from jobrunner.policy.models import check_integer
from jobrunner.store import event_overview
from jobrunner.store.publishing import PUBLISH, Origin, publish_params

top = typer.Typer()


@command(top, "publish")
def publish_event(
    session: Session,
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="Words with dots, like order.paid.")],
    data: Annotated[str, typer.Option("--data", metavar="JSON", help="The payload, an object; - reads stdin.")] = "{}",
    key: Annotated[str | None, typer.Option("--key", help="What orders it, like the id of the order.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="What it is about, like order:42.")] = None,
    version: Annotated[int, typer.Option("--version", help="Of the payload.")] = 1,
    source: Annotated[str, typer.Option("--source", help="Who publishes it.")] = "cli",
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="Beside the payload; several times.")
    ] = None,
) -> None:
    """Publish one event and print its id."""
    check_type(event_type)
    check_integer("version", version, 1, 32767)
    publication = Publication(event_type, version, json_object(data, "--data"), key, subject)
    params = publish_params(publication, pairs(header, "--header"), Origin(source), event_id=None, notify=True)
    with session.connect() as conn:
        row = conn.execute(PUBLISH, params).fetchone()
        assert row is not None
        heard = event_overview.listeners(conn, event_type)
    session.show(lambda: {"id": str(row[0]), "subscriptions": heard}, lambda: Text(str(row[0])))
    if not heard:
        session.say(f"note: no subscription takes {event_type} so far")
