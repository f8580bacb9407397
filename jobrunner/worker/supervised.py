"""One child process, as its supervisor sees it: under which ids it lives, whether it is ready, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Self

from jobrunner.worker.tether import HURRY, RECYCLING, VARIABLE

_LAST_WORDS = 0.5  # seconds for what a dead child has said before; a process that it forked may keep the socket open


class Child:
    """A process that was started. It stops by SIGTERM, and when this process ends."""

    def __init__(
        self,
        number: int,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.number, self.pid = number, process.pid
        self.ids = set[int]()
        """The runner ids under which it may hold jobs."""
        self.ready, self.ended = asyncio.Event(), asyncio.Event()
        """It claims. It is dead, and all that it said is known."""
        self.kept = True
        """The place is its own: when it dies, another follows it."""
        self.told = False
        """It was told to stop."""
        self.on_ready: Callable[[], None] = lambda: None
        self.on_recycling: Callable[[str, str], None] = lambda kind, why: None
        """It wants to be replaced: because of its jobs or of its memory, and why in words."""
        self._process, self._reader, self._writer = process, reader, writer
        self._began = time.monotonic()

    @classmethod
    async def start(cls, number: int, command: Sequence[str], environment: Mapping[str, str]) -> Self:
        """A new process of *command*, in a process group of its own: Ctrl-C in a terminal reaches the parent only.

        Raises:
            OSError: there is no room for it, or no such program.
        """
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    env={**os.environ, **environment, VARIABLE: f"{theirs.fileno()}:{number}"},
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    process_group=0,
                )
            except BaseException:
                writer.close()
                raise
        return cls(number, process, reader, writer)

    def __str__(self) -> str:
        return f"child {self.number} (pid {self.pid})"

    @property
    def lived(self) -> timedelta:
        """For how long so far."""
        return timedelta(seconds=time.monotonic() - self._began)

    def stop(self) -> None:
        """Let it stop gracefully; nothing the second time."""
        if not self.told:
            self.told = True
            self._send(signal.SIGTERM)

    def hurry(self) -> None:
        """Let it hand back at once."""
        self._writer.write(HURRY)

    def kill(self) -> None:
        """End it as it is."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def live(self) -> int:
        """Listens to it until its end; returns its exit code, or the negative number of the signal that killed it."""
        hearing = asyncio.create_task(self._hear())
        try:
            code = await self._process.wait()
            await asyncio.wait({hearing}, timeout=_LAST_WORDS)
        finally:
            hearing.cancel()
            self._writer.close()
            self.ended.set()
        return code

    async def _hear(self) -> None:
        with contextlib.suppress(ConnectionError):
            async for line in self._reader:
                self._heard(json.loads(line))

    def _heard(self, said: dict[str, Any]) -> None:
        match said:
            case {"event": "runner.registering", "runner": int(runner)}:
                self.ids.add(runner)
            case {"event": "runner.renewed", "runner": int(runner)}:
                self.ids = {runner}  # the old one is a tombstone: any runner gives back what it left
            case {"event": "runner.stopped"}:
                self.ids.clear()
            case {"event": "runner.started"}:
                self.ready.set()
                self.on_ready()
            case {"event": str(event), "kind": str(kind), "why": str(why)} if event == RECYCLING:
                self.on_recycling(kind, why)
