"""What ties a child process to the parent that started it: a socket, inherited, that ends when either of them does.

The child says under which id it lives, when it is ready, when it has said good-bye and when it wants to be replaced; JSON
lines, in the words of its telemetry. The parent says one thing, `hurry`. Stops come as SIGTERM; here a repeated one means
nothing, because a process manager may signal every process beside the parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from typing import Any, Protocol, Self

VARIABLE = "JOBRUNNER_TETHER"
"""In the environment of a child: the socket's descriptor and the child's number, "7:2"."""

HURRY = b"hurry\n"
"""From the parent: hand back at once."""

RECYCLING = "recycling"
"""From the child: replace me; with `kind` and `why`."""

_PASSED_ON = {"runner.registering", "runner.started", "runner.renewed", "runner.stopped"}


class Stoppable(Protocol):
    """A runner, as far as its parent is concerned."""

    def end(self, why: str) -> None:
        """Stop gracefully; safe to call again."""

    def hurry(self) -> None:
        """Hand back at once."""


class Tether:
    """The child's end."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        sock.setblocking(False)
        sock.set_inheritable(False)
        self._sock = sock
        self.number = number
        """Which of the parent's children this is."""

    @classmethod
    def from_environment(cls) -> Self | None:
        """The tether of this process, once; None when nobody supervises it. Processes that it starts have none."""
        fd, _, number = os.environ.pop(VARIABLE, "").partition(":")
        return cls(socket.socket(fileno=int(fd)), int(number)) if fd else None

    def observe(self, event: str, n: int, facts: dict[str, Any]) -> None:
        """An observer of the runner's telemetry."""
        if event in _PASSED_ON:
            self._say(event, runner=facts["runner"])

    def recycle(self, kind: str, why: str) -> None:
        """Ask to be replaced; the parent answers with SIGTERM."""
        self._say(RECYCLING, kind=kind, why=why)

    async def follow(self, runner: Stoppable) -> None:
        """Until cancelled: does what the parent says, and ends the runner when the parent is gone. Begin it when `runner.run()`
        waits already: it takes SIGTERM over."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, runner.end, number.name)
        with contextlib.suppress(ConnectionError):
            while await loop.sock_recv(self._sock, 1024):
                runner.hurry()
        runner.end("the parent process is gone")

    def _say(self, event: str, **facts: object) -> None:
        with contextlib.suppress(OSError):  # the parent is gone: `follow` sees it too
            self._sock.send(json.dumps({"event": event, **facts}).encode() + b"\n")
