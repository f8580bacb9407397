"""What jobrunner's tables bring to a procrastinate app, and where they differ: docs/procrastinate.md has each with its reason."""

from __future__ import annotations

import asyncio
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import procrastinate
import psycopg
import pytest
from procrastinate import exceptions, jobs, sql
from procrastinate.testing import InMemoryConnector

from jobrunner.procrastinate import JobrunnerConnector
from jobrunner.procrastinate.driving import execute_async
from jobrunner.procrastinate.talks import Row, Say
from tests.conftest import Login
from tests.procrastinate.rig import Rig, defers_on_connections, fresh_app
from tests.support import eventually

pytestmark = pytest.mark.pg16


@pytest.fixture
def kind() -> str:
    return "ours"


def rows(rig: Rig, statement: Any, *params: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(rig.dsn, autocommit=True) as conn:
        ran = conn.execute(statement, params)
        return ran.fetchall() if ran.description else []


async def test_every_query_of_the_installed_procrastinate_has_an_answer(dsn: str) -> None:
    desk = JobrunnerConnector(dsn)._desk

    assert set(sql.queries) - {"listen_queue"} == set(desk._talks)


async def test_a_query_that_it_does_not_know_fails_with_a_sentence(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(exceptions.ConnectorException, match="does not know this query: 'select 1'; it works with"):
        await rig.app.connector.execute_query_async("select 1")
    monkeypatch.setattr("jobrunner.procrastinate.desk.NAMES", {"select 2": "steal_job"})
    with pytest.raises(exceptions.ConnectorException, match="the query 'steal_job' of procrastinate; it works with"):
        await rig.app.connector.execute_query_all_async("select 2")


async def test_a_zombie_cannot_end_what_another_worker_has(rig: Rig) -> None:
    """Of two workers of one connector each ends its own claim only: the claim travels with the task that runs the job."""
    job_id = await rig.task().defer_async()
    first, second = await rig.manager.register_worker(), await rig.manager.register_worker()
    rescued, both_fetched, outcome = asyncio.Event(), asyncio.Event(), dict[str, str]()

    async def zombie() -> None:
        job = await rig.manager.fetch_job(queues=None, worker_id=first)
        assert job is not None
        rows(rig, "update jobrunner.runners set beat_at = now() - interval '1 hour' where id = %s", first)
        rows(rig, "select jobrunner.rescue_v1()")
        rescued.set()
        await both_fetched.wait()
        with pytest.raises(exceptions.ConnectorException, match="attempt 1 no longer holds job"):
            await rig.manager.finish_job(job, status=jobs.Status.FAILED, delete_job=False)
        with pytest.raises(exceptions.ConnectorException):
            await rig.manager.retry_job(job)
        outcome["zombie"] = await rig.status(job_id)

    async def successor() -> None:
        await rescued.wait()
        job = await rig.manager.fetch_job(queues=None, worker_id=second)
        assert job is not None and job.attempts == 1
        both_fetched.set()
        await running
        await rig.manager.finish_job(job, status=jobs.Status.SUCCEEDED, delete_job=False)

    running = asyncio.create_task(zombie())
    await asyncio.gather(running, asyncio.create_task(successor()))

    assert (outcome, await rig.status(job_id)) == ({"zombie": "doing"}, "succeeded")


async def test_a_worker_that_was_declared_lost_goes_on_under_a_new_id(rig: Rig) -> None:
    note = rig.task()
    first, second = await note.batch_defer_async({"n": 1}, {"n": 2})
    worker = await rig.manager.register_worker()
    held = await rig.manager.fetch_job(queues=None, worker_id=worker)
    rows(rig, "update jobrunner.runners set lost_at = now(), ended = 'lost' where id = %s", worker)

    fetched = await rig.manager.fetch_job(queues=None, worker_id=worker)
    await rig.manager.update_heartbeat(worker)

    assert held and fetched and (held.id, fetched.id) == (first, second)
    for job in (held, fetched):
        await rig.manager.finish_job(job, status=jobs.Status.SUCCEEDED, delete_job=False)
    assert [await rig.status(job_id) for job_id in (first, second)] == ["succeeded", "succeeded"]
    assert rows(rig, "select state, count(*) from jobrunner.v_runner group by 1 order by 1") == [
        ("alive", 1),
        ("lost", 1),
    ]


async def test_a_fetch_and_a_heartbeat_that_both_hear_that_it_is_lost_renew_it_once(rig: Rig) -> None:
    """As after a blocked event loop. A second new id would make a tombstone of the first, and what it holds would be given away."""
    job_id = await rig.task().defer_async()
    worker = await rig.manager.register_worker()
    held = await rig.manager.fetch_job(queues=None, worker_id=worker)
    assert held is not None
    rows(rig, "update jobrunner.runners set lost_at = now(), ended = 'lost' where id = %s", worker)

    async with await psycopg.AsyncConnection.connect(rig.dsn) as someone:
        await someone.execute("lock table jobrunner.runners in share mode")  # both look before either registers
        both = [rig.manager.fetch_job(queues=None, worker_id=worker), rig.manager.update_heartbeat(worker)]
        tasks: Any = [asyncio.ensure_future(each) for each in both]
        tried = "select 1 from pg_stat_activity where query like %s and wait_event_type = 'Lock'"
        await eventually(lambda: rows(rig, tried, "%register_v2%"))
        await eventually(lambda: rows(rig, tried, "%beat_v1%"))
        await someone.rollback()
    await asyncio.gather(*tasks)

    assert rows(rig, "select id, ended from jobrunner.runners where id <> %s", worker) == [
        (rows(rig, "select runner_id from jobrunner.jobs where id = %s", job_id)[0][0], None)
    ]
    await rig.manager.finish_job(held, status=jobs.Status.SUCCEEDED, delete_job=False)
    assert await rig.status(job_id) == "succeeded"


async def test_any_runner_gives_the_jobs_of_a_dead_worker_back(rig: Rig) -> None:
    job_id = await rig.task().defer_async()
    dead, other = await rig.manager.register_worker(), await rig.manager.register_worker()
    await rig.manager.fetch_job(queues=None, worker_id=dead)
    assert rows(rig, "select ttl, app from jobrunner.runners where id = %s", dead) == [
        (timedelta(seconds=30), "procrastinate")
    ]
    rows(rig, "update jobrunner.runners set beat_at = now() - interval '31 s' where id = %s", dead)

    lost, rescued = rows(rig, "select * from jobrunner.rescue_v1()")[0]

    assert (lost, rescued) == (1, 1)
    job = await rig.manager.fetch_job(queues=None, worker_id=other)
    assert job and (job.id, job.attempts) == (job_id, 1)


async def test_a_worker_that_says_good_bye_gives_back_what_it_holds(rig: Rig) -> None:
    job_id = await rig.task().defer_async()
    worker = await rig.manager.register_worker()
    await rig.manager.fetch_job(queues=None, worker_id=worker)

    await rig.manager.unregister_worker(worker)

    assert await rig.status(job_id) == "todo"


async def test_workers_rescue_each_other_with_their_heartbeats(rig: Rig) -> None:
    await rig.task().defer_async()
    dead, other = await rig.manager.register_worker(), await rig.manager.register_worker()
    await rig.manager.fetch_job(queues=None, worker_id=dead)
    rows(rig, "update jobrunner.runners set beat_at = now() - interval '31 s' where id = %s", dead)

    await rig.manager.update_heartbeat(other)
    assert list(await rig.manager.list_jobs_async(status="doing")), "a worker that has just come must not judge"
    keeping = rig.app.connector._desk.workers._runners[other].housekeeping  # type: ignore[attr-defined]
    keeping._healthy_since -= 15
    await rig.manager.update_heartbeat(other)

    assert list(await rig.manager.list_jobs_async(status="doing")) == []


async def test_a_worker_that_starts_after_an_outage_takes_nothing_from_those_that_outlived_it(rig: Rig) -> None:
    """Every beat looks old at once then; procrastinate's worker prunes before it registers."""
    starts, go = [], asyncio.Event()

    @rig.app.task(name="long")
    async def long() -> None:
        starts.append(1)
        await go.wait()

    job_id = await long.defer_async()
    rig.start(fetch_job_polling_interval=0.02)
    await eventually(lambda: starts)
    rows(rig, "update jobrunner.runners set beat_at = now() - interval '31 s'")
    rig.start(fetch_job_polling_interval=0.02)
    await eventually(lambda: rows(rig, "select count(*) from jobrunner.runners") == [(2,)])
    go.set()
    await rig.until(job_id, "succeeded")

    assert (starts, rows(rig, "select count(*) from jobrunner.runners where lost_at is null")) == ([1], [(2,)])


PARK = "insert into jobrunner.jobs (task, args, state, blocked_on) values ('note', %s, 'blocked', 'task')"


async def test_a_worker_makes_the_rounds_of_a_runner(rig: Rig) -> None:
    """What others have left: a job that ended in place and holds its lock, parked jobs, an event in the outbox."""
    note = rig.task()
    held, _ = await note.configure(lock="l").batch_defer_async({"n": "ended"}, {"n": "behind"})
    other = await rig.manager.register_worker()
    await rig.manager.fetch_job(queues=None, worker_id=other)
    ended = "update jobrunner.jobs set state = 'succeeded', runner_id = null, finished_at = now() where id = %s"
    rows(rig, ended, held)
    rows(rig, PARK, '{"n": "parked before"}')
    rows(rig, "select jobrunner.publish_system('job.dead', '{}', 'job:1')")

    rig.start(update_heartbeat_interval=0.02, fetch_job_polling_interval=0.02)
    await eventually(lambda: len(rig.ran) == 2)
    rows(rig, PARK, '{"n": "parked after"}')

    await eventually(lambda: len(rig.ran) == 3)
    assert sorted(rig.ran) == ["behind", "parked after", "parked before"]
    await eventually(lambda: rows(rig, "select 1 from jobrunner.outbox") == [])
    assert rows(rig, "select listening from jobrunner.runners where id <> %s", other) == [(True,)]


async def test_rounds_that_fail_leave_the_heartbeat_alone(rig: Rig) -> None:
    worker = await rig.manager.register_worker()
    rows(rig, "drop function jobrunner.sweep_v1")

    await rig.manager.update_heartbeat(worker)

    assert rows(rig, "select 1 from jobrunner.runners where beat_at > started_at") == [(1,)]


async def _idle(rig: Rig) -> None:
    """A worker listens, rests, and is sure to be woken."""

    def ready() -> bool:
        sleepers = list(rig.app.connector._desk.workers.sleepers())  # type: ignore[attr-defined]
        listening = rows(
            rig, "select 1 from pg_stat_activity where application_name = 'jobrunner listen' and query ~ 'pg_notify'"
        )
        return bool(sleepers and listening and all(s._idle and s._proven for s in sleepers))

    await eventually(ready)


async def test_a_deferred_job_reaches_an_idle_worker_in_milliseconds(rig: Rig) -> None:
    note = rig.task()
    rig.start(fetch_job_polling_interval=60)
    took = []
    for n in range(9):
        await _idle(rig)
        began = time.perf_counter()
        await note.configure(queue=f"q{n}", lock="l" if n % 2 else None).defer_async(n=n)
        await eventually(lambda: len(rig.ran) > n)  # noqa: B023
        took.append(time.perf_counter() - began)

    assert statistics.median(took) < 0.1, took


async def test_an_abort_reaches_a_busy_worker_in_milliseconds(rig: Rig) -> None:
    started = asyncio.Event()

    @rig.app.task(name="endless")
    async def endless() -> None:
        started.set()
        await asyncio.Event().wait()

    rig.start(fetch_job_polling_interval=60, abort_job_polling_interval=60)
    await _idle(rig)
    job_id = await endless.defer_async()
    await asyncio.wait_for(started.wait(), 10)
    await rig.manager.cancel_job_by_id_async(job_id, abort=True)

    await rig.until(job_id, "aborted")


@defers_on_connections
async def test_a_commit_that_comes_after_the_worker_fell_asleep_wakes_it(rig: Rig) -> None:
    """The enqueue looked whether anybody sleeps before anybody did."""
    note = rig.task()
    async with await psycopg.AsyncConnection.connect(rig.dsn) as conn:
        await note.configure(connection=conn).defer_async(n=1)
        rig.start(fetch_job_polling_interval=60)

        def resting() -> bool:
            return any(s._looks > 3 for s in rig.app.connector._desk.workers.sleepers())  # type: ignore[attr-defined]

        await eventually(resting)
        await conn.commit()
        await eventually(lambda: rig.ran == [1], deadline=5)


@pytest.mark.parametrize("lock", [None, "l"])
async def test_an_end_waits_for_who_holds_the_row(rig: Rig, lock: str | None) -> None:
    first, second = await rig.task(lock=lock).batch_defer_async({"n": 1}, {"n": 2})
    worker = await rig.manager.register_worker()
    job = await rig.manager.fetch_job(queues=None, worker_id=worker)
    assert job is not None
    with psycopg.connect(rig.dsn) as someone:
        held = "select 1 from jobrunner.jobs where id = any (%s) for update"
        someone.execute(held, [[first] if lock is None else [second]])  # of a lock the next in line must be free, too
        ending = asyncio.create_task(rig.manager.finish_job(job, status=jobs.Status.SUCCEEDED, delete_job=False))
        tried = (
            "select 1 from pg_stat_activity where query like '%%procrastinate_finish_v1%%' and pid <> pg_backend_pid()"
        )
        await eventually(lambda: rows(rig, tried))
        assert await rig.status(first) == "doing"
        someone.rollback()
    await ending

    assert await rig.status(first) == "succeeded"


async def test_an_end_whose_answer_was_lost_is_sent_again(rig: Rig) -> None:
    job_id = await rig.task().defer_async()
    worker = await rig.manager.register_worker()
    job = await rig.manager.fetch_job(queues=None, worker_id=worker)
    assert job is not None
    rows(
        rig,
        """create function die() returns trigger language plpgsql as
           'begin perform pg_terminate_backend(pg_backend_pid()) where nextval(''public.deaths'') = 1; return old; end';
           create sequence deaths;
           create trigger die before delete on jobrunner.jobs for each row execute function die()""",
    )

    await rig.manager.finish_job(job, status=jobs.Status.SUCCEEDED, delete_job=False)

    assert await rig.status(job_id) == "succeeded"


async def test_a_retry_whose_answer_was_lost_is_sent_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = await rig.task().defer_async()
    worker = await rig.manager.register_worker()
    job = await rig.manager.fetch_job(queues=None, worker_id=worker)
    assert job is not None
    lost: list[list[Row]] = []

    async def lossy(conn: Any, loads: Any, step: Say) -> list[Row]:
        answer = await execute_async(conn, loads, step)
        if not lost:
            lost.append(answer)
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return answer

    monkeypatch.setattr("jobrunner.procrastinate.connector.execute_async", lossy)
    await rig.manager.retry_job(job)

    assert lost == [[{"verdict": "settled"}]]
    back = await rig.job(job_id)
    assert (back.status, back.attempts) == ("todo", 1)


async def test_the_listening_connection_comes_back(rig: Rig) -> None:
    note = rig.task()
    rig.start(fetch_job_polling_interval=60)
    await _idle(rig)

    ended = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'jobrunner listen'"
    assert rows(rig, ended) == [(True,)]
    await _idle(rig)
    await note.defer_async(n=1)

    await eventually(lambda: rig.ran == [1])


@pytest.mark.parametrize("said_by", ["heartbeat", "good-bye"])
@pytest.mark.parametrize("end", ["finish", "retry"])
async def test_an_end_that_did_not_get_through_is_said_again(
    rig: Rig, end: str, said_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker is alive and has forgotten the job: nobody else would ever end it."""
    monkeypatch.setattr("jobrunner.procrastinate.talks._TRIES", 2)
    job_id = await rig.task().defer_async()
    worker = await rig.manager.register_worker()
    job = await rig.manager.fetch_job(queues=None, worker_id=worker)
    assert job is not None
    later = datetime.now(UTC) + timedelta(hours=1)
    ending: Any = (
        rig.manager.finish_job(job, status=jobs.Status.SUCCEEDED, delete_job=False)
        if end == "finish"
        else rig.manager.retry_job(job, retry_at=later)
    )
    with psycopg.connect(rig.dsn) as someone:
        someone.execute("select 1 from jobrunner.jobs where id = %s for update", [job_id])
        with pytest.raises(exceptions.ConnectorException):
            await ending
        await rig.manager.update_heartbeat(worker)
        assert await rig.status(job_id) == "doing"
        someone.rollback()

    await (rig.manager.update_heartbeat if said_by == "heartbeat" else rig.manager.unregister_worker)(worker)

    assert rows(rig, "select state, attempt, failures from jobrunner.v_job where id = %s", job_id) == [
        ("succeeded", 1, 0) if end == "finish" else ("scheduled", 1, 1)
    ]


async def test_an_end_while_its_worker_goes_on_under_a_new_id(rig: Rig) -> None:
    job_id = await rig.task().defer_async()
    worker = await rig.manager.register_worker()
    job = await rig.manager.fetch_job(queues=None, worker_id=worker)
    assert job is not None
    rows(rig, "update jobrunner.runners set lost_at = now(), ended = 'lost' where id = %s", worker)
    tried = "select count(*) from pg_stat_activity where query like %s and pid <> pg_backend_pid() and state = %s"

    with psycopg.connect(rig.dsn) as someone:
        someone.execute("select 1 from jobrunner.jobs where id = %s for update", [job_id])
        renewing = asyncio.create_task(rig.manager.update_heartbeat(worker))
        await eventually(lambda: rows(rig, tried, "%adopt_v1%", "active") == [(1,)])
        ending = asyncio.create_task(rig.manager.finish_job(job, status=jobs.Status.SUCCEEDED, delete_job=False))
        await eventually(lambda: rows(rig, tried, "%procrastinate_finish_v1%", "active") == [(1,)])
        someone.rollback()
    await asyncio.gather(renewing, ending)

    assert await rig.status(job_id) == "succeeded"


async def test_a_failed_job_is_a_dead_letter_with_its_error(rig: Rig) -> None:
    @rig.app.task(name="bad")
    async def bad() -> None:
        raise ValueError("no such order")

    job_id = await bad.defer_async()
    await rig.drain()

    assert rows(rig, "select state, reason, error, failures from jobrunner.v_job where id = %s", job_id) == [
        ("dead", "exhausted", "ValueError: no such order", 1)
    ]
    (found,) = rows(rig, "select outcome, error_type, traceback from jobrunner.attempts where job_id = %s", job_id)
    assert found[:2] == ("failed", "ValueError") and 'raise ValueError("no such order")' in found[2]


async def test_what_a_handler_defers_is_caused_by_its_job(rig: Rig) -> None:
    note = rig.task()

    @rig.app.task(name="parent")
    async def parent() -> None:
        await note.defer_async(n=1)

    @rig.app.task(name="sync_parent")
    def sync_parent() -> None:
        note.defer(n=2)

    parents = [await parent.defer_async(), await sync_parent.defer_async()]
    await rig.drain()
    unrelated = await note.defer_async(n=3)

    linked = rows(
        rig,
        "select cause_job_id, correlation_id = jobrunner.job_correlation(cause_job_id) from jobrunner.job_links order by job_id",
    )
    assert sorted(linked) == [(parents[0], True), (parents[1], True)]
    assert rows(rig, "select 1 from jobrunner.job_links where job_id = %s", unrelated) == []
    assert len(rows(rig, "select 1 from jobrunner.trace(%s)", f"job:{parents[0]}")) >= 2


async def test_a_task_that_the_app_does_not_know_waits(rig: Rig) -> None:
    note = rig.task()
    unknown = await rig.app.configure_task("not.here").defer_async()
    await note.defer_async(n=1)

    await rig.drain()

    assert (rig.ran, await rig.status(unknown)) == ([1], "todo")


async def test_jobs_of_other_apps_in_the_same_queue_are_left_alone(rig: Rig) -> None:
    ((foreign,),) = rows(rig, "select jobrunner.enqueue('shop.send')")
    note = rig.task()
    await note.defer_async(n=1)
    rows(rig, "select jobrunner.enqueue('note', '{\"n\": 2}')")

    await rig.drain()

    assert (rig.ran, await rig.status(foreign)) == ([1, 2], "todo")


async def test_a_paused_queue_rests(rig: Rig) -> None:
    note = rig.task()
    await note.defer_async(n=1)
    rows(rig, "select jobrunner.op_pause('default')")
    await rig.drain()
    assert rig.ran == []
    rows(rig, "select jobrunner.op_resume('default')")
    await rig.drain()
    assert rig.ran == [1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"priority": 40_000}, "priority must be a whole number from -32768 to 32767"),
        ({"schedule_in": {"weeks": 600}}, "run_at must be within 5 years"),
        ({"queue": "q" * 201}, "queue must have 1 to 200 bytes"),
        ({"lock": "l" * 513}, "key must have 1 to 512 bytes"),
    ],
)
async def test_what_does_not_fit_is_refused_with_a_sentence(rig: Rig, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(exceptions.ConnectorException, match=sentence):
        await rig.task().configure(**options).defer_async()


@pytest.mark.parametrize(
    "place", [{"priority": 40_000}, {"queue": ""}, {"queue": "q" * 201}, {"lock": "l\n"}, {"lock": ""}]
)
async def test_a_job_is_not_retried_where_no_job_can_be(rig: Rig, place: dict[str, Any]) -> None:
    """By hand it is refused; a strategy's wish ends the job, which its worker would else keep as long as it lives."""

    class Move(procrastinate.BaseRetryStrategy):
        def get_retry_decision(self, *, exception: BaseException, job: jobs.Job) -> procrastinate.RetryDecision:
            return procrastinate.RetryDecision(**place)

    @rig.app.task(name="mover", retry=Move(), lock="first")
    async def mover() -> None:
        raise ValueError("no")

    by_hand = await rig.task().defer_async()
    worker = await rig.manager.register_worker()
    job = await asyncio.create_task(rig.manager.fetch_job(queues=None, worker_id=worker))  # in a context of its own
    assert job is not None
    with pytest.raises(exceptions.ConnectorException, match="|".join(("priority", "queue", "key"))):
        await rig.manager.retry_job(job, **place)
    assert await rig.status(by_hand) == "doing"

    job_id = await mover.defer_async()
    rig.start()
    await rig.until(job_id, "failed")


async def test_a_job_for_later_holds_nobody_up_until_it_is_due(rig: Rig) -> None:
    note = rig.task(lock="l")
    later = await note.configure(schedule_in={"hours": 1}).defer_async(n=1)
    now = await note.defer_async(n=2)
    worker = await rig.manager.register_worker()

    first = await rig.manager.fetch_job(queues=None, worker_id=worker)
    rows(rig, "update jobrunner.jobs set run_at = now() where id = %s", later)

    assert first and first.id == now
    assert await rig.manager.fetch_job(queues=None, worker_id=worker) is None
    await rig.manager.finish_job(first, status=jobs.Status.SUCCEEDED, delete_job=False)
    second = await rig.manager.fetch_job(queues=None, worker_id=worker)
    assert second and second.id == later


async def test_a_search_path_has_no_effect(dsn: str) -> None:
    app = fresh_app(JobrunnerConnector(dsn, kwargs={"options": "-c search_path=mine"}))
    async with app.open_async():
        job_id = await app.configure_task("t", lock="l").defer_async()
        assert await app.check_connection_async()
        assert [job.id for job in await app.job_manager.list_jobs_async()] == [job_id]


async def test_an_earlier_tick_is_not_deferred_after_a_later_one(rig: Rig) -> None:
    task = rig.task(name="tick")

    async def tick(at: int) -> int | None:
        return await rig.manager.defer_periodic_job(task.configure(task_kwargs={"timestamp": at}).job, "p", at)

    assert await tick(2000) is not None
    assert await tick(1000) is None
    marks = rows(rig, "select task, name, extract(epoch from last_tick)::int from jobrunner.schedules")
    assert marks == [("tick", "p", 2000)]


async def test_its_statuses_agree_with_the_states(rig: Rig) -> None:
    note = rig.task()
    worker = await rig.manager.register_worker()

    async def end(status: str | None, **options: Any) -> int:
        job_id = int(await note.configure(queue="q", **options).defer_async())
        if status is not None:
            job = await rig.manager.fetch_job(queues=["q"], worker_id=worker)
            assert job is not None
            if status != "doing":
                await rig.manager.finish_job(job, status=jobs.Status(status), delete_job=False)
        return job_id

    for status in ("succeeded", "failed", "aborted", "doing"):
        await end(status)
    await rig.manager.cancel_job_by_id_async(await end(None))
    await end(None, schedule_in={"hours": 1})
    await end(None, lock="l")
    await end(None)
    states = dict(rows(rig, "select state, count(*) from jobrunner.v_job group by 1"))
    statuses = dict(rows(rig, "select status, count(*) from jobrunner.v_procrastinate_job group by 1"))

    assert states == {
        "succeeded": 1, "dead": 1, "cancelled": 2, "running": 1, "scheduled": 1, "blocked": 1, "ready": 1,
    }  # fmt: skip
    assert statuses == {"succeeded": 1, "failed": 1, "aborted": 1, "cancelled": 1, "doing": 1, "todo": 3}
    (counters,) = await rig.manager.list_queues_async()
    assert {name: counters[name] for name in statuses} == statuses and counters["jobs_count"] == sum(states.values())
    of = {"dead": "failed", "running": "doing", "scheduled": "todo", "blocked": "todo", "ready": "todo"}
    for job in await rig.manager.list_jobs_async():
        ((state, attempt),) = rows(rig, "select state, attempt from jobrunner.v_job where id = %s", job.id)
        assert job.status in (of.get(state, state), "aborted" if state == "cancelled" else None)
        assert job.attempts == attempt - (state == "running")


async def test_the_events_of_a_job_are_put_together(rig: Rig) -> None:
    job_id = await rig.task().configure(schedule_at=datetime.now(UTC) + timedelta(milliseconds=5)).defer_async()
    worker = await rig.manager.register_worker()

    async def fetch() -> jobs.Job | None:
        return await rig.manager.fetch_job(queues=None, worker_id=worker)

    again: Any = fetch
    await rig.manager.retry_job(await eventually(again), retry_at=datetime.now(UTC))
    job = await eventually(again)
    await rig.manager.cancel_job_by_id_async(job_id, abort=True)
    await rig.manager.finish_job(job, status=jobs.Status.ABORTED, delete_job=False)

    events = rows(rig, "select type from jobrunner.v_procrastinate_event where job_id = %s order by at", job_id)
    assert [each[0] for each in events if each[0] != "scheduled"] == [
        "deferred", "started", "deferred_for_retry", "started", "abort_requested", "aborted",
    ]  # fmt: skip


@defers_on_connections
async def test_a_connection_in_repeatable_read_may_defer(rig: Rig) -> None:
    note = rig.task()
    async with await psycopg.AsyncConnection.connect(rig.dsn) as conn:
        await conn.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await note.configure(connection=conn, lock="l").defer_async(n=1)
        await conn.commit()
    await rig.drain()

    assert rig.ran == [1]


async def test_a_runners_rights_are_enough_and_deferring_needs_less(dsn: str, login: Login) -> None:
    rig = Rig(fresh_app(JobrunnerConnector(login("runner"))), "ours", dsn)
    note = rig.task()
    async with rig.app.open_async():
        first = await note.configure(lock="l", queueing_lock="q").defer_async(n=1)
        tick = note.configure(task_kwargs={"timestamp": 1}, schedule_in={"hours": 1}, queue="other").job
        await rig.manager.defer_periodic_job(tick, "p", 1)
        cancelled = await note.defer_async()
        await rig.manager.cancel_job_by_id_async(cancelled, delete_job=True)
        await rig.drain(queues=["default"])
        await rig.manager.get_stalled_jobs()
        await rig.manager.list_jobs_to_abort_async()
        await rig.manager.prune_stalled_workers(30)
        worker = await rig.manager.register_worker()
        await rig.manager.update_heartbeat(worker)
        assert await rig.manager.fetch_job(queues=["none"], worker_id=worker) is None
        assert await rig.app.check_connection_async()
        assert [job.status for job in await rig.manager.list_jobs_async(id=first)] == ["succeeded"]
        assert [queue["succeeded"] for queue in await rig.manager.list_queues_async()] == [1, 0]
        await rig.manager.delete_old_jobs(nb_hours=0)

    web = fresh_app(JobrunnerConnector(login("enqueue")))
    async with web.open_async():
        job_id = await web.configure_task("note").defer_async()
        with pytest.raises(exceptions.ConnectorException, match="permission denied"):
            await web.job_manager.cancel_job_by_id_async(job_id)


async def test_a_thousand_old_jobs_and_one_go_in_two_steps(rig: Rig) -> None:
    rows(rig, "select jobrunner.enqueue('note') from generate_series(1, 1001)")
    rows(
        rig,
        """with gone as (delete from jobrunner.jobs returning *)
           insert into jobrunner.finished_jobs (
               id, run_at, created_at, finished_at, attempt, failures, max_attempts, crashes, version, priority, state, queue, task,
               args, headers
           )
           select
               id, run_at, created_at, now() - interval '1 minute', 1, 0, 10, 0, 1, 0, 'succeeded', queue, task, args, headers
           from gone""",
    )

    await rig.manager.delete_old_jobs(nb_hours=0)

    assert rows(rig, "select count(*) from jobrunner.finished_jobs") == [(0,)]


async def test_the_connector_of_an_app_can_be_replaced(dsn: str) -> None:
    app, ours = fresh_app(InMemoryConnector()), JobrunnerConnector(dsn)

    @app.task(name="t")
    async def t() -> None: ...

    await ours.open_async()
    with app.replace_connector(ours):
        job_id = await t.defer_async()
        assert (await app.job_manager.get_job_status_async(job_id)).value == "todo"
    await ours.close_async()
