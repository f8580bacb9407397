"""Who may look, and the headers of every answer: a layer around the whole app, so that no route can be forgotten.

With a token everything asks for it but the three probes (a kubelet has none, and they tell nothing that is worth one). Without
one, only a browser or a client that calls this machine by a name of its own is answered: a foreign page whose name was
pointed at 127.0.0.1 is not.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobrunner.errors import ConfigError
from jobrunner.ops.http.problems import Problem

OPEN = frozenset({"/livez", "/readyz", "/startupz", "/healthz"})
"""Answered without a token."""

SHORTEST_TOKEN = 16

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="jobrunner", charset="UTF-8"'}


def check_token(token: str) -> str:
    """*token* where it can be one.

    Raises:
        ConfigError: it is too short, or could not be sent in a header.
    """
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            "the token", f"must have at least {SHORTEST_TOKEN} printable ASCII characters and no space in it"
        )
    return token


class Access:
    """The layer. *token* None lets everyone in whose request names this machine, or with *local* False simply everyone."""

    def __init__(self, app: ASGIApp, *, token: str | None, local: bool) -> None:
        self._app, self._local = app, local
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refuse(_path(scope), Headers(scope=scope))
        await (refused.response() if refused else self._app)(scope, receive, send_guarded)

    def _refuse(self, path: str, headers: Headers) -> Problem | None:
        if self._token is not None:
            if path in OPEN or _holds(headers.get("authorization", ""), self._token):
                return None
            return Problem(
                401, "a token is needed: as a Bearer token, or as the password of any user", headers=_CHALLENGE
            )
        if self._local and not _is_local(headers.get("host", "")):
            return Problem(403, "without a token only requests to localhost are answered; start this with a token")
        return None


def _path(scope: Scope) -> str:
    """The path below the place where the app is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def _holds(authorization: str, token: bytes) -> bool:
    scheme, _, given = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            secret = given.strip().encode()
        case "basic":
            try:
                secret = base64.b64decode(given.strip(), validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                return False
        case _:
            return False
    return hmac.compare_digest(secret, token)


def _is_local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or name.endswith(".localhost") or name in ("127.0.0.1", "::1")
