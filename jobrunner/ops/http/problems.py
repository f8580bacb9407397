"""Every error as a problem document (RFC 9457): takes an exception, answers with a sentence that a person can act on."""

from __future__ import annotations

import http
import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from jobrunner.errors import DatabaseUnavailable, JobrunnerError, MissingPrivilege, NotFound, SchemaMismatch

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is no success; *detail* is the sentence, *members* go into the document beside it."""

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: str | int | None
    ) -> None:
        self.status, self.detail, self.headers, self.members = status, detail, headers, members
        super().__init__(detail)

    @property
    def title(self) -> str:
        """The name of the status."""
        return http.HTTPStatus(self.status).phrase

    def response(self) -> Response:
        """The document."""
        told: dict[str, Any] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        body = f"{json.dumps({**told, **self.members}, ensure_ascii=False, indent=2)}\n"
        return Response(body, self.status, self.headers, MEDIA_TYPE)


def as_problem(error: Exception) -> Problem:
    """What *error* is to the one who asked. An error that nobody foresaw tells nothing of itself: the log does."""
    match error:
        case Problem():
            return error
        case HTTPException(status_code=405):
            return Problem(405, "this is read-only: only GET and HEAD are answered", headers=error.headers)
        case HTTPException(status_code=404):
            return Problem(404, "there is nothing here; the API is described in api/v1/openapi.json")
        case HTTPException():
            return Problem(error.status_code, str(error.detail), headers=error.headers)
        case NotFound():
            return Problem(404, str(error))
        case DatabaseUnavailable() | SchemaMismatch() | MissingPrivilege():
            return Problem(503, str(error), headers={"Retry-After": "5"})
        case JobrunnerError():
            return Problem(400, str(error))
        case _:
            return Problem(500, "something unexpected went wrong; the log of this process has the traceback")


async def answer(request: Request, error: Exception) -> Response:
    """The handler of every exception of an app."""
    return as_problem(error).response()
