"""An HTTP client without a network: asks an ASGI app in this event loop, as a server would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    app: ASGIApp,
    target: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    host: str = "localhost:8080",
    root_path: str = "",
    sent: list[Answer] | None = None,
) -> Answer:
    """The answer to one request; an error that the app lets out after it is raised here, and the answer is in *sent*."""
    path, _, query = target.partition("?")
    messages: list[Any] = []
    told: Sequence[tuple[str, str]] = [("host", host), *(headers or {}).items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": root_path,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in told],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
    }

    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()  # nobody hangs up
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    try:
        await app(scope, receive, send)
    finally:
        answer = _answer(messages)
        if sent is not None:
            sent.append(answer)
    return answer


def _answer(messages: list[Any]) -> Answer:
    start, *rest = messages
    return Answer(
        start["status"],
        {name.decode(): value.decode("latin-1") for name, value in start["headers"]},
        b"".join(message.get("body", b"") for message in rest),
    )
