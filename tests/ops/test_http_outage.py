"""A database that goes away: /livez does not ask it, /readyz and the pages say so, and everything comes back by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest
from starlette.applications import Starlette

from jobrunner import App, Context, Runner
from jobrunner.embedded import EmbeddedServer
from jobrunner.errors import DatabaseUnavailable
from jobrunner.ops.http import create_app, database
from jobrunner.ops.http.app import probe_app
from jobrunner.ops.http.database import Reader
from jobrunner.worker import link as links
from jobrunner.worker import vitals
from tests.conftest import Connection
from tests.ops.asgi import Answer, ask
from tests.support import eventually
from tests.worker.rig import backend, within

PATIENCE = 1.0


async def test_the_server_is_stopped_and_started_again(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals, "_BREATH", 0.1)
    monkeypatch.setattr(links, "_LONG", 0.3)
    app = App("shop")

    @app.task
    async def work(ctx: Context) -> None: ...

    runner = Runner(app, server.dsn, lease="3s", poll="100ms", grace="1s")
    probes, pages = probe_app(runner, local=True), create_app(server.dsn, local=True)
    assert [(await ask(probes, path)).status for path in ("/livez", "/readyz", "/startupz")] == [200, 503, 503]
    async with runner:
        for pulse in runner._pulses:
            pulse.patience = PATIENCE * (6 if pulse.loop == "listen" else 2 if pulse.loop == "heartbeat" else 1)
        await comes(probes, "/readyz", 200, "pass")
        assert (await ask(probes, "/startupz")).status == 200
        assert [(await ask(pages, path)).status for path in ("/", "/readyz", "/healthz")] == [200, 200, 200]

        assert server.pid is not None
        os.kill(server.pid, signal.SIGINT)
        await eventually(lambda: server.pid is None, what="the end of the server")
        stopped = time.monotonic()
        await comes(probes, "/readyz", 503, "does not get through")
        # For three times its patience no loop can do anything, and none is called dead.
        while time.monotonic() < stopped + 3 * PATIENCE:
            alive = await ask(probes, "/livez?verbose")
            assert alive.status == 200, alive.text
            await asyncio.sleep(0.05)
        assert (await ask(pages, "/livez")).status == 200
        assert (await ask(pages, "/readyz")).json["checks"]["database"]["problem"] == "the database cannot be read"
        page = await comes(pages, "/", 503, "The database cannot be read")
        assert 'http-equiv="refresh"' in page.text
        assert (await ask(pages, "/api/v1/jobs")).status == 503
        scraped = await ask(pages, "/metrics")
        assert (scraped.status, 'jobrunner_scrape_success{collector="queues"} 0.0' in scraped.text) == (200, True)

        server.restart()
        await comes(probes, "/readyz", 200, "pass")
        await comes(pages, "/", 200, "Runners")
        assert (await ask(probes, "/livez")).status == 200
    pages.state.reader.close()


async def comes(app: Starlette, path: str, status: int, text: str) -> Answer:
    """The first answer with that status and text."""
    answers: list[Answer] = []

    async def look() -> bool:
        answers.append(await ask(app, path, {"Accept": "text/html"}))
        return answers[-1].status == status and text in answers[-1].text

    _: bool = await eventually(look, deadline=20, what=f"{status} of {path}")
    return answers[-1]


async def test_a_server_that_does_not_answer_is_not_waited_for(
    dsn: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_CONNECT", 1)
    monkeypatch.setattr(database, "_GRACE", 0.1)
    reader = Reader(dsn)
    pid = await reader.read(lambda mine: mine.info.backend_pid)
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="does not answer in time"):
            await reader.read(lambda mine: mine.execute("select 1"), statement=0.05)
        assert time.monotonic() - began < 5
        assert await reader.read(lambda mine: mine.info.backend_pid) != pid
    finally:
        os.kill(pid, signal.SIGCONT)
        reader.close()


async def test_a_beat_that_hangs_in_the_server_is_not_a_dead_thread(dsn: str, conn: Connection) -> None:
    app = App("shop")

    @app.task
    async def work(ctx: Context) -> None: ...

    async with Runner(app, dsn, lease="3s", poll="100ms", grace="1s") as runner:
        heart = runner._lease.pulse
        await eventually(lambda: not runner.vitals().ready[0].problem, what="a first beat")
        pid = backend(conn, "heartbeat")
        assert pid is not None
        heart.patience = 0.7  # it beats every half second
        os.kill(pid, signal.SIGSTOP)
        try:
            await eventually(lambda: runner.vitals().ready[0].problem, what="a runner that is not ready")
            assert [check for check in runner.vitals().live if check.name == "heartbeat" and check.problem] == []
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_a_reader_that_is_no_longer_waited_for_lets_go(dsn: str, conn: Connection) -> None:
    """Else the process could not end before the statement does."""
    reader = Reader(dsn)
    reading = asyncio.create_task(reader.read(lambda mine: mine.execute("select pg_sleep(60)"), statement=60))
    sleeping = "select 1 from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
    await eventually(lambda: conn.execute(sleeping).fetchone(), what="a slow statement")
    reading.cancel()
    await asyncio.wait({reading})
    assert reading.cancelled()
    await within(5, asyncio.to_thread(reader._threads.shutdown))
    reader.close()
