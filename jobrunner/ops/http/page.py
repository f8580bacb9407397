"""The status pages: server-rendered from what the API tells, without a script, escaped by default.

Links are relative, so that the pages work below any prefix, also one that a proxy cuts off. A page that lives refreshes itself,
and `?refresh=off` stops that. When the database is away the page says so, with status 503, and goes on asking.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from jobrunner.ops.cli.output import rough
from jobrunner.ops.http import insight, parameters
from jobrunner.ops.http.api import JOB_FILTERS, STATES, job_id_of
from jobrunner.ops.http.database import Reader, Shared
from jobrunner.ops.http.insight import Snapshot
from jobrunner.ops.http.problems import Problem, as_problem
from jobrunner.ops.shapes import COUNTED, Shape, to_json
from jobrunner.store.overview import clock
from jobrunner.store.rows import JobFilter
from jobrunner.version import VERSION

REFRESH = 5
"""Seconds."""

_HERE = Path(__file__).parent
_PAGE = 50
_OVER = ("succeeded", "cancelled", "dead")


class Pages:
    """The pages, on one reader and one shared snapshot."""

    def __init__(self, reader: Reader, snapshot: Shared[Snapshot], *, show_payloads: bool) -> None:
        self._reader, self._snapshot, self._payloads = reader, snapshot, show_payloads

    def routes(self) -> list[Route | Mount]:
        """All of them, and their style sheet."""
        return [
            Route("/", self.overview, methods=["GET"]),
            Route("/jobs", self.jobs, methods=["GET"]),
            Route("/jobs/{id}", self.job, methods=["GET"]),
            Mount("/static", StaticFiles(directory=_HERE / "static")),
        ]

    async def overview(self, request: Request) -> Response:
        """What there is, and what needs a person."""
        refresh = _refresh(parameters.read(request, _REFRESH))
        found = await self._snapshot.get()
        now = found.overview["at"]
        return _page("overview.html", now=now, refresh=refresh, found=found, counted=COUNTED, **found.overview)

    async def jobs(self, request: Request) -> Response:
        """Jobs by filter, in pages."""
        given = parameters.read(request, {**JOB_FILTERS, "cursor": parameters.identifier})
        cursor = given.pop("cursor")
        found = await self._reader.read(lambda conn: insight.jobs(conn, JobFilter(**given), _PAGE, cursor))
        asked = {name: request.query_params.get(name, "") for name in JOB_FILTERS}
        kept = {name: text for name, text in asked.items() if text}
        nearer = found["next_cursor"]
        return _page(
            "jobs.html",
            now=found["at"],
            refresh=None,  # it would take away what is being typed
            jobs=found["items"],
            states=STATES,
            asked=asked,
            first=f"?{urlencode(kept)}" if cursor else None,
            following=f"?{urlencode({**kept, 'cursor': nearer})}" if nearer else None,
        )

    async def job(self, request: Request) -> Response:
        """One job with its attempts, why it does not run, and its tree of causes."""
        refresh = _refresh(parameters.read(request, _REFRESH))
        job_id = job_id_of(request)
        told, now = await self._reader.read(
            lambda conn: (insight.job(conn, job_id, payload=self._payloads), clock(conn))
        )
        over = told["state"] in _OVER
        return _page("job.html", now=now, refresh=None if over else refresh, base="../", job=told, tree=_tree(told))


def problem_page(request: Request, problem: Problem) -> Response:
    """An error for a person. One that may pass is asked again."""
    depth = request.url.path.removeprefix(str(request.scope.get("root_path", ""))).strip("/").count("/")
    again = REFRESH if problem.status == 503 else None
    page = _page("problem.html", now=datetime.now(UTC), refresh=again, base="../" * depth or "./", problem=problem)
    page.status_code = problem.status
    page.headers.update(problem.headers or {})
    return page


async def answer(request: Request, error: Exception) -> Response:
    """The handler of every exception: a page for a browser, a problem document for everyone else."""
    problem = as_problem(error)
    path = request.url.path.removeprefix(str(request.scope.get("root_path", "")))
    for_a_person = "text/html" in request.headers.get("accept", "") and not path.startswith("/api/")
    return problem_page(request, problem) if for_a_person else problem.response()


_REFRESH: dict[str, parameters.Read] = {"refresh": parameters.one_of("on", "off")}


def _refresh(given: dict[str, Any]) -> int | None:
    return None if given["refresh"] == "off" else REFRESH


def _tree(job: Shape) -> list[Shape]:
    """The nodes of the job's tree; the job itself is marked."""
    return [{**node, "mine": node["kind"] in ("job", "delivery") and node["id"] == job["id"]} for node in job["trace"]]


# ------------------------------------------------------------------------------------------------------- templates


def _page(template: str, *, now: datetime, refresh: int | None, base: str = "./", **told: Any) -> Response:
    rendered = _TEMPLATES.get_template(template).render(
        now=now, refresh=refresh, base=base, version=VERSION, ago=lambda at: _ago(at, now), **told
    )
    return HTMLResponse(rendered)


def _ago(at: datetime | None, now: datetime) -> str:
    if at is None:
        return ""
    return f"in {rough(at - now)}" if at > now else f"{rough(now - at)} ago"


def _length(length: timedelta | float | None) -> str:
    """A length of time; what took less than a millisecond took no time that a person would see."""
    if length is None:
        return ""
    return rough(length if isinstance(length, timedelta) else timedelta(seconds=length))


def _instant(at: datetime | None) -> str:
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _harmless(value: Any) -> Any:
    """Text without the signs that turn the order of what follows around, also in what is not ours."""
    return value.translate(_TURNS) if type(value) is str else value


_TURNS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\N{REPLACEMENT CHARACTER}")


def _cut(text: str | None, length: int = 240) -> str:
    told = " ".join((text or "").split())
    return told if len(told) <= length else f"{told[:length]}…"


_TEMPLATES = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    finalize=_harmless,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters.update(
    length_of=_length, instant=_instant, cut=_cut, number=lambda many: f"{many:,}", pretty=lambda value: to_json(value)
)
