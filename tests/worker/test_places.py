"""Which functions may have a process of their own, and how another process finds them."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobrunner import App, Context, Runner
from jobrunner.errors import ConfigError
from jobrunner.worker.places import Place, check_function, places_of
from tests.conftest import Connection
from tests.worker import zoo
from tests.worker.rig import one

app = App("here")


async def loops(ctx: Context) -> None: ...


def lends(ctx: Context) -> None:
    with ctx.transaction() as tx:
        tx.execute("select 1")


def lends_with_two(other: Any, conn: Any) -> None:
    other.x = [other, other.transaction(final=False)]


def lends_in_another(ctx: Context) -> Any:
    def inner() -> Any:
        return ctx.transaction()

    return inner()


def lends_in_a_comprehension(ctx: Context) -> Any:
    return [ctx.transaction() for _ in range(3)]


def has_its_own(ctx: Context, conn: Any) -> Any:
    """Another's transaction, also beside the context, is nothing to complain of."""
    with conn.transaction():
        transaction = [conn.transaction for _ in range(2)]
    ctx.progress(1)
    return ctx, conn.transaction, transaction, [(ctx, conn).transaction() for _ in ()]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (loops, "is async"),
        (lambda ctx: None, "not at the top of a module"),
        (zoo.Mute.__str__, "not at the top of a module"),
        *((each, "calls ctx.transaction()") for each in (lends, lends_with_two, lends_in_another)),
        (lends_in_a_comprehension, "calls ctx.transaction()"),
    ],
    ids=lambda each: getattr(each, "__qualname__", None),
)
def test_what_cannot_have_a_process_is_refused_where_it_is_declared(function: Callable[..., Any], problem: str) -> None:
    with pytest.raises(ConfigError, match="process") as refused:
        App("shop").task(executor="process")(function)

    assert problem in str(refused.value)


def test_what_looks_like_it_is_not_refused() -> None:
    check_function("shop.t", has_its_own)
    check_function("shop.t", functools.partial(has_its_own).func)


def test_an_executor_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match='"default" or "process"'):
        app.task(executor="thread")(has_its_own)  # type: ignore[call-overload]


def test_a_runner_refuses_a_task_that_no_process_would_find() -> None:
    lost = App("lost")
    lost.task(executor="process")(has_its_own)  # its module has neither the task nor the app

    with pytest.raises(ConfigError, match=r"lost\.has_its_own .* cannot be imported"):
        Runner(lost, "")


def test_tasks_subscriptions_and_streams_are_found_by_import_and_nested_ones_are_not() -> None:
    @app.task
    def nested(ctx: Context) -> None: ...

    found = {**places_of(zoo.app), **places_of(zoo.birds)}

    assert {name: place.find() for name, place in found.items()} == {**zoo.app.tasks, **zoo.birds.tasks}
    assert found["zoo.dies"] == Place("zoo.dies", "tests.worker.zoo", "dies")
    assert places_of(app) == {}


SCRIPT = """
import asyncio, sys
from jobrunner import App, Context, Runner

app = App("script")

@app.task(executor="process")
def where(ctx: Context) -> str:
    return __name__

async def main() -> None:
    async with Runner(app, sys.argv[1], lease="3s", poll="100ms") as runner:
        await runner.wait_idle(20)

{guard}asyncio.run(main())
"""


@pytest.mark.parametrize("guard", ['if __name__ == "__main__": ', ""], ids=["guarded", "not"])
def test_a_script_that_is_started_is_loaded_by_its_path_and_must_be_guarded(
    guard: str, dsn: str, conn: Connection, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(guard=guard))
    conn.execute("select jobrunner.enqueue('script.where', max_attempts => 1)")

    subprocess.run([sys.executable, script, dsn], cwd=tmp_path, check=True, timeout=60)

    state, result, error = one(conn, "select state, result, error from jobrunner.v_job")
    if guard:
        assert (state, result) == ("succeeded", "__mp_main__")
    else:
        assert (state, 'must start its runner below `if __name__ == "__main__":`' in error) == ("dead", True)
