"""`jobrunner subs apply` and `subs diff`: the subscriptions of an app's code beside those of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from jobrunner.errors import NotFound
from jobrunner.ops import event_shapes, shapes
from jobrunner.ops.cli import output
from jobrunner.ops.cli.asking import confirm
from jobrunner.ops.cli.jobs import Reason
from jobrunner.ops.cli.run import load_app
from jobrunner.ops.cli.session import Connection, Session, actor, command
from jobrunner.policy.models import Json
from jobrunner.policy.subscriptions import Declaration, Difference
from jobrunner.store import event_overview
from jobrunner.store import subscription_operations as operations

Where = Annotated[str, typer.Argument(metavar="APP", help="Where the App is: package.module:attribute.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Only these subscriptions of it.")]


@dataclass(frozen=True, slots=True)
class Plan:
    """One subscription of the code, and how the table differs: None where it has none, empty where it does not."""

    declared: Declaration
    differences: Difference | None

    @property
    def changes(self) -> bool:
        """Whether there is anything to apply."""
        return self.differences != {}


@dataclass(frozen=True, slots=True)
class Plans:
    """All of them, and the subscriptions of the same app that only the table has."""

    app: str
    plans: Sequence[Plan]
    only_there: Sequence[str]

    @property
    def changes(self) -> list[Plan]:
        """Those that there is something to apply of."""
        return [plan for plan in self.plans if plan.changes]


def register(app: typer.Typer) -> None:
    """Adds the two commands to `subs`."""
    command(app, "apply")(apply_subscriptions)
    command(app, "diff")(diff_subscriptions)


def diff_subscriptions(session: Session, where: Where, names: Names = None) -> None:
    """Show how the subscriptions of an app's code differ from those that are there."""
    chosen = _declared(where, names)
    with session.connect() as conn:
        plans = _plans(conn, *chosen, every=not names)
    session.show(lambda: _shape(plans, done=False), lambda: _view(plans))


def apply_subscriptions(
    session: Session,
    where: Where,
    names: Names = None,
    reason: Reason = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the differences and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Make the subscriptions what an app's code says.

    New ones are made. What is recorded from then on goes by the new filter; open deliveries keep what they have.
    """
    chosen = _declared(where, names)
    with session.connect() as conn:
        plans = _plans(conn, *chosen, every=not names)
        if dry_run or not plans.changes:
            session.show(lambda: _shape(plans, done=False), lambda: _view(plans))
            return
        if not yes:
            confirm(session, f"apply {output.many(len(plans.changes), 'subscription')}", lambda: _view(plans))
        done = 0
        try:
            for plan in plans.changes:
                if plan.differences is None:
                    operations.create(conn, plan.declared)
                else:
                    operations.apply(conn, plan.declared, actor=actor(), reason=reason)
                done += 1
        except BaseException:
            session.say(f"stopped: applied {done:,} of {output.many(len(plans.changes), 'subscription')}")
            raise
    told = f"applied {output.many(done, 'subscription')}"
    session.show(lambda: _shape(plans, done=True), lambda: Group(_view(plans), Text(told, style="green")))


def _declared(where: str, names: list[str] | None) -> tuple[str, list[Declaration]]:
    found = load_app(where)
    declared = {one.name: one.declaration for one in found.subscriptions}
    for name in names or ():
        if name not in declared:
            there = ", ".join(declared) or "none"
            raise NotFound("subscription", f"{name} in app {found.name}", f"its code has: {there}")
    return found.name, [declared[name] for name in (names or declared)]


def _plans(conn: Connection, app: str, chosen: Sequence[Declaration], *, every: bool) -> Plans:
    names = {one.name for one in chosen}
    there = event_overview.subscriptions_of(conn, app) if every else []
    plans = [Plan(one, operations.diff(conn, one)) for one in chosen]
    return Plans(app, plans, [name for name in there if name not in names])


def _shape(plans: Plans, *, done: bool) -> dict[str, object]:
    return {
        "app": plans.app,
        "applied": len(plans.changes) if done else 0,
        "subscriptions": [event_shapes.diff_shape(plan.declared.name, plan.differences) for plan in plans.plans],
        "only_in_the_database": list(plans.only_there),
    }


def _view(plans: Plans) -> RenderableType:
    if not plans.plans and not plans.only_there:
        return Text(f"app {plans.app} has no subscriptions", style="dim")
    lines = [line for plan in plans.plans for line in _lines(plan)]
    for name in plans.only_there:
        remove = f"remove it with: jobrunner subs remove {name}"
        lines.append(Text.assemble((f"{name}  ", "bold"), ("only in the database; ", "yellow"), (remove, "dim")))
    return Group(*lines)


def _lines(plan: Plan) -> list[Text]:
    declared, name = plan.declared, (f"{plan.declared.name}  ", "bold")
    if plan.differences is None:
        start = f"{', '.join(declared.types)} from {declared.start}"
        return [Text.assemble(name, ("new: ", "green"), start)]
    if not plan.differences:
        return [Text.assemble(name, ("as it is declared", "dim"))]
    return [
        Text.assemble(name, ("differs", "yellow")),
        *[
            Text.assemble(f"  {field}: ", (_shown(before), "red"), " → ", (_shown(wanted), "green"))
            for field, pair in sorted(plan.differences.items())
            for field, before, wanted in _parts(field, pair["is"], pair["wanted"])
        ],
    ]


def _parts(field: str, before: Json, wanted: Json) -> list[tuple[str, Json, Json]]:
    """An object's fields one by one, those that differ."""
    if not isinstance(before, dict) or not isinstance(wanted, dict):
        return [(field, before, wanted)]
    names = sorted({*before, *wanted})
    return [
        (f"{field}.{name}", before.get(name), wanted.get(name))
        for name in names
        if before.get(name) != wanted.get(name)
    ]


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return value if isinstance(value, str) else shapes.to_json(value, short=True)
