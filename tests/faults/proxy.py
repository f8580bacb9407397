"""A middlebox: a TCP proxy before a server's Unix socket that knows each connection's purpose and can hold, swallow or cut it.

The kernel acknowledges for it whatever it does: the sender of a frozen connection sees no error and no time-out of the socket.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Literal, Self

from psycopg.conninfo import make_conninfo

Mode = Literal["pass", "freeze", "swallow", "drop reply", "delay"]
"""freeze: nothing moves, either way. swallow: what the client sends is read and thrown away, and nothing comes back. drop reply:
the next answer is thrown away, and the connection is cut. delay: each answer comes `Proxy.delay` seconds later."""


@dataclass(eq=False)
class Wire:
    """One connection through the proxy."""

    purpose: str
    """Its application_name, without "jobrunner "; "cancel" for a request to cancel."""
    client: socket.socket
    server: socket.socket
    mode: Mode = "pass"
    gone: threading.Event = field(default_factory=threading.Event)
    """Set when the client has left."""

    def cut(self) -> None:
        """Close both ends."""
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Listens on a port of its own; new connections begin in the mode that `modes` has for their purpose, else for ""."""

    def __init__(self, socket_path: str, dbname: str) -> None:
        self._path, self._dbname = socket_path, dbname
        self.modes: dict[str, Mode] = {}
        self.delay = 0.0
        self.wires: list[Wire] = []
        self._change = threading.Condition()
        self._over = False

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._change:
            self._over = True
            self._change.notify_all()
        self._listener.close()
        for wire in self.wires:
            wire.cut()
            wire.client.close()
            wire.server.close()

    @property
    def dsn(self) -> str:
        """The way through it."""
        port: int = self._listener.getsockname()[1]
        return make_conninfo(
            host="127.0.0.1", port=port, user="postgres", dbname=self._dbname, sslmode="disable", gssencmode="disable"
        )

    def open(self, purpose: str | None = None) -> list[Wire]:
        """The connections of *purpose*, or all, whose client is still there."""
        return [wire for wire in self.wires if not wire.gone.is_set() and purpose in (None, wire.purpose)]

    def set(self, mode: Mode, *purposes: str, new: bool = False) -> list[Wire]:
        """Put the open connections of *purposes*, or all, into *mode*, and with *new* also those that come; returns them."""
        with self._change:
            found = [wire for wire in self.open() if not purposes or wire.purpose in purposes]
            for wire in found:
                wire.mode = mode
            if new:
                self.modes = dict.fromkeys(purposes or [""], mode)
            self._change.notify_all()
        return found

    def _accept(self) -> None:
        while not self._over:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], name="proxy wire", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError):
            hello = client.recv(8192)
            if not hello:
                client.close()
                return
            wire = Wire(_purpose(hello), client, server)
            wire.mode = self.modes.get(wire.purpose, self.modes.get("", "pass"))
            self.wires.append(wire)
            server.connect(self._path)
            threading.Thread(target=self._pump, args=[wire, server, client], name="proxy reply", daemon=True).start()
            self._pump(wire, client, server, hello)

    def _pump(self, wire: Wire, source: socket.socket, sink: socket.socket, data: bytes = b"") -> None:
        """Move bytes from *source* to *sink* as the wire's mode says, until one of them ends."""
        from_client = source is wire.client
        with contextlib.suppress(OSError):
            while data := data or source.recv(65536):
                with self._change:
                    while wire.mode == "freeze" and not self._over:
                        if from_client and _has_left(source):
                            break
                        self._change.wait(0.02)
                if wire.mode == "drop reply" and not from_client:
                    break
                if wire.mode == "delay" and not from_client:
                    time.sleep(self.delay)
                if wire.mode not in ("swallow", "freeze"):
                    sink.sendall(data)
                data = b""
        if from_client:
            wire.gone.set()
        if from_client or wire.mode not in ("swallow", "freeze"):
            wire.cut()


def _has_left(client: socket.socket) -> bool:
    """Whether the client has closed its end, although nobody reads."""
    with contextlib.suppress(BlockingIOError):
        return client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    return False


def _purpose(hello: bytes) -> str:
    if struct.unpack("!I", hello[4:8])[0] == 80877102:
        return "cancel"
    words = hello[8:].split(b"\0")
    given = dict(zip(words[::2], words[1::2], strict=False))
    return given.get(b"application_name", b"").decode().removeprefix("jobrunner ")
