"""In bulk: while the server writes what was handed over, the next is made; an outcome is what it was one after the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import AsyncConnection

from jobrunner import App, Context, Job
from jobrunner.errors import UnknownTask
from jobrunner.worker import bulk
from tests.conftest import Connect, Connection

app = App("shop")

Blocked = Callable[[Connection | int], None]


@app.task
def plain(ctx: Context, n: int) -> None: ...


@pytest.fixture(autouse=True)
def three_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 3)


@pytest.fixture
def holder(connect: Connect) -> Connection:
    """A session that keeps everyone from writing jobs until it rolls back."""
    held = connect(autocommit=False)
    held.execute("lock table jobrunner.jobs in exclusive mode")
    return held


def stored(conn: Connection) -> list[int]:
    return [n for (n,) in conn.execute("select (args ->> 'n')::integer from jobrunner.jobs order by seq")]


def calls(upto: int, then: Callable[[], object]) -> Iterator[Job]:
    """Calls 0 to *upto* - 1; *then* before the next would come."""
    for n in range(upto):
        yield plain.job(n=n)
    then()
    yield plain.job(n=upto)


class Gate:
    """Closed behind each chunk that was written, opened in the middle of the next, once the one before truly waits."""

    def __init__(self, holder: Connection, waits: Callable[[], None]) -> None:
        self._holder, self._waits = holder, waits

    def calls(self) -> Iterator[Job]:
        for n in range(9):
            if n in (4, 7):
                self._waits()
                self._holder.rollback()
            yield plain.job(n=n)

    def close(self, written: int) -> None:
        if written < 6:
            self._holder.execute("lock table jobrunner.jobs in exclusive mode")


def test_the_next_are_made_while_the_server_writes(conn: Connection, holder: Connection, blocked: Blocked) -> None:
    gate = Gate(holder, lambda: blocked(conn))

    ids = app.enqueue_many(conn, gate.calls(), progress=gate.close)

    assert len(ids) == 9
    assert stored(conn) == list(range(9))


async def test_the_next_are_made_while_the_server_writes_on_an_async_connection(
    dsn: str, conn: Connection, holder: Connection, blocked: Blocked
) -> None:
    async with await AsyncConnection.connect(dsn, autocommit=True) as own:
        gate = Gate(holder, lambda: blocked(own.info.backend_pid))

        ids = await app.enqueue_many(own, gate.calls(), progress=gate.close)

    assert len(ids) == 9
    assert stored(conn) == list(range(9))


def test_calls_may_be_read_from_the_same_connection(connect: Connect) -> None:
    own = connect(autocommit=False)

    def read() -> Iterator[Job]:
        with own.cursor("source") as cursor:
            cursor.itersize = 2
            for (n,) in cursor.execute("select generate_series(0, 99)"):
                own.execute("select 1")
                yield plain.job(n=n)

    ids = app.enqueue_many(own, read())

    assert len(ids) == 100
    assert stored(own) == list(range(100))


def test_what_cannot_be_written_comes_before_what_cannot_be_made(conn: Connection) -> None:
    conn.execute("alter table jobrunner.jobs add check (args ->> 'n' <> '2')")

    def stumble() -> None:
        raise ValueError("the source is broken")

    with pytest.raises(psycopg.errors.CheckViolation):
        app.enqueue_many(conn, calls(4, stumble))

    assert stored(conn) == []


async def test_what_cannot_be_written_comes_first_on_an_async_connection_too(dsn: str, conn: Connection) -> None:
    conn.execute("alter table jobrunner.jobs add check (args ->> 'n' <> '2')")

    def stumble() -> None:
        raise ValueError("the source is broken")

    async with await AsyncConnection.connect(dsn, autocommit=True) as own:
        with pytest.raises(psycopg.errors.CheckViolation):
            await app.enqueue_many(own, calls(4, stumble))

    assert stored(conn) == []


def test_what_cannot_be_made_leaves_what_is_under_way_written(conn: Connection) -> None:
    with pytest.raises(UnknownTask):
        app.enqueue_many(conn, [*(plain.job(n=n) for n in range(3)), Job("shop.plian")])

    assert stored(conn) == [0, 1, 2]


def test_a_source_that_breaks_leaves_what_is_under_way_written(conn: Connection) -> None:
    def stumble() -> None:
        raise ValueError("the source is broken")

    with pytest.raises(ValueError, match="broken"):
        app.enqueue_many(conn, calls(4, stumble))

    assert stored(conn) == [0, 1, 2]


def test_in_progress_nothing_is_under_way(connect: Connect) -> None:
    own = connect(autocommit=False)
    seen: list[tuple[int, list[int]]] = []

    def look(written: int) -> None:
        own.commit()
        seen.append((written, stored(conn)))

    conn = connect()
    app.enqueue_many(own, (plain.job(n=n) for n in range(7)), progress=look)

    assert seen == [(3, [0, 1, 2]), (6, list(range(6))), (7, list(range(7)))]


def test_an_interrupt_stops_the_statement_and_leaves_a_connection_that_works(
    conn: Connection, connect: Connect, holder: Connection, blocked: Blocked
) -> None:
    own = connect(autocommit=False)

    def interrupt() -> None:
        blocked(own)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        app.enqueue_many(own, calls(4, interrupt))

    own.rollback()
    assert stored(own) == []
    assert not [one for one in threading.enumerate() if one.name.startswith("jobrunner-bulk")]


@pytest.mark.parametrize("while_it", ["waits", "makes the next"])
async def test_a_cancelled_task_stops_the_statement_and_leaves_a_connection_that_works(
    dsn: str, connect: Connect, holder: Connection, blocked: Blocked, while_it: str
) -> None:
    async with await AsyncConnection.connect(dsn) as own:
        pid = own.info.backend_pid

        def interrupt() -> None:
            if while_it == "makes the next":
                blocked(pid)
                raise asyncio.CancelledError

        task = asyncio.ensure_future(app.enqueue_many(own, calls(4, interrupt)))
        if while_it == "waits":
            await asyncio.to_thread(blocked, pid)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await own.rollback()
        assert stored(connect()) == []


def test_few_calls_need_no_other_thread(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a thread")

    monkeypatch.setattr(bulk, "ThreadPoolExecutor", refuse)

    assert len(app.enqueue_many(conn, [plain.job(n=1), plain.job(n=2)])) == 2
    assert app.enqueue_many(conn, []) == []
