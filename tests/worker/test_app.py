"""Ways in: declaring a task, making a call of it, writing it in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row, namedtuple_row, scalar_row
from pydantic import BaseModel

from jobrunner import App, Backoff, Context, Event, Job, Runner
from jobrunner.errors import (
    BadName,
    ConfigError,
    InvalidArguments,
    InvalidJob,
    OutOfBounds,
    PayloadTooLarge,
    UnknownTask,
    UnstorableText,
)
from tests.conftest import Connect, Connection
from tests.support import eventually
from tests.worker.rig import claimed

app = App("shop")
mailed: list[Any] = []


class Colour(StrEnum):
    RED = "red"


class Address(BaseModel):
    street: str


@app.task(queue="mail", priority=3, retry=Backoff(attempts=7))
async def send(ctx: Context, to: str, copies: int = 1) -> None: ...


@app.task
def plain(ctx: Context, n: int) -> None: ...


def rows(conn: Connection) -> list[dict[str, Any]]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("select * from jobrunner.jobs order by id").fetchall()


def count(conn: Connection) -> int:
    found = conn.execute("select count(*) from jobrunner.jobs").fetchone()
    assert found is not None
    return int(found[0])


# ------------------------------------------------------------------------------------------------ declaring


def test_a_task_is_named_after_app_and_function_unless_it_has_a_name() -> None:
    mine = App("mine")

    @mine.task(name="legacy.charge")
    def charge(ctx: Context) -> None: ...

    @mine.task()
    def refund(ctx: Context) -> None: ...

    assert list(mine.tasks) == ["legacy.charge", "mine.refund"]
    assert mine.tasks["mine.refund"] is refund


def test_a_task_called_like_a_function_is_that_function() -> None:
    mine = App("mine")

    @mine.task
    def add(ctx: Context, a: int, b: int = 2) -> int:
        return a + b

    ctx: Any = object()
    assert add(ctx, 1, b=5) == 6


def no_context() -> None: ...
def only_keywords(*, ctx: Context) -> None: ...
def star(ctx: Context, *rest: int) -> None: ...
def double_star(ctx: Context, **rest: int) -> None: ...
def positional_only(ctx: Context, a: int, /) -> None: ...
def unreadable(ctx: Context, a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize("function", [no_context, only_keywords, star, double_star, positional_only, unreadable])
def test_a_function_that_cannot_be_a_task_is_refused_where_it_is_declared(function: Callable[..., Any]) -> None:
    mine = App("mine")

    with pytest.raises(ConfigError, match=rf"^task mine\.{function.__name__} "):
        mine.task(function)

    assert not mine.tasks


@pytest.mark.parametrize(
    "options",
    [
        {"queue": ""},
        {"queue": "a\nb"},
        {"priority": 40000},
        {"version": 0},
        {"timeout": "soon"},
        {"timeout": -1},
        {"timeout": 0},
        {"name": "x" * 201},
        {"on_lease_uncertain": "panic"},
    ],
)
def test_a_declaration_out_of_bounds_is_refused_and_registers_nothing(options: dict[str, Any]) -> None:
    mine = App("mine")

    with pytest.raises((ConfigError, InvalidJob)):
        mine.task(**options)(plain.function)

    assert not mine.tasks


def test_two_tasks_of_one_name_are_refused() -> None:
    mine = App("mine")
    mine.task(name="a.b")(plain.function)

    with pytest.raises(ConfigError, match=r"task a\.b is registered already"):
        mine.task(name="a.b")(send.function)


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 200])
def test_an_app_whose_tasks_could_have_no_name_is_refused(name: str) -> None:
    with pytest.raises(BadName):
        App(name)


def test_a_runner_of_an_app_without_tasks_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no tasks"):
        Runner(App("empty"))


@pytest.mark.parametrize(
    "options",
    [
        {"slots": 0},
        {"slots": 10_001},
        {"lease": "10ms"},
        {"poll": "x"},
        {"poll": 0},
        {"queues": []},
        {"queues": "mail"},
    ],
)
def test_a_runner_that_could_not_work_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Runner(app, "", **options)


# ------------------------------------------------------------------------------------------------ calls


def test_a_call_has_what_the_task_declares_and_only_the_arguments_that_were_given() -> None:
    job = send.job(to="a@b.c")

    assert job == Job("shop.send", {"to": "a@b.c"}, queue="mail", priority=3, version=1, max_attempts=7)


def test_arguments_may_be_given_by_place() -> None:
    assert send.job("a@b.c", 2).args == {"to": "a@b.c", "copies": 2}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "missing a required argument: 'to'"),
        ({"to": "a", "cc": "b"}, "unexpected keyword argument 'cc'"),
        ({"to": 5}, "to: Input should be a valid string"),
        ({"to": "a", "copies": "many"}, "copies: Input should be a valid integer"),
        ({"to": None}, "to: "),
    ],
)
def test_wrong_arguments_are_refused_at_the_door(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArguments, match=f"^invalid arguments for shop.send: .*{said}"):
        send.job(**wrong)


@pytest.mark.parametrize(
    ("given", "named", "said"),
    [
        (("a", 2, 3), {}, "too many positional arguments"),
        (("a",), {"to": "b"}, "multiple values for argument 'to'"),
        (("a", 2), {"cc": "b"}, "unexpected keyword argument 'cc'"),
    ],
)
def test_arguments_by_place_are_as_strict_as_in_a_call(
    given: tuple[Any, ...], named: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidArguments, match=f"^invalid arguments for shop.send: .*{said}"):
        send.job(*given, **named)


def test_an_argument_by_name_only_cannot_be_given_by_place() -> None:
    @App("mine").task
    def pay(ctx: Context, amount: int, *, twice: bool = False) -> None: ...

    assert pay.job(5, twice=True).args == {"amount": 5, "twice": True}
    with pytest.raises(InvalidArguments, match="too many positional arguments"):
        pay.job(5, True)  # type: ignore[call-arg]


def test_calls_of_a_task_share_nothing() -> None:
    one, other = send.job("a"), send.job("a")

    assert one == other
    assert one.headers is not other.headers
    assert one.args is not other.args


def test_values_of_many_types_come_back_as_they_went() -> None:
    mine = App("mine")

    @mine.task
    def keep(
        ctx: Context,
        key: UUID,
        price: Decimal,
        at: datetime,
        day: date,
        wait: timedelta,
        colour: Colour,
        where: Address,
        tags: list[str],
        by: dict[str, Decimal],
        raw: bytes,
        maybe: int | None = None,
        pair: tuple[int, str] = (1, "x"),
    ) -> None: ...

    given: dict[str, Any] = {
        "key": UUID(int=7),
        "price": Decimal("0.10"),
        "at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "wait": timedelta(days=2, microseconds=5),
        "colour": Colour.RED,
        "where": Address(street="Römerweg 1"),
        "tags": ["a", "ü", "\u2028"],
        "by": {"x": Decimal("1E-9")},
        "raw": b"bytes",
        "maybe": None,
    }

    job = keep.job(**given)
    from jobrunner.policy.payload import encode

    read = keep.read(claimed(keep.name, args=encode(job.args, job.task)))
    assert read == given  # what is left out stays out: the function's own default applies
    assert {name: type(value) for name, value in read.items()} == {name: type(value) for name, value in given.items()}


PYDANTIC_WORDS = [
    "json", "copy", "dict", "schema", "construct", "validate", "model_config", "model_fields", "model_dump",
    "model_validate", "model_validate_json", "model_fields_set", "model_extra", "model_computed_fields", "self", "cls",
    "field", "name", "args", "kwargs", "values", "data", "root", "function",
    "_private", "__dict__", "a0",
]  # fmt: skip


@pytest.mark.parametrize("word", PYDANTIC_WORDS)
def test_a_parameter_may_be_named_as_pydantic_names_its_own(word: str) -> None:
    space: dict[str, Any] = {"Context": Context}
    exec(f"def f(ctx: Context, {word}: int, other: str = 'o'): pass", space)
    task = App("mine").task(space["f"])

    job = task.job(**{word: 5})

    assert job.args == {word: 5}
    assert task.read(claimed(task.name, args=f'{{"{word}": 6}}')) == {word: 6}
    with pytest.raises(InvalidArguments, match=word):
        task.job(**{word: "five"})


def test_a_parameter_may_have_no_annotation() -> None:
    mine = App("mine")
    space: dict[str, Any] = {}
    exec("def f(ctx, a, b=1): pass", space)
    task = mine.task(space["f"])

    assert task.job(a={"deep": [1, None]}).args == {"a": {"deep": [1, None]}}


class Opaque:
    pass


@pytest.mark.parametrize("value", [Opaque(), b"\xff", {1: Opaque()}, "\ud800", float("nan"), "a\0b", {"a": {"b\0": 1}}])
def test_what_is_not_json_is_refused_before_any_sql(value: Any, tx: Connection) -> None:
    mine = App("mine")

    @mine.task
    def take(ctx: Context, a: Any) -> None: ...

    with pytest.raises(InvalidJob):
        mine.enqueue(tx, take.job(a=value))

    assert tx.info.transaction_status is TransactionStatus.IDLE


# ------------------------------------------------------------------------------------------------ enqueue


@pytest.mark.parametrize("row_factory", [dict_row, namedtuple_row, scalar_row])
@pytest.mark.parametrize("cursor_factory", [psycopg.Cursor, psycopg.ClientCursor, psycopg.RawCursor])
def test_enqueue_works_on_a_connection_of_any_make(row_factory: Any, cursor_factory: Any, dsn: str) -> None:
    with psycopg.connect(dsn, row_factory=row_factory, cursor_factory=cursor_factory) as conn:
        job_id = app.enqueue(conn, plain.job(n=1))
        many = app.enqueue_many(conn, [plain.job(n=2), plain.job(n=3)])
        conn.commit()

    assert isinstance(job_id, int)
    assert many == [job_id + 1, job_id + 2]


@pytest.mark.parametrize("row_factory", [dict_row, namedtuple_row, scalar_row])
@pytest.mark.parametrize("cursor_factory", [psycopg.AsyncCursor, psycopg.AsyncClientCursor, psycopg.AsyncRawCursor])
async def test_enqueue_works_on_an_async_connection_of_any_make(
    row_factory: Any, cursor_factory: Any, dsn: str
) -> None:
    connecting: Any = psycopg.AsyncConnection.connect(dsn, row_factory=row_factory, cursor_factory=cursor_factory)
    async with await connecting as conn:
        job_id = await app.enqueue(conn, plain.job(n=1))
        many = await app.enqueue_many(conn, [plain.job(n=2), plain.job(n=3)])

    assert isinstance(job_id, int)
    assert many == [job_id + 1, job_id + 2]


def test_a_job_exists_exactly_when_its_transaction_committed(dsn: str, conn: Connection) -> None:
    with psycopg.connect(dsn) as mine:
        app.enqueue(mine, plain.job(n=1))
        mine.rollback()
        kept = app.enqueue(mine, plain.job(n=2))
        with mine.transaction(force_rollback=True):
            app.enqueue(mine, plain.job(n=3))
            app.enqueue_many(mine, [plain.job(n=4)])
        assert count(conn) == 0
        mine.commit()

    assert [row["id"] for row in rows(conn)] == [kept]


@pytest.mark.parametrize("isolation", list(psycopg.IsolationLevel))
def test_enqueue_works_in_every_isolation_level(isolation: psycopg.IsolationLevel, dsn: str, conn: Connection) -> None:
    with psycopg.connect(dsn) as mine:
        mine.isolation_level = isolation if isolation.name != "READ_UNCOMMITTED" else None
        app.enqueue(mine, plain.job(n=1), key="k", unique_key="u", subject="s")
        app.enqueue_many(mine, [plain.job(n=2), plain.job(n=2).using(unique_key="u")])

    assert count(conn) == 2


def test_options_of_enqueue_stand_over_those_of_the_call_and_the_task(conn: Connection) -> None:
    job = send.job(to="a").using(priority=1, queue="slow", headers={"h": 1})

    app.enqueue(
        conn, job, queue="now", delay="5m", key="k", unique_key="u", unique_until="finish", subject="order:1", max_attempts=2,
        version=4, headers={"trace": "t"},
    )  # fmt: skip

    (row,) = rows(conn)
    assert {name: row[name] for name in ("queue", "priority", "key", "max_attempts", "version", "headers", "state")} == {
        "queue": "now", "priority": 1, "key": "k", "max_attempts": 2, "version": 4, "headers": {"trace": "t"},
        "state": "scheduled",
    }  # fmt: skip
    assert timedelta(minutes=4.9) < row["run_at"] - row["created_at"] < timedelta(minutes=5.1)
    assert conn.execute("select unique_key, until from jobrunner.unique_keys").fetchall() == [("u", "finish")]
    assert conn.execute("select subject from jobrunner.job_links").fetchall() == [("order:1",)]


def test_run_at_is_an_instant_whatever_its_zone(conn: Connection) -> None:
    at = datetime.fromisoformat("2028-02-29T12:00:00+05:30")

    app.enqueue(conn, plain.job(n=1), run_at=at)
    app.enqueue_many(conn, [plain.job(n=1).using(run_at=at)])

    assert [row["run_at"] for row in rows(conn)] == [at, at]


BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"key": ""}, BadName),
    ({"key": "x" * 513}, BadName),
    ({"unique_key": "a\0"}, BadName),
    ({"subject": "\ud800"}, BadName),
    ({"priority": 32768}, OutOfBounds),
    ({"max_attempts": 0}, OutOfBounds),
    ({"delay": "1s", "run_at": datetime(2030, 1, 1, tzinfo=UTC)}, OutOfBounds),
    ({"run_at": datetime(2030, 1, 1)}, OutOfBounds),  # noqa: DTZ001
    ({"delay": "soon"}, ConfigError),
    ({"headers": {"a": "\0"}}, UnstorableText),
    ({"args": {"n": "x" * 300_000}}, PayloadTooLarge),
]


@pytest.mark.parametrize(("options", "error"), BAD_OPTIONS, ids=lambda each: str(each)[:40])
def test_a_bad_option_is_refused_before_any_sql(
    options: dict[str, Any], error: type[Exception], tx: Connection
) -> None:
    with pytest.raises(error):
        app.enqueue(tx, plain.job(n=1), **options)

    assert tx.info.transaction_status is TransactionStatus.IDLE


async def test_a_bad_call_is_refused_before_any_sql_on_an_async_connection_too(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        with pytest.raises(UnstorableText):
            await app.enqueue(conn, Job("other.task", {"a": "\0"}))
        with pytest.raises(UnstorableText):
            await app.enqueue_many(conn, [Job("other.task", {"a": "\ud800"})])

        assert conn.info.transaction_status is TransactionStatus.IDLE


def test_a_mistyped_task_of_our_own_is_refused_with_the_name_that_was_meant(tx: Connection) -> None:
    with pytest.raises(UnknownTask, match=r"unknown task 'shop\.plian'; did you mean shop\.plain"):
        app.enqueue(tx, Job("shop.plian"))
    with pytest.raises(UnknownTask):
        app.enqueue_many(tx, [plain.job(n=1), Job("shop.plian")])

    assert tx.info.transaction_status is TransactionStatus.IDLE


def test_the_task_of_another_service_may_be_enqueued_by_name(tx: Connection) -> None:
    assert app.enqueue(tx, Job("billing.charge", {"order": 1}))


def test_a_taken_unique_key_gives_the_job_that_has_it(conn: Connection) -> None:
    first = app.enqueue(conn, plain.job(n=1), unique_key="u")

    assert app.enqueue(conn, plain.job(n=2), unique_key="u") == first
    assert app.enqueue(conn, send.job(to="x"), unique_key="u") != first  # scoped by task
    assert count(conn) == 2


# ------------------------------------------------------------------------------------------------ in bulk


def test_many_ids_come_in_the_order_of_the_calls_and_none_where_a_key_was_taken(conn: Connection) -> None:
    held = app.enqueue(conn, plain.job(n=0), unique_key="b")

    ids = app.enqueue_many(
        conn, [plain.job(n=n).using(unique_key=key) for n, key in enumerate(["c", "b", None, "c", "a"], start=1)]
    )

    by_n = {row["args"]["n"]: row["id"] for row in rows(conn)}
    assert ids == [by_n[1], None, by_n[3], None, by_n[5]]
    assert held == by_n[0] and len(by_n) == 4


def test_no_calls_are_no_ids_and_no_statement(tx: Connection) -> None:
    assert app.enqueue_many(tx, []) == []
    assert tx.info.transaction_status is TransactionStatus.IDLE


def test_every_option_travels_in_bulk_as_it_does_alone(conn: Connection) -> None:
    options: dict[str, Any] = {
        "queue": "q", "priority": -3, "delay": "90s", "key": "k", "unique_key": "u", "unique_until": "finish", "subject": "s:1",
        "version": 9, "max_attempts": 4, "headers": {"ü": ["\u2028", 1.5]},
    }  # fmt: skip
    job = Job("other.t", {"text": "\\u0000 \"'\\", "deep": {"a": [1, None, True]}})
    tables = ("jobs", "job_links", "unique_keys")

    def written(write: Callable[[Connection], object]) -> list[Any]:
        with conn.transaction(force_rollback=True):
            write(conn)
            found = []
            for table in tables:
                with conn.cursor(row_factory=dict_row) as cursor:
                    row = cursor.execute(
                        sql.SQL("select * from {}").format(sql.Identifier("jobrunner", table))
                    ).fetchone()
                assert row is not None
                for name in ("id", "job_id", "seq", "created_at", "run_at", "xact"):
                    row.pop(name, None)
                found.append(row)
            return found

    alone = written(lambda c: app.enqueue(c, job, **options))
    assert alone == written(lambda c: app.enqueue_many(c, [job.using(**options)]))


def test_one_bad_call_among_many_writes_nothing_of_its_chunk(tx: Connection) -> None:
    with pytest.raises(UnstorableText):
        app.enqueue_many(tx, [*(plain.job(n=n) for n in range(100)), Job("other.t", {"a": "\0"})])

    assert tx.info.transaction_status is TransactionStatus.IDLE


def test_a_hundred_thousand_calls_go_in_with_progress_and_are_drawn_only_as_they_are_written(conn: Connection) -> None:
    told: list[tuple[int, int]] = []
    drawn = 0

    def calls() -> Iterator[Job]:
        nonlocal drawn
        while drawn < 100_000:
            drawn += 1
            yield job

    job = plain.job(n=1)
    ids = app.enqueue_many(conn, calls(), progress=lambda n: told.append((n, drawn)))

    assert [n for n, _ in told] == list(range(5_000, 100_001, 5_000))
    assert all(n <= taken <= n + 5_000 for n, taken in told), "memory is bounded by two chunks"
    assert len(ids) == len(set(ids)) == 100_000
    assert ids == sorted(each for each in ids if each is not None)
    assert count(conn) == 100_000


# ------------------------------------------------------------------------------------------------ two phases, causes


async def test_a_prepared_transaction_may_enqueue_and_publish_while_a_runner_sleeps(connect: Connect, dsn: str) -> None:
    prepared = connect().execute("show max_prepared_transactions").fetchone()
    if prepared == ("0",):
        pytest.skip("the server takes no prepared transactions")
    mine = App("mine")
    ran: list[int] = []

    @mine.task
    async def note(ctx: Context, n: int) -> None:
        ran.append(n)

    class Noted(Event, name="noted"):
        n: int

    @mine.on(Noted)
    async def heard(ctx: Context, event: Noted) -> None:
        ran.append(event.n)

    async with Runner(mine, dsn) as runner:
        await eventually(runner._claimer.resting.is_set, what="a sleeping runner")
        with psycopg.connect(dsn) as two:
            two.tpc_begin("shop-42")
            mine.enqueue(two, note.job(n=1))
            mine.enqueue_many(two, [note.job(n=2)])
            mine.publish(two, Noted(n=3))
            mine.publish_many(two, [Noted(n=4)])
            two.tpc_prepare()
            two.tpc_commit()
        await eventually(lambda: sorted(ran) == [1, 2, 3, 4], what="the prepared jobs and events")


async def test_what_a_handler_enqueues_is_linked_to_it(dsn: str, conn: Connection) -> None:
    mine = App("mine")

    @mine.task
    def leaf(ctx: Context, how: str) -> None: ...

    @mine.task
    async def middle(ctx: Context) -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as own:
            await mine.enqueue(own, leaf.job(how="own connection"))
            await mine.enqueue_many(own, [leaf.job(how="many")])
        async with ctx.transaction() as tx:
            await mine.enqueue(tx, leaf.job(how="transaction"))
            await tx.execute("""select jobrunner.enqueue('mine.leaf', '{"how": "sql"}')""")

    @mine.task
    def root(ctx: Context) -> None:
        with ctx.transaction() as tx:
            mine.enqueue(tx, middle.job(), subject="order:42")

    first = mine.enqueue(conn, root.job())
    async with Runner(mine, dsn) as runner:
        await runner.wait_idle(10)

    tree = conn.execute("select depth, task, state, cause from jobrunner.trace(%s)", [f"job:{first}"]).fetchall()
    (second,) = conn.execute("select id from jobrunner.v_job where task = 'mine.middle'").fetchall()[0]
    assert tree == [
        (0, "mine.root", "succeeded", None),
        (1, "mine.middle", "succeeded", first),
        *[(2, "mine.leaf", "succeeded", second)] * 4,
    ]
    assert conn.execute("select count(*) from jobrunner.trace('order:42')").fetchone() == (5,)
    correlations = conn.execute("select distinct correlation_id from jobrunner.job_links").fetchall()
    headers = conn.execute(
        """select distinct headers ->> 'correlation_id' from jobrunner.finished_jobs
           where id <> %s and args ->> 'how' is distinct from 'sql'""",
        [first],
    ).fetchall()
    assert len(correlations) == 1
    assert headers == [(str(correlations[0][0]),)]


async def test_what_is_enqueued_outside_a_handler_has_no_cause(dsn: str, conn: Connection) -> None:
    mine = App("mine")

    @mine.task
    async def quiet(ctx: Context) -> None: ...

    async with Runner(mine, dsn) as runner:
        mine.enqueue(conn, quiet.job())
        await runner.wait_idle(10)
        mine.enqueue(conn, quiet.job())
        await runner.wait_idle(10)

    assert conn.execute("select count(*) from jobrunner.job_links").fetchone() == (0,)
