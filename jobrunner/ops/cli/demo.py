"""`jobrunner demo NAME …`: hands the rest of the line to a demo of jobrunner.demos."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Annotated

import typer
from typer.main import get_command

from jobrunner import demos
from jobrunner.errors import ConfigError, NotFound

top = typer.Typer()


def names() -> list[str]:
    """The demos in this installation."""
    return sorted(module.name for module in pkgutil.iter_modules(demos.__path__) if module.ispkg)


@top.command(
    "demo",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []},
    add_help_option=False,
)
def run_demo(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)] = "--help",
    args: Annotated[list[str] | None, typer.Argument(metavar="ARGS")] = None,
) -> None:
    """Run a demo; its own options: jobrunner demo NAME --help."""
    if name in ("--help", "-h"):
        typer.echo(f"{ctx.get_help()}\n\nDemos: {', '.join(names()) or 'none in this installation'}")
        return
    if name not in names():
        raise NotFound("demo", name, f"there is: {', '.join(names()) or 'none'}")
    found: typer.Typer | Callable[..., None] = importlib.import_module(f"jobrunner.demos.{name}").command
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False)
        app.command()(found)
        found = app
    code = get_command(found).main(
        args=[*_given_before(ctx), *(args or [])], prog_name=f"jobrunner demo {name}", standalone_mode=False
    )
    if isinstance(code, int) and code:
        raise typer.Exit(code)


def _given_before(ctx: typer.Context) -> list[str]:
    """Options that stood before the word demo: a --dsn that is not heard would start a server of its own, silently."""
    given = ctx.find_root().obj or {}
    if given.get("embedded") is not None:
        raise ConfigError("--embedded", "is not for demos: without --dsn they start a temporary server themselves")
    words = [f"--{flag}" for flag in ("json", "quiet") if given.get(flag)]
    return [*words, "--dsn", given["dsn"]] if given.get("dsn") else words
