"""Where another process finds a task: a module and an attribute of it, taken from the code that is loaded here, not from a row."""

from __future__ import annotations

import dis
import importlib
import inspect
import runpy
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jobrunner.errors import ConfigError
from jobrunner.worker.registry import Registry
from jobrunner.worker.saga import DeclaredSaga
from jobrunner.worker.stream import Stream
from jobrunner.worker.task import Runnable

_MAIN = "__main__"
_AGAIN = "__mp_main__"  # what multiprocessing calls it: code that asks for "__main__" does not run again
_running_again: list[str] = []


@dataclass(frozen=True, slots=True)
class Place:
    """What to import, and what to take of it."""

    task: str
    """Full name of the task."""
    module: str
    """Where its function is declared; a name, or the path of a script that was started."""
    attribute: str
    """The task itself in that module, or its app."""
    is_main: bool = False
    """Whether the module was started and not imported."""
    is_path: bool = False
    """Whether *module* is a path."""

    def find(self) -> Runnable:
        """The task, after importing its module. Raises what the import raises, and ConfigError when it is not there."""
        module = _started(self.module, is_path=self.is_path) if self.is_main else importlib.import_module(self.module)
        found = getattr(module, self.attribute, None)
        if isinstance(found, Registry):
            found = found.tasks.get(self.task)
        if found is None:
            problem = f"is declared in {self.module} only when that is not imported: move it to the top of the module"
            raise ConfigError(f"task {self.task}", problem)
        task: Runnable = found
        return task


def places_of(app: Registry) -> dict[str, Place]:
    """The place of each task of *app* that can be imported, by name.

    Raises:
        ConfigError: one that needs a process of its own cannot.
    """
    places = {name: place for name, task in app.tasks.items() if (place := _place(app, task)) is not None}
    for name, task in app.tasks.items():
        if task.executor == "process" and name not in places:
            raise ConfigError(
                f"task {name}",
                'has executor="process" and cannot be imported: its module must hold the task, or the app, at its top',
            )
    return places


def _place(app: Registry, task: Runnable) -> Place | None:
    declared = _declared(task)
    module = sys.modules.get(declared.__module__)
    if module is None or "<locals>" in getattr(declared, "__qualname__", "<locals>"):
        return None
    held = vars(module)
    attribute = next((name for wanted in (task, app) for name, value in held.items() if value is wanted), None)
    if attribute is None:
        return None
    if module.__name__ != _MAIN:
        return Place(task.name, module.__name__, attribute)
    spec, path = getattr(module, "__spec__", None), getattr(module, "__file__", None)
    if spec is not None and spec.name.rpartition(".")[2] != _MAIN:
        return Place(task.name, spec.name, attribute, is_main=True)
    return Place(task.name, path, attribute, is_main=True, is_path=True) if spec is None and path else None


def _declared(task: Runnable) -> Callable[..., Any]:
    """The function that was decorated."""
    function = task.handler if isinstance(task, Stream) else task.function
    owner = getattr(function, "__self__", None)
    return next(iter(owner.handlers.starts.values())) if isinstance(owner, DeclaredSaga) else function


def _started(name: str, *, is_path: bool) -> types.ModuleType:
    """The module that was started, loaded under another name and once."""
    if (loaded := sys.modules.get(_AGAIN)) is None:
        run = runpy.run_path if is_path else runpy.run_module
        loaded = types.ModuleType(_AGAIN)
        _running_again.append(name)
        try:
            vars(loaded).update(run(name, run_name=_AGAIN))
        finally:
            _running_again.clear()
        sys.modules[_AGAIN] = sys.modules[_MAIN] = loaded
    return loaded


def refuse_while_found() -> None:
    """Raise ConfigError in a script that is imported for a task of its own: a runner that it starts then would start the next."""
    if _running_again:
        problem = (
            'must start its runner below `if __name__ == "__main__":` only: its tasks run in processes that import it'
        )
        raise ConfigError(_running_again[0], problem)


def check_function(task: str, function: Callable[..., Any]) -> None:
    """Raise ConfigError unless *function* can be that of a task with a process of its own."""
    if inspect.iscoroutinefunction(function):
        problem = 'is async, and executor="process" is for what computes: make it a plain function'
    elif not getattr(function, "__qualname__", "").isidentifier():
        problem = (
            'has executor="process", and its function is not at the top of a module, where a process could import it'
        )
    elif _calls_transaction(function):
        problem = 'calls ctx.transaction(), which is not there with executor="process": open a connection of its own'
    else:
        return
    raise ConfigError(f"task {task}", problem)


def _calls_transaction(function: Callable[..., Any]) -> bool:
    """Whether its code visibly takes `transaction` of its first parameter."""
    code = getattr(function, "__code__", None)
    if code is None or not code.co_argcount:
        return False
    ctx = code.co_varnames[0]
    return any(_takes(one, ctx) for one in _codes(code, ctx))


def _codes(code: types.CodeType, ctx: str) -> Iterator[types.CodeType]:
    """*code* and what is nested in it that sees its variable *ctx*."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType) and ctx in constant.co_freevars:
            yield from _codes(constant, ctx)


def _takes(code: types.CodeType, ctx: str) -> bool:
    on_top: object = None  # the variable whose value was loaded last
    for step in dis.get_instructions(code):
        if step.argval == "transaction" and step.opname in ("LOAD_ATTR", "LOAD_METHOD") and on_top == ctx:
            return True
        loaded = "LOAD_FAST" in step.opname or step.opname.startswith("LOAD_DEREF")  # also of STORE_FAST_LOAD_FAST
        on_top = (step.argval[-1] if isinstance(step.argval, tuple) else step.argval) if loaded else None
    return False
