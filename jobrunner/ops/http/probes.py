"""What an orchestrator asks: /livez, /readyz, /startupz. Takes checks, answers 200 or 503, and which check failed.

/livez of a runner never asks the database, because a restart does not mend one. Its age is measured on the event loop that
answers it: one that is blocked cannot answer at all, the probe times out, and that is the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobrunner.errors import JobrunnerError, SchemaMismatch
from jobrunner.ops.http import parameters
from jobrunner.ops.http.database import Reader
from jobrunner.ops.shapes import to_json
from jobrunner.store import overview
from jobrunner.worker.runner import Runner
from jobrunner.worker.vitals import Check

_SERVES = (Check("server"),)


def of_runner(runner: Runner) -> list[Route]:
    """The probes of one runner."""

    async def livez(request: Request) -> Response:
        return _answer(request, runner.vitals().live or _SERVES)

    async def readyz(request: Request) -> Response:
        return _answer(request, runner.vitals().ready)

    async def startupz(request: Request) -> Response:
        return _answer(request, runner.vitals().started)

    return _routes(livez, readyz, startupz)


def of_pages(reader: Reader) -> list[Route]:
    """The probes of the pages: alive while they answer, ready while the database can be read."""

    async def livez(request: Request) -> Response:
        return _answer(request, _SERVES)

    async def readyz(request: Request) -> Response:
        return _answer(request, [await _database(reader)])

    return _routes(livez, readyz, livez)


async def _database(reader: Reader) -> Check:
    try:
        await reader.read(overview.list_runners, statement=2)  # a login without the role could connect, and no more
    except SchemaMismatch as error:
        return Check("schema", str(error))
    except JobrunnerError:  # its sentence names hosts and roles, and a probe is open to everyone
        return Check("database", "the database cannot be read")
    return Check("database")


def _routes(livez: Any, readyz: Any, startupz: Any) -> list[Route]:
    named = {"/livez": livez, "/readyz": readyz, "/healthz": readyz, "/startupz": startupz}
    return [Route(path, probe, methods=["GET"]) for path, probe in named.items()]


def _answer(request: Request, checks: Sequence[Check]) -> Response:
    asked = request.query_params
    for name in asked:
        if name != "verbose":
            raise parameters.bad(name, f"there is no parameter {name[:80]!r}; it takes verbose")
    failed = any(check.problem for check in checks)
    told: dict[str, Any] = {"status": "fail" if failed else "pass"}
    if failed or "verbose" in asked:
        told["checks"] = {check.name: _check(check) for check in checks}
    return Response(f"{to_json(told)}\n", 503 if failed else 200, media_type="application/json")


def _check(check: Check) -> dict[str, Any]:
    told: dict[str, Any] = {"status": "fail" if check.problem else "pass", "problem": check.problem}
    if check.age is not None and check.limit is not None:
        told |= {"age_seconds": round(check.age, 3), "limit_seconds": check.limit}
    return told
