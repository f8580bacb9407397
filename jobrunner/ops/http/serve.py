"""Serves an app with uvicorn: where it may listen, and how it begins and ends inside an event loop of ours."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from jobrunner.errors import ConfigError, JobrunnerError, Refused

_GRACE = 3  # seconds that requests under way get at the end


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False  # a name may mean anything


def address(text: str, *, what: str) -> Address:
    """The address that *text* names, HOST:PORT or [IPV6]:PORT; port 0 takes a free one.

    Raises:
        ConfigError: it is none; *what* names it there.
    """
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    right = colon and bare and (":" not in bare or host == f"[{bare}]")
    if not (right and port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise ConfigError(what, f"must be HOST:PORT like 127.0.0.1:8080 or [::1]:8080, got {text[:80]!r}")
    return Address(bare, int(port))


def allow(at: Address, *, token: str | None, insecure: bool, flag: str) -> None:
    """Return when it may listen there.

    Raises:
        Refused: others could reach it, and it would answer everyone.
    """
    if not (at.is_loopback or token or insecure):
        raise Refused(f"answer everyone who reaches {at}", f"{flag} (or JOBRUNNER_HTTP_TOKEN) or --insecure")


def listen(at: Address) -> socket.socket:
    """A socket that listens there.

    Raises:
        JobrunnerError: somebody else does, or it is no address of this machine.
    """
    try:
        family, kind, _, _, where = socket.getaddrinfo(
            at.host, at.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(where)
            found.listen(128)
        except BaseException:
            found.close()
            raise
    except OSError as error:
        raise JobrunnerError(
            f"cannot listen on {at}: {(error.strerror or str(error)).lower()}; take another port"
        ) from error
    return found


def bound(listener: socket.socket) -> Address:
    """Where it listens: with the port that it got."""
    host, port = listener.getsockname()[:2]
    return Address(host, port)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are for whoever runs the loop."""
        yield


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    """*app* is served inside, in this event loop; the value is the task that serves it."""
    server = _Server(
        uvicorn.Config(
            app,
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield task
    finally:
        server.should_exit = True
        await asyncio.wait({task}, timeout=_GRACE + 2)
        listener.close()


async def until_signalled(app: ASGIApp, listener: socket.socket) -> None:
    """Serve *app* until SIGTERM or SIGINT."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        async with serving(app, listener) as server:
            waiting = asyncio.create_task(ended.wait())
            await asyncio.wait({waiting, server}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
