"""Each test here runs twice, on one server: with procrastinate's own connector on its own tables, and with ours on jobrunner's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import procrastinate
import psycopg
import pytest
from procrastinate.schema import SchemaManager
from pytest_postgresql.executors import NoopExecutor
from pytest_postgresql.factories import postgresql_noproc

from jobrunner.procrastinate import JobrunnerConnector
from tests.conftest import _database, migrated
from tests.procrastinate.rig import Rig, fresh_app


def both_schemas(*, host: str, port: int, user: str, dbname: str, password: str | None, autocommit: bool) -> None:
    """Brings a database to jobrunner's schema and to procrastinate's; the signature is pytest-postgresql's."""
    migrated(host=host, port=port, user=user, dbname=dbname, password=password, autocommit=autocommit)
    with psycopg.connect(host=host, port=port, user=user, dbname=dbname, autocommit=True) as conn:
        conn.execute("set client_min_messages = warning")
        conn.execute(SchemaManager.get_schema())


both_template = postgresql_noproc(depends_on="postgres", dbname="procrastinate_too", load=[both_schemas])


@pytest.fixture
def direct_dsn(both_template: NoopExecutor) -> Iterator[str]:
    """A fresh database with both schemas; *dsn* is the way to it."""
    yield from _database(both_template, both_template.template_dbname)


@pytest.fixture(params=["theirs", "ours"])
def kind(request: pytest.FixtureRequest) -> str:
    """Whose tables."""
    return str(request.param)


@pytest.fixture
def make_connector(kind: str, dsn: str) -> Callable[..., Any]:
    """A connector on the test's database, not open."""

    def make(**options: Any) -> Any:
        if kind == "ours":
            return JobrunnerConnector(dsn, **options)
        return procrastinate.PsycopgConnector(conninfo=dsn, **options)

    return make


@pytest.fixture
def make_rig() -> Callable[..., Rig]:
    """Who runs the jobs: procrastinate's own workers. A module of tests that wants jobrunner's runner has its own."""
    return Rig


@pytest.fixture
async def rig(
    kind: str, dsn: str, make_connector: Callable[..., Any], make_rig: Callable[..., Rig]
) -> AsyncIterator[Rig]:
    """An app that is open, and its workers, which are stopped after the test."""
    app = fresh_app(make_connector(min_size=1, max_size=6))
    async with app.open_async():
        made = make_rig(app, kind, dsn)
        try:
            yield made
        finally:
            await made.stop()
