"""The two apps: the status of a database (pages, API, gauges), and the probes and metrics of one runner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ExceptionHandler

from jobrunner.errors import ConfigError, JobrunnerError
from jobrunner.ops.http import gauges, insight, page, probes, problems, scrape
from jobrunner.ops.http.access import Access, check_token
from jobrunner.ops.http.api import Api
from jobrunner.ops.http.database import Reader, Shared
from jobrunner.ops.http.metrics import RunnerMetrics
from jobrunner.ops.http.page import Pages
from jobrunner.ops.http.problems import Problem
from jobrunner.worker.runner import Runner

_FRESH = 2.0
"""Seconds that one count of all jobs is good for."""


def create_app(
    dsn: str | None = None,
    *,
    token: str | None = None,
    insecure: bool = False,
    local: bool = False,
    show_payloads: bool = False,
) -> Starlette:
    """The status of the jobrunner in a database: pages at `/`, JSON under `/api/v1`, probes, `/metrics`. Read-only.

    Mountable below any path: `Mount("/jobs", create_app(token=…))`. It connects when it is first asked, with four connections
    at the most; `app.state.reader.close()` closes them where no lifespan does. One of three must say who may look: *token* (a
    Bearer token, or the password of any user), *insecure* (everyone: the app around it lets in whom it wants), or *local*
    (everyone whose request names localhost; for a server that listens on the loopback alone). Arguments, headers and results
    of jobs are shown with *show_payloads* only.

    Raises:
        ConfigError: none of the three, or a token that is too short.
    """
    if token is None and not (insecure or local):
        raise ConfigError("create_app", "needs a token; insecure=True leaves it to the app around it who may look")
    reader = Reader(dsn)
    snapshot = Shared(lambda: reader.read(insight.snapshot), _FRESH)
    families = Shared(lambda: gauges.collect(reader), gauges.FRESH)

    async def metrics(request: Request) -> Response:
        return scrape.answer(request, scrape.Families(await families.get()))

    routes = [
        *probes.of_pages(reader),
        Route("/metrics", metrics, methods=["GET"]),
        *Api(reader, snapshot, show_payloads=show_payloads).routes(),
        *Pages(reader, snapshot, show_payloads=show_payloads).routes(),
    ]
    app = _app(routes, page.answer, token, local=local and not insecure, reader=reader)
    app.state.reader = reader
    return app


def probe_app(runner: Runner, *, token: str | None = None, local: bool = False) -> Starlette:
    """The probes of *runner* and its `/metrics`; to be made before it starts. Never asks the database."""
    collector = RunnerMetrics(runner)

    async def metrics(request: Request) -> Response:
        return scrape.answer(request, collector)

    async def nothing(request: Request) -> Response:
        raise Problem(404, "a runner has livez, readyz, startupz and metrics; for all else there is `jobrunner web`")

    routes = [
        *probes.of_runner(runner),
        Route("/metrics", metrics, methods=["GET"]),
        Route("/{path:path}", nothing, methods=["GET"]),
    ]
    return _app(routes, problems.answer, token, local=local)


def _app(
    routes: Sequence[BaseRoute],
    handler: ExceptionHandler,
    token: str | None,
    *,
    local: bool,
    reader: Reader | None = None,
) -> Starlette:
    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        yield
        if reader is not None:
            reader.close()

    guard = Middleware(Access, token=None if token is None else check_token(token), local=local)
    return Starlette(routes=list(routes), middleware=[guard], exception_handlers=_handlers(handler), lifespan=life)


def _handlers(handler: ExceptionHandler) -> dict[type[Exception] | int, ExceptionHandler]:
    """For what is foreseen, and (by `Exception`) for what is not, which is logged as well."""
    return dict.fromkeys((Problem, HTTPException, JobrunnerError, Exception), handler)
