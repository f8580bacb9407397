"""A child: a process of a runner's that runs one handler at a time. `python -m jobrunner.worker.child FD`: FD is its socket.

The main thread runs handlers. Another listens: it tells a run that it should end, sends progress, and ends the process when the
runner is gone. What the handler prints is its own: the two talk by the socket alone (see `wire`).
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NoReturn

from jobrunner.errors import InvalidArguments, StaleLease
from jobrunner.policy.outcomes import Failed, FinishedInPlace, HandedBack, InvalidPayload, Outcome
from jobrunner.policy.text import describe
from jobrunner.telemetry import log
from jobrunner.worker.context import Context, current
from jobrunner.worker.endings import as_ended
from jobrunner.worker.executor import answered
from jobrunner.worker.lending import ChildLending
from jobrunner.worker.loglike import log_like
from jobrunner.worker.task import Runnable
from jobrunner.worker.wire import (
    HEADER,
    Begun,
    Ended,
    Moved,
    Run,
    Start,
    Stop,
    frame_for_runner,
    read_in_child,
)

_FLUSH = 0.25  # seconds between two words on progress
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


class Child:
    """The two threads, and what they share."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()
        self._runs: SimpleQueue[Run] = SimpleQueue()
        self._running: int | None = None
        self._stop: Callable[[], None] = _nothing
        self._moved: Moved | None = None
        start = self._receive()
        assert isinstance(start, Start)
        self._start = start

    def live(self) -> NoReturn:
        """Run what the runner sends, until it is gone."""
        sys.path[:] = self._start.sys_path
        log_like(self._start.logs)
        threading.Thread(target=self._listen, name="jobrunner runner", daemon=True).start()
        while True:
            run = self._runs.get()
            outcome = contextvars.copy_context().run(self._outcome, run)
            self._flush()
            self._running, self._stop = None, _nothing
            self._send(as_ended(run.run, outcome))

    # -------------------------------------------------------------------------------------------- the handler

    def _outcome(self, run: Run) -> Outcome:
        try:
            task = run.place.find()
            arguments = task.read(run.job)
        except InvalidArguments as error:
            return InvalidPayload(describe(error))
        except BaseException as error:  # whatever the import of a module raises
            return Failed(describe(error))
        self._send(Begun(run.run))
        ctx = Context(run.job, ChildLending(self._start.dsn, run, self._note))
        current.set(ctx)
        try:
            return answered(ctx, self._call(run, task, ctx, arguments))
        except BaseException as error:  # SystemExit too: it fails the job, and the process serves the next
            return _failed(task, ctx, error)

    def _call(self, run: Run, task: Runnable, ctx: Context, arguments: dict[str, Any]) -> Any:
        if task.is_async:
            answer, error = asyncio.run(self._await(run, task, ctx, arguments))
            if error is not None:
                raise error
            return answer
        self._may_stop(run, lambda: setattr(ctx, "cancelled", True))
        return task.function(ctx, **arguments)

    async def _await(
        self, run: Run, task: Runnable, ctx: Context, arguments: dict[str, Any]
    ) -> tuple[Any, BaseException | None]:
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        assert me is not None

        def stop() -> None:
            ctx.cancelled = True
            loop.call_soon_threadsafe(me.cancel)

        self._may_stop(run, stop)
        try:
            return await task.function(ctx, **arguments), None
        except BaseException as error:  # as a value: SystemExit would end the loop without its clean-up
            return None, error

    def _may_stop(self, run: Run, stop: Callable[[], None]) -> None:
        """From now on *stop* is how the run is told; at once when the runner has said so before."""
        self._stop = stop
        if self._running != run.run:
            stop()

    # ------------------------------------------------------------------------------------------- the runner

    def _note(self, job_id: int, said: dict[str, Any]) -> None:
        """Send this soon, unless there is something newer. A handler's thread may say something after its run."""
        if self._running is not None:
            self._moved = Moved(self._running, said["processed"], said["failed"], said["total"], said["message"])

    def _listen(self) -> None:
        try:
            while True:
                busy = self._running is not None
                readable, _, _ = select.select([self._sock], [], [], _FLUSH if busy else None)
                if not readable:
                    self._flush()
                    continue
                match self._receive():
                    case Run() as run:
                        self._running = run.run
                        self._runs.put(run)
                    case Stop(number) if number == self._running:
                        self._running = -1
                        self._stop()
        finally:
            _end()

    def _flush(self) -> None:
        with self._sending:
            moved, self._moved = self._moved, None
            if moved is not None:
                self._write(moved)

    def _send(self, message: Begun | Ended) -> None:
        with self._sending:
            self._write(message)

    def _write(self, message: Begun | Moved | Ended) -> None:
        try:
            self._sock.sendall(frame_for_runner(message))
        except OSError:
            _end()

    def _receive(self) -> Any:
        (length,) = HEADER.unpack(self._exactly(HEADER.size))
        return read_in_child(self._exactly(length))

    def _exactly(self, n: int) -> bytes:
        body = bytearray()
        while len(body) < n:
            part = self._sock.recv(min(n - len(body), 2**20))
            if not part:
                _end()
            body += part
        return bytes(body)


def _failed(task: Runnable, ctx: Context, error: BaseException) -> Outcome:
    if ctx.finished:
        log.error("job %s raised after its outcome was settled", ctx.job_id, exc_info=error)
        return FinishedInPlace()
    if isinstance(error, StaleLease):
        return HandedBack("lost lease")
    return Failed(describe(error), task.retry.rule_for(error))


def _nothing() -> None:
    """Nobody to tell."""


def _end() -> NoReturn:
    """Gone, with all that the handler has started, whatever it does now."""
    try:
        os.killpg(os.getpid(), signal.SIGKILL)  # it leads a group of its own
    finally:
        os._exit(1)


def main(descriptor: int) -> NoReturn:
    """Serve the runner at the other end of the socket *descriptor*."""
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)
    if sys.platform == "linux":
        # The listener needs the interpreter's lock, and a handler may sit in code that never gives it up.
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        # The runner's business: it says who goes on for its grace. Not SIG_IGN, which what a handler starts would inherit.
        signal.signal(number, lambda *_: None)
    Child(sock).live()


if __name__ == "__main__":
    main(int(sys.argv[1]))
