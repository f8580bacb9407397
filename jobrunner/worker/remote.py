"""One child, seen from its runner: started, given a run, told to end it, killed. What it says is read as `wire` has it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from contextlib import suppress
from datetime import timedelta
from typing import Self

from jobrunner.policy.outcomes import FinishedInPlace, Outcome, TimedOut
from jobrunner.worker.context import Context
from jobrunner.worker.endings import outcome_of
from jobrunner.worker.loglike import logs_here
from jobrunner.worker.wire import (
    HEADER,
    LONGEST,
    Begun,
    Broken,
    Ended,
    Moved,
    Run,
    Start,
    Stop,
    frame_for_child,
    read_in_runner,
)

_BEGINS = 60.0  # seconds for a child to start and to import the task's module
_FAREWELL = 1.0  # seconds between telling a run that it should end, and killing its process
_LAST_FRAME = 0.2  # seconds for what a dead child had said: what it forked may hold the socket open


class Died(Exception):
    """A child is gone, or as good as gone; how, for a person."""


class Remote:
    """One child."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process, self._reader, self._writer = process, reader, writer
        self._length: int | None = None
        self._busy = False
        self.gone = asyncio.create_task(self._watch(), name=f"jobrunner child {process.pid}")
        """Done when the process has ended."""

    @classmethod
    async def start(cls, dsn: str) -> Self:
        """A new process; what it imports first takes it some time. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "jobrunner.worker.child", str(theirs.fileno())),
                stdin=DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a group of its own: killed with all that a handler starts, and out of Ctrl-C's reach
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        try:
            reader, writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            process.kill()
            ours.close()
            raise
        child = cls(process, reader, writer)
        child._send(Start(sys.path, dsn, logs_here()))
        return child

    @property
    def is_well(self) -> bool:
        """Whether it lives and waits for a job."""
        return not self._busy and self._process.returncode is None and not self._writer.is_closing()

    async def run(self, run: Run, ctx: Context, limit: timedelta | None) -> Outcome:
        """How *run* ended here. Raises Died when the process did."""
        self._busy = True
        self._send(run)
        loop, has_begun = asyncio.get_running_loop(), False
        try:
            async with asyncio.timeout(_BEGINS) as clock:
                while (said := await self._hear(run)) is not None:
                    match said:
                        case Begun():
                            has_begun = True
                            clock.reschedule(None if limit is None else loop.time() + limit.total_seconds())
                        case Moved():
                            ctx.progress(said.processed, total=said.total, failed=said.failed, message=said.message)
                        case Ended():
                            outcome = outcome_of(said)
                            self._busy = False
                            return outcome
        except Broken as error:
            raise Died(f"the process of this job was given up: {error}") from None
        except TimeoutError:
            if has_begun and limit is not None:
                return TimedOut(limit)
            raise Died(f"the process of this job did not begin with it within {_BEGINS:g} s") from None
        except asyncio.CancelledError:
            ctx.finished = ctx.finished or await self._farewell(run)
            raise
        raise Died(await self._how())

    async def _farewell(self, run: Run) -> bool:
        """Tell *run* that it should end; whether it had ended in place."""
        self._send(Stop(run.run))
        with suppress(TimeoutError, Broken):
            async with asyncio.timeout(_FAREWELL):
                while (said := await self._hear(run)) is not None:
                    if isinstance(said, Ended):
                        self._busy = False
                        return isinstance(outcome_of(said), FinishedInPlace)
        return False

    def kill(self) -> None:
        """End it now, with all that its handlers have started. Safe to call twice."""
        if self._process.returncode is None:
            self._kill_group()
        self._writer.close()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # nobody is left in it
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _hear(self, run: Run) -> Begun | Moved | Ended | None:
        """What it says next of *run*; None when nothing more can come. Raises Broken. May be cancelled between any two bytes."""
        while True:
            try:
                if self._length is None:
                    (self._length,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
                    if self._length > LONGEST:
                        raise Broken(f"it began to say {self._length} bytes")
                body = await self._reader.readexactly(self._length)
            except (asyncio.IncompleteReadError, OSError):
                return None
            self._length = None
            said = read_in_runner(body)
            if said.run == run.run:
                return said
            if not isinstance(said, Moved):  # a thread that a handler has left behind may say how far it is
                raise Broken("it spoke of another run")

    def _send(self, message: Start | Run | Stop) -> None:
        self._writer.write(frame_for_child(message))

    async def _watch(self) -> None:
        await self._process.wait()
        self._kill_group()  # what it had started: its number is nobody else's while one of them lives
        if not self._writer.is_closing():
            await asyncio.sleep(_LAST_FRAME)
        self._writer.transport.abort()

    async def _how(self) -> str:
        """How the process ended, for a person."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                return how_it_ended(await self._process.wait())
        return "the process of this job closed its connection to the runner and was killed"


def how_it_ended(code: int) -> str:
    """What the exit *code* of a child says."""
    if code >= 0:
        return f"the process of this job ended itself, with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = "; nobody here did that: often it is the kernel, when memory runs out" if -code == signal.SIGKILL else ""
    return f"the process of this job was killed by {name}{hint}"
