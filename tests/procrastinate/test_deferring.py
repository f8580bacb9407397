"""Deferring: one, many, in the caller's transaction, later, with priority, lock and queueing lock, sync and async."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import procrastinate
import psycopg
import psycopg_pool
import pytest
from procrastinate import exceptions
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL

from jobrunner.procrastinate import JobrunnerConnector, SyncJobrunnerConnector
from tests.procrastinate.rig import Rig, defers_on_connections, fresh_app, manages_on_connections
from tests.support import eventually

LATER = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


async def test_a_job_is_what_was_deferred(rig: Rig) -> None:
    note = rig.task(queue="mail")
    given = {"n": {"deep": [1, 2.5, None, True, "ü\\"]}}

    job_id = await note.configure(priority=7, lock="l", queueing_lock="q", schedule_at=LATER).defer_async(**given)

    job = await rig.job(job_id)
    assert (job.queue, job.task_name, job.priority, job.lock, job.queueing_lock) == ("mail", "note", 7, "l", "q")
    assert (job.task_kwargs, job.scheduled_at, job.status, job.attempts) == (given, LATER, "todo", 0)
    assert (job.abort_requested, job.worker_id) == (False, None)


async def test_many_come_back_in_their_order(rig: Rig) -> None:
    note = rig.task()

    ids = await note.batch_defer_async({"n": 1}, {"n": 2}, {"n": 3})

    assert ids == sorted(ids) and len(set(ids)) == 3
    assert [(await rig.job(job_id)).task_kwargs for job_id in ids] == [{"n": 1}, {"n": 2}, {"n": 3}]
    await rig.drain()
    assert rig.ran == [1, 2, 3]


async def test_nothing_is_deferred_by_an_empty_batch(rig: Rig) -> None:
    assert await rig.task().batch_defer_async() == []


async def test_a_task_is_deferred_by_its_name_only(rig: Rig) -> None:
    job_id = await rig.app.configure_task("far.away", queue="q2").defer_async(n=1)

    assert (await rig.job(job_id)).task_name == "far.away"


@manages_on_connections
@pytest.mark.parametrize("outcome", ["commit", "rollback"])
async def test_a_job_belongs_to_the_transaction_of_its_caller(rig: Rig, outcome: str) -> None:
    note = rig.task()
    async with await psycopg.AsyncConnection.connect(rig.dsn) as conn:
        one = await note.configure(connection=conn).defer_async(n=1)
        two = await note.configure(connection=conn).batch_defer_async({"n": 2}, {"n": 3})
        assert await rig.manager.list_jobs_async() == []
        assert (await rig.manager.get_job_status_async(one, connection=conn)).value == "todo"
        assert await rig.manager.cancel_job_by_id_async(two[0], connection=conn)
        await (conn.commit() if outcome == "commit" else conn.rollback())

    await rig.drain()
    assert rig.ran == ([1, 3] if outcome == "commit" else [])


@defers_on_connections
async def test_a_transaction_that_began_with_the_callers_rows_is_not_ended_by_a_defer(rig: Rig) -> None:
    note = rig.task()
    async with await psycopg.AsyncConnection.connect(rig.dsn) as conn:
        await conn.execute("create table orders (id int)")
        await note.configure(connection=conn).defer_async(n=1)
        await conn.rollback()

    with psycopg.connect(rig.dsn) as look:
        assert look.execute("select to_regclass('orders')").fetchone() == (None,)


async def test_larger_priorities_run_first(rig: Rig) -> None:
    note = rig.task()
    for n in (0, 5, -5, 10, 0):
        await note.configure(priority=n).defer_async(n=n)

    await rig.drain()

    assert rig.ran == [10, 5, 0, 0, -5]


async def test_a_larger_priority_overtakes_between_two_fetches(rig: Rig) -> None:
    note = rig.task()
    await note.batch_defer_async({"n": 0}, {"n": 0})
    worker = await rig.manager.register_worker()

    first = await rig.manager.fetch_job(queues=None, worker_id=worker)
    await note.configure(priority=3).defer_async(n=3)
    second = await rig.manager.fetch_job(queues=None, worker_id=worker)

    assert first and second and (first.task_kwargs, second.task_kwargs) == ({"n": 0}, {"n": 3})


async def test_a_job_for_later_waits(rig: Rig) -> None:
    note = rig.task()
    job_id = await note.configure(schedule_in={"hours": 1}).defer_async(n=1)
    soon = await note.configure(schedule_in={"milliseconds": 1}).defer_async(n=2)

    await rig.until(soon, "todo")
    rig.start(fetch_job_polling_interval=0.05)
    await rig.until(soon, "succeeded")

    due = (await rig.job(job_id)).scheduled_at
    assert due and abs(due - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=1)
    assert rig.ran == [2]


async def test_a_queueing_lock_turns_a_second_one_away(rig: Rig) -> None:
    note = rig.task(queueing_lock="one")
    await note.defer_async(n=1)

    with pytest.raises(exceptions.AlreadyEnqueued, match="queueing lock one"):
        await note.defer_async(n=2)
    with pytest.raises(exceptions.AlreadyEnqueued):
        await note.configure(queueing_lock=None).batch_defer_async({"n": 3}, {"n": 4})  # both have it
    with pytest.raises(exceptions.AlreadyEnqueued):
        await rig.app.configure_task("other", queueing_lock="one").defer_async()

    assert [job.task_kwargs for job in await rig.manager.list_jobs_async()] == [{"n": 1}]


async def test_a_batch_is_all_or_nothing(rig: Rig) -> None:
    note = rig.task()
    await note.configure(queueing_lock="taken").defer_async(n=0)

    with pytest.raises(exceptions.AlreadyEnqueued):
        await note.configure(queueing_lock="new").batch_defer_async({"n": 1}, {"n": 2})

    await note.configure(queueing_lock="new").defer_async(n=3)
    await rig.drain()
    assert rig.ran == [0, 3]


async def test_a_queueing_lock_is_free_again_when_its_job_starts(rig: Rig) -> None:
    note = rig.task()
    worker = await rig.manager.register_worker()
    first = await note.configure(queueing_lock="one").defer_async(n=1)
    job = await rig.manager.fetch_job(queues=None, worker_id=worker)

    await note.configure(queueing_lock="one").defer_async(n=2)

    assert job and (job.id, job.queueing_lock) == (first, "one")
    assert next(iter(await rig.manager.list_jobs_async(queueing_lock="one"))).id == first


async def test_a_cancelled_job_gives_its_queueing_lock_up(rig: Rig) -> None:
    note = rig.task(queueing_lock="one")
    await rig.manager.cancel_job_by_id_async(await note.defer_async(n=1))

    assert await note.defer_async(n=2)


async def test_jobs_of_one_lock_run_one_at_a_time_in_order(rig: Rig) -> None:
    running, most = 0, 0

    @rig.app.task(name="locked", lock="l")
    async def locked(n: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        rig.ran.append(n)
        running -= 1

    calls: Any = [{"n": n} for n in range(6)]
    await locked.batch_defer_async(*calls)
    rig.start(concurrency=3, fetch_job_polling_interval=0.02)
    await eventually(lambda: len(rig.ran) == 6)

    assert (rig.ran, most) == ([0, 1, 2, 3, 4, 5], 1)


@manages_on_connections
def test_a_sync_app_defers_before_it_has_a_loop(make_connector: Callable[..., Any], kind: str, dsn: str) -> None:
    app = fresh_app(make_connector())

    @app.task(name="t", queueing_lock="q")
    def t(n: int) -> None: ...

    with app.open():
        job_id = t.defer(n=1)
        with pytest.raises(exceptions.AlreadyEnqueued):
            t.defer(n=2)
        more = t.configure(queueing_lock="r").batch_defer({"n": 3})
        with psycopg.connect(dsn) as conn:
            inside = t.configure(connection=conn, queueing_lock="s").defer(n=4)
            assert app.job_manager.get_job_status(inside, connection=conn).value == "todo"
            conn.rollback()
        assert app.job_manager.get_job_status(job_id).value == "todo"
        assert [job.id for job in app.job_manager.list_jobs()] == [job_id, *more]
        assert app.job_manager.cancel_job_by_id(job_id)
        assert not app.job_manager.cancel_job_by_id(job_id)
        assert app.check_connection()


def test_a_connector_without_a_loop_is_enough_for_deferring(kind: str, dsn: str) -> None:
    made = SyncJobrunnerConnector(dsn) if kind == "ours" else procrastinate.SyncPsycopgConnector(conninfo=dsn)
    app = fresh_app(made)

    @app.task(name="t")
    def t() -> None: ...

    with app.open():
        job_id = t.defer()
        (job,) = app.job_manager.list_jobs(task="t")
        assert job.id == job_id
        with pytest.raises(exceptions.SyncConnectorConfigurationError):
            asyncio.run(app.job_manager.fetch_job(queues=None, worker_id=1))


async def test_arguments_are_encoded_and_decoded_by_the_apps_own_functions(
    make_connector: Callable[..., Any], kind: str, dsn: str
) -> None:
    made = make_connector(
        json_dumps=lambda value: json.dumps(value, default=lambda d: {"decimal": str(d)}),
        json_loads=lambda text: json.loads(text, object_hook=lambda d: Decimal(d["decimal"]) if "decimal" in d else d),
    )
    rig = Rig(fresh_app(made), kind, dsn)
    note = rig.task()
    async with rig.app.open_async():
        await note.defer_async(n=Decimal("1.10"))
        await rig.drain()

    assert rig.ran == [Decimal("1.10")]


async def test_an_app_that_is_not_open_says_so(make_connector: Callable[..., Any]) -> None:
    app = fresh_app(make_connector())

    with pytest.raises(exceptions.AppNotOpen):
        await app.configure_task("t").defer_async()


async def test_the_users_pool_is_used_and_left_open(make_connector: Callable[..., Any], kind: str, dsn: str) -> None:
    async with psycopg_pool.AsyncConnectionPool(dsn, open=False, min_size=1, max_size=4) as pool:
        rig = Rig(fresh_app(make_connector()), kind, dsn)
        note = rig.task()
        async with rig.app.open_async(pool):
            await note.configure(lock="l").batch_defer_async({"n": 1}, {"n": 2})
            await rig.drain()
        async with pool.connection() as conn:
            await conn.execute("select 1")

    assert rig.ran == [1, 2]


def _made(kind: str, sync: bool, conninfo: str | None = None, **options: Any) -> Any:
    if kind == "ours":
        return (SyncJobrunnerConnector if sync else JobrunnerConnector)(conninfo, **options)
    theirs = procrastinate.SyncPsycopgConnector if sync else procrastinate.PsycopgConnector
    return theirs(**options) if conninfo is None else theirs(conninfo=conninfo, **options)


@pytest.mark.parametrize("sync", [False, True])
def test_a_connector_takes_the_arguments_of_a_connection(
    kind: str, dsn: str, sync: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql:///other?options=-cdefault_transaction_read_only%3Don")
    app = fresh_app(_made(kind, sync, kwargs=conninfo_to_dict(dsn)))
    with app.open():
        job_id = app.configure_task("t").defer()

    with psycopg.connect(dsn) as conn:
        tables = "jobrunner.jobs" if kind == "ours" else "procrastinate_jobs"
        assert conn.execute(SQL("select id from {}").format(SQL(tables))).fetchall() == [(job_id,)]


@pytest.mark.parametrize("sync", [False, True])
def test_the_users_pool_may_be_a_sync_one(kind: str, dsn: str, sync: bool) -> None:
    with psycopg_pool.ConnectionPool(dsn, open=False, min_size=1, max_size=2) as pool:
        app = fresh_app(_made(kind, sync))
        with app.open(pool):
            job_id = app.configure_task("t", lock="l").defer()
        with app.open(pool):
            assert [job.id for job in app.job_manager.list_jobs()] == [job_id]
        pool.check()


async def test_a_pool_that_keeps_no_connection_is_enough(kind: str, dsn: str) -> None:
    made = _made(kind, sync=False, conninfo=dsn, pool_factory=psycopg_pool.AsyncNullConnectionPool)
    rig = Rig(fresh_app(made), kind, dsn)
    note = rig.task()
    async with rig.app.open_async():
        rig.start(fetch_job_polling_interval=1)
        await note.configure(lock="l").batch_defer_async({"n": 1}, {"n": 2})
        await eventually(lambda: rig.ran == [1, 2])
        await rig.stop()


@manages_on_connections
@pytest.mark.parametrize("sync", [False, True])
def test_a_sync_app_manages_its_jobs(kind: str, dsn: str, sync: bool) -> None:
    app = fresh_app(_made(kind, sync, dsn))
    manager = app.job_manager

    @app.task(name="t", queue="q")
    def t(n: int, m: int = 0) -> None: ...

    with app.open():
        pattern = t.configure(task_kwargs={"m": 9}, lock="l")
        one, two = pattern.defer(n=1), pattern.defer(n=2)
        with psycopg.connect(dsn) as conn:
            assert manager.cancel_job_by_id(one, connection=conn)
            inside = t.configure(connection=conn).batch_defer({"n": 3}, {"n": 4})
            assert [manager.get_job_status(job_id, connection=conn).value for job_id in inside] == ["todo", "todo"]
            assert manager.get_job_status(one, connection=conn).value == "cancelled"
            assert manager.get_job_status(one).value == "todo"
            conn.rollback()
        assert [(job.id, job.task_kwargs) for job in manager.list_jobs(status="todo")] == [
            (one, {"n": 1, "m": 9}),
            (two, {"n": 2, "m": 9}),
        ]
        assert [(found["name"], found["todo"]) for found in manager.list_queues(queue="q")] == [("q", 2)]
        assert [(found["name"], found["todo"]) for found in manager.list_tasks(lock="l")] == [("t", 2)]
        assert [(found["name"], found["todo"]) for found in manager.list_locks(task="t")] == [("l", 2)]
        assert manager.cancel_job_by_id(one, delete_job=True)
        with pytest.raises(exceptions.ConnectorException):
            manager.retry_job_by_id(two, datetime.now(UTC))
        assert [job.id for job in manager.list_jobs()] == [two]


def test_a_sync_app_retries_what_failed(kind: str, dsn: str) -> None:
    app = fresh_app(_made(kind, sync=False, conninfo=dsn))
    ran = []

    @app.task(name="t", pass_context=True, queue="q")
    def t(context: procrastinate.JobContext, n: int) -> None:
        ran.append((n, context.additional_context["by"], context.job.priority))
        if len(ran) == 1:
            raise ValueError("no")

    with app.open():
        job_id = t.configure(lock="l").defer(n=1)
    app.run_worker(wait=False, name="first", additional_context={"by": 1})
    with app.open():
        assert app.job_manager.get_job_status(job_id).value == "failed"
        app.job_manager.retry_job_by_id(job_id, datetime.now(UTC), 3, "q", "l")
    app.run_worker(wait=False, concurrency=2, listen_notify=False, queues=["q"], additional_context={"by": 2})

    assert ran == [(1, 1, 0), (1, 2, 3)]


@defers_on_connections
async def test_deferring_in_anothers_transaction_may_be_isolated(rig: Rig) -> None:
    """A queueing lock that is taken aborts the transaction; a savepoint keeps it."""
    note = rig.task(queueing_lock="q")
    async with await psycopg.AsyncConnection.connect(rig.dsn) as conn:
        await note.configure(connection=conn).defer_async(n=1)
        with pytest.raises(exceptions.AlreadyEnqueued):
            async with conn.transaction():
                await note.configure(connection=conn).defer_async(n=2)
        await note.configure(connection=conn, queueing_lock="other").defer_async(n=3)
        await conn.commit()

    await rig.drain()
    assert rig.ran == [1, 3]
