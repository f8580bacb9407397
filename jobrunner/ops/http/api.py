"""The JSON under /api/v1: reads parameters, asks `insight`, answers. Read-only; every path is in `openapi`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobrunner.errors import NotFound
from jobrunner.ops.http import insight, openapi, parameters
from jobrunner.ops.http.database import Reader, Shared
from jobrunner.ops.http.insight import Snapshot
from jobrunner.ops.shapes import Shape, to_json
from jobrunner.store.reading import Connection
from jobrunner.store.reports import AuditFilter
from jobrunner.store.rows import DeadFilter, JobFilter

STATES = ("scheduled", "ready", "blocked", "running", "succeeded", "dead", "cancelled")
JOB_FILTERS: dict[str, parameters.Read] = {
    "state": parameters.one_of(*STATES),
    "queue": parameters.text,
    "task": parameters.text,
    "key": parameters.text,
    "subject": parameters.text,
    "since": parameters.since,
}

_PAGE = 50


class Api:
    """The endpoints, on one reader and one shared snapshot."""

    def __init__(self, reader: Reader, snapshot: Shared[Snapshot], *, show_payloads: bool) -> None:
        self._reader, self._snapshot, self._payloads = reader, snapshot, show_payloads

    def routes(self) -> list[Route]:
        """All of them, with their full paths."""
        found = {
            "/meta": self.meta,
            "/overview": self.overview,
            "/queues": self.queues,
            "/jobs": self.jobs,
            "/jobs/{id}": self.job,
            "/trace": self.trace,
            "/runners": self.runners,
            "/tasks": self.tasks,
            "/subscriptions": self.subscriptions,
            "/dead": self.dead,
            "/dead/groups": self.dead_groups,
            "/audit": self.audit,
            "/openapi.json": self.openapi,
        }
        return [Route(f"/api/v1{path}", endpoint, methods=["GET"]) for path, endpoint in found.items()]

    async def meta(self, request: Request) -> Response:
        """Version, schema, capabilities."""
        parameters.read(request, {})
        return await self._answer(lambda conn: insight.meta(conn, payload=self._payloads))

    async def overview(self, request: Request) -> Response:
        """The headline numbers and what needs a person."""
        parameters.read(request, {})
        return _json((await self._snapshot.get()).overview)

    async def queues(self, request: Request) -> Response:
        """The queues, from the same counts as the overview."""
        parameters.read(request, {})
        now = (await self._snapshot.get()).overview
        return _json(insight.listing(now["at"], now["queues"]))

    async def subscriptions(self, request: Request) -> Response:
        """The subscriptions, from the same counts as the overview."""
        parameters.read(request, {})
        now = await self._snapshot.get()
        return _json(insight.listing(now.overview["at"], now.subscriptions))

    async def jobs(self, request: Request) -> Response:
        """Jobs by filter, in pages."""
        given = parameters.read(request, {**JOB_FILTERS, "limit": parameters.limit, "cursor": parameters.identifier})
        limit, cursor = given.pop("limit") or _PAGE, given.pop("cursor")
        return await self._answer(lambda conn: insight.jobs(conn, JobFilter(**given), limit, cursor))

    async def job(self, request: Request) -> Response:
        """One job."""
        parameters.read(request, {})
        job_id = job_id_of(request)
        return await self._answer(lambda conn: insight.job(conn, job_id, payload=self._payloads))

    async def trace(self, request: Request) -> Response:
        """A tree of causes."""
        given = parameters.read(request, {"ref": parameters.text, "limit": parameters.limit})
        if (ref := given["ref"]) is None:
            raise parameters.bad("ref", "ref is needed: a subject like order:42, job:ID or event:UUID")
        return await self._answer(lambda conn: insight.trace(conn, ref, given["limit"] or parameters.LIMIT))

    async def runners(self, request: Request) -> Response:
        """The runners."""
        gone = bool(parameters.read(request, {"gone": parameters.flag})["gone"])
        return await self._answer(lambda conn: insight.runners(conn, gone=gone))

    async def tasks(self, request: Request) -> Response:
        """The tasks."""
        parameters.read(request, {})
        return await self._answer(insight.tasks)

    async def dead(self, request: Request) -> Response:
        """Dead jobs, in pages."""
        filters = dict.fromkeys(("queue", "task", "error"), parameters.text)
        given = parameters.read(request, {**filters, "limit": parameters.limit, "cursor": _death})
        limit, cursor = given.pop("limit") or _PAGE, given.pop("cursor")
        return await self._answer(lambda conn: insight.dead(conn, DeadFilter(**given), limit, cursor))

    async def dead_groups(self, request: Request) -> Response:
        """Dead jobs by what they died of."""
        limit = parameters.read(request, {"limit": parameters.limit})["limit"] or _PAGE
        return await self._answer(lambda conn: insight.dead_groups(conn, limit))

    async def audit(self, request: Request) -> Response:
        """What people changed, in pages."""
        filters = {"actor": parameters.text, "action": parameters.text, "job": parameters.identifier}
        given = parameters.read(request, {**filters, "limit": parameters.limit, "cursor": parameters.identifier})
        limit, cursor = given.pop("limit") or _PAGE, given.pop("cursor")
        return await self._answer(lambda conn: insight.audit(conn, AuditFilter(**given), limit, cursor))

    async def openapi(self, request: Request) -> Response:
        """The description of all this."""
        parameters.read(request, {})
        return _json(openapi.document())

    async def _answer(self, work: Callable[[Connection], Shape]) -> Response:
        return _json(await self._reader.read(work))


def job_id_of(request: Request) -> int:
    """The id in the path.

    Raises:
        NotFound: no job can have it.
    """
    given = str(request.path_params["id"])
    try:
        return parameters.identifier(given)
    except ValueError:
        raise NotFound("job", given[:40], "an id is a whole number") from None


def _death(given: str) -> tuple[datetime, int]:
    at, _, job_id = given.partition("-")
    try:
        return insight.EPOCH + timedelta(microseconds=parameters.identifier(at)), parameters.identifier(job_id)
    except (ValueError, OverflowError):
        raise ValueError("must be the next_cursor of the page before") from None


def _json(shape: Any) -> Response:
    return Response(f"{to_json(shape)}\n", media_type="application/json")
