"""The parent of a fleet: starts child processes, replaces the dead and gives back what they held, and passes a stop on.

It never imports the app: what breaks there breaks a child, and every new child runs the code that is there by then.

    SIGTERM, SIGINT  every child stops gracefully; a second one: they hand back at once
    SIGHUP           the children are replaced one after another: each stops when its successor is ready
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from jobrunner.policy.restarts import Restarts
from jobrunner.telemetry import log
from jobrunner.worker.release import release
from jobrunner.worker.supervised import Child

_KILLED_AFTER = 10.0  # seconds past the grace: more than a runner takes for its last settlements and its good-bye
_FAREWELL = 5.0  # seconds for releases that are under way at the end


class Supervisor:
    """Keeps *count* processes of *command* alive until it is told to stop. *environment*: theirs, beside our own. *dsn*: where
    their jobs are given back. *grace*: seconds that running jobs get at a stop."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, count: int, dsn: str, grace: float
    ) -> None:
        self._command, self._environment, self._count = command, environment, count
        self._dsn, self._grace = dsn, grace
        self._restarts = defaultdict[int, Restarts](Restarts)  # by the number of the child
        self._children = set[Child]()
        self._tasks, self._releases = set[asyncio.Task[None]](), set[asyncio.Task[None]]()
        self._begun, self._over, self._renewal = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._code = 0

    async def run(self, on_begun: Callable[[], None]) -> int:
        """Run until SIGTERM or SIGINT, or until the first child ends before it was ready; returns the exit code, in that case
        the child's. *on_begun* is called once, when the first child claims."""
        with self._signals():
            await self._fill(1)  # alone: what is wrong for one is wrong for all, and is to be said once
            await self._until(self._begun)
            if not self._over.is_set():
                on_begun()
                self._do(self._renew(), self._tasks)
                for number in range(2, self._count + 1):
                    await self._fill(number)
            await self._over.wait()
            await self._end()
        return self._code

    # ------------------------------------------------------------------------------------------------ children

    async def _fill(self, number: int) -> None:
        """A child for this place, after the pause that its predecessors have earned."""
        while not self._over.is_set():
            if pause := self._restarts[number].pause(random.random()):
                log.warning("child %s dies again and again: next start in %.1f s", number, pause.total_seconds())
                await self._until(within=pause.total_seconds())
            if self._over.is_set() or await self._start(number):
                return
            self._restarts[number] = self._restarts[number].after(timedelta())

    async def _start(self, number: int, *, kept: bool = True) -> Child | None:
        try:
            child = await Child.start(number, self._command, self._environment)
        except OSError as error:
            log.error("child %s cannot be started: %s", number, error)
            return None
        child.kept = kept
        child.on_ready = self._begun.set
        child.on_recycling = lambda kind, why: self._recycle(child, kind, why)
        self._children.add(child)
        log.info("%s started", child)
        if self._over.is_set():
            self._stop(child)
        self._do(self._live(child), self._tasks)
        return child

    async def _live(self, child: Child) -> None:
        code = await child.live()
        self._children.discard(child)
        if child.ids:
            self._do(release(self._dsn, child, orderly=child.told and code == 0), self._releases)
        if not self._begun.is_set() and not self._over.is_set() and code >= 0:
            self._code = code  # it has said why
            self._over.set()
            return
        _tell(child, code)
        if child.kept and not self._over.is_set():
            child.kept = False
            self._restarts[child.number] = self._restarts[child.number].after(child.lived)
            await self._fill(child.number)

    def _recycle(self, child: Child, kind: str, why: str) -> None:
        if not child.kept or self._over.is_set():
            return
        log.info("%s is recycled: %s", child, why)
        child.kept = False
        if kind == "memory":  # a limit that is too low would make a loop of it
            self._restarts[child.number] = self._restarts[child.number].after(child.lived)
        self._stop(child)
        self._do(self._fill(child.number), self._tasks)

    async def _renew(self) -> None:
        while not self._over.is_set():
            await self._until(self._renewal)
            self._renewal.clear()
            for number in range(1, self._count + 1):
                if self._over.is_set() or not await self._relieve(number):
                    break

    async def _relieve(self, number: int) -> bool:
        """Replaces the child of this place without a gap. False: its successor never got ready, or died of it, and it stays."""
        old = next((child for child in self._children if child.number == number and child.kept), None)
        if old is None:
            return True  # it is about to be started, with the code that is there by then
        new = await self._start(number, kept=False)
        if new is not None:
            await self._until(new.ready, new.ended)
        if new is None or not new.ready.is_set() or new.ended.is_set():
            if not self._over.is_set():
                log.error("no new child gets ready: the others stay as they are")
            return False
        if not old.kept:
            self._stop(new)  # another has followed the old one meanwhile
            return True
        old.kept, new.kept = False, True
        self._stop(old)
        await self._until(old.ended)
        return True

    # ------------------------------------------------------------------------------------------------ the end

    def _stop(self, child: Child) -> None:
        if not child.told:
            child.stop()
            self._do(self._kill_late(child), self._tasks)

    async def _kill_late(self, child: Child) -> None:
        try:
            async with asyncio.timeout(self._grace + _KILLED_AFTER):
                await child.ended.wait()
        except TimeoutError:
            log.error("%s does not stop: it is killed", child)
            child.kill()

    async def _end(self) -> None:
        for child in set(self._children):
            self._stop(child)
        while self._tasks:  # each ends by itself now, at the latest when its child was killed
            await asyncio.wait(self._tasks)
        if self._releases:
            await asyncio.wait(self._releases, timeout=_FAREWELL)
        for task in self._releases:
            task.cancel()
        await asyncio.gather(*self._releases, return_exceptions=True)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
            if sys.stdin is not None and sys.stdin.isatty():  # then it says that the terminal is gone
                loop.add_signal_handler(signal.SIGHUP, self._signalled, signal.SIGHUP)
            else:
                loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _signalled(self, number: signal.Signals) -> None:
        if self._over.is_set():
            log.warning("%s again: the children hand back at once", number.name)
            for child in self._children:
                child.hurry()
        else:
            log.info("%s: stopping the children, running jobs have %g s", number.name, self._grace)
            self._over.set()

    def _hung_up(self) -> None:
        log.info("SIGHUP: replacing the children one after another")
        self._renewal.set()

    # ------------------------------------------------------------------------------------------------ waiting

    async def _until(self, *events: asyncio.Event, within: float | None = None) -> None:
        """Returns at the first of *events*, when it is over, or after *within* seconds."""
        waits = {asyncio.create_task(event.wait()) for event in (*events, self._over)}
        await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()

    def _do(self, coroutine: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(coroutine)
        among.add(task)
        task.add_done_callback(among.discard)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the supervisor cannot go on: %s: %s", type(error).__name__, error)
            self._code = 1
            self._over.set()


def _tell(child: Child, code: int) -> None:
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    if child.told:
        log.info("%s %s", child, "has stopped" if code == 0 else how)
    else:
        log.warning("%s %s", child, how)
