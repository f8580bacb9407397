"""`jobrunner why` and `jobrunner trace`: the two questions that only one database can answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from jobrunner.errors import NotFound
from jobrunner.ops import shapes
from jobrunner.ops.cli import output
from jobrunner.ops.cli.session import Session, command
from jobrunner.store import overview
from jobrunner.store.rows import TraceRow

top = typer.Typer()


@command(top, "why")
def tell_why(session: Session, job_id: Annotated[int, typer.Argument(metavar="ID", min=1)]) -> None:
    """Say in one sentence why a job is not running now, and what mends it."""
    with session.connect() as conn:
        if job_id not in overview.states(conn, [job_id]):
            raise NotFound("job", job_id)
        told = overview.why(conn, job_id)
    session.show(lambda: {"id": str(job_id), "why": told}, lambda: Text(told))


@command(top, "trace")
def show_trace(
    session: Session,
    ref: Annotated[
        str, typer.Argument(metavar="REF", help="A subject like order:42, job:ID or just an ID, or event:UUID.")
    ],
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many nodes.")] = 1000,
) -> None:
    """Show the tree of everything that one fact caused."""
    wanted = f"job:{ref}" if ref.isascii() and ref.isdecimal() else ref
    with session.connect() as conn:
        nodes = overview.trace(conn, wanted, limit=limit)
    if not nodes or all(node.state == "dropped" for node in nodes):
        raise NotFound(
            "trace of", wanted, "give a subject like order:42, job:ID or event:UUID; history goes after its retention"
        )
    session.show(lambda: [shapes.trace_shape(node) for node in nodes], lambda: _forest(nodes))
    if len(nodes) == limit and not session.json:
        session.say(f"that is {limit}; there may be more: --limit")


def _forest(nodes: Sequence[TraceRow]) -> RenderableType:
    """Depth-first rows as trees: a node hangs under the last one that is one level up."""
    roots: list[Tree] = []
    path: list[Tree] = []
    for node in nodes:
        del path[node.depth :]
        label = _label(node)
        if path:
            path.append(path[-1].add(label))
        else:
            roots.append(Tree(label, guide_style="dim"))
            path.append(roots[-1])
    return Group(*roots)


def _label(node: TraceRow) -> Text:
    if node.kind == "transaction":
        at = f"  {node.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if node.created_at else ""
        return Text.assemble((f"transaction {node.id}", "dim"), (at, "dim"))
    if node.kind == "event":
        return _event(node)
    parts: list[str | Text | tuple[str, str]] = [
        (f"{node.id} ", "dim"),
        (node.task or "history dropped", "bold"),
        " ",
        output.state(node.state, node.blocked_on),
    ]
    if node.started_at is not None and node.created_at is not None:
        parts.append((f"  waited {output.rough(node.started_at - node.created_at)}", "dim"))
    if node.started_at is not None and node.finished_at is not None:
        parts.append((f", ran {output.rough(node.finished_at - node.started_at)}", "dim"))
    if node.attempt is not None and node.attempt > 1:
        parts.append((f", attempt {node.attempt}", "yellow"))
    if node.subject:
        parts.append((f"  {node.subject}", "cyan"))
    if node.error and node.state != "succeeded":
        parts.append((f"  {node.error}", "red"))
    return Text.assemble(*parts)


def _event(node: TraceRow) -> Text:
    where = "in the outbox" if node.id is None else f"#{node.id}"
    parts: list[str | tuple[str, str]] = [("event ", "dim"), (node.type or "", "bold magenta"), f" {where}"]
    if node.finished_at is not None and node.created_at is not None:
        parts.append((f"  recorded after {output.rough(node.finished_at - node.created_at)}", "dim"))
    if node.key:
        parts.append((f"  key {node.key}", "dim"))
    if node.subject:
        parts.append((f"  {node.subject}", "cyan"))
    return Text.assemble(*parts)
