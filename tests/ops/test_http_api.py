"""The JSON over HTTP: every answer fits the OpenAPI document, pages follow one another, a wrong question is told what is wrong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias
from urllib.parse import quote

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Route

from jobrunner.ops.http import create_app, openapi
from jobrunner.ops.http.database import Reader, Shared
from jobrunner.ops.schemas import follow
from jobrunner.store import overview
from jobrunner.version import VERSION
from tests.conftest import Connection
from tests.ops.asgi import Answer, ask
from tests.ops.shell import bury, enqueue, register

Open: TypeAlias = Callable[..., Starlette]

DOCUMENT = openapi.document()
PROBLEM = {"$ref": "#/components/schemas/Problem", "components": DOCUMENT["components"]}


@pytest.fixture
def open_app() -> Iterator[Open]:
    """Makes apps on a database."""
    opened: list[Starlette] = []

    def make(at: str, **options: Any) -> Starlette:
        opened.append(create_app(at, insecure=True, **options))
        return opened[-1]

    yield make
    for app in opened:
        app.state.reader.close()


@pytest.fixture
def app(open_app: Open, dsn: str) -> Starlette:
    return open_app(dsn)


@pytest.fixture
def nowhere(open_app: Open) -> Starlette:
    """An app without a database: for questions that never come to it."""
    return open_app("host=127.0.0.1 port=1 user=anna password=s3cret dbname=x")


async def get(app: Starlette, path: str) -> Any:
    """The JSON of a path below /api/v1, after a look whether it is what the document promises."""
    found = await ask(app, f"/api/v1{path}")
    assert found.status == 200, found.text
    operation = DOCUMENT["paths"][re.sub(r"/jobs/\d+", "/jobs/{id}", path.partition("?")[0])]["get"]
    promised = operation["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator(
        {**promised, "components": DOCUMENT["components"]}, format_checker=jsonschema.FormatChecker()
    ).validate(found.json)
    return found.json


def is_problem(found: Answer, status: int, *words: str) -> Any:
    assert found.status == status, found.text
    assert found.headers["content-type"] == "application/problem+json"
    jsonschema.validate(found.json, PROBLEM)
    assert found.json["status"] == status
    assert [word for word in words if word not in found.json["detail"]] == [], found.json["detail"]
    return found.json


# ----------------------------------------------------------------------------------------------------- the document


def schemas(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if isinstance(node.get("schema"), dict):
            yield node["schema"]
        for value in node.values():
            yield from schemas(value)
    elif isinstance(node, list):
        for value in node:
            yield from schemas(value)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_the_document_has_the_parts_of_openapi_3_1() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"]["version"] == VERSION
    for schema in [*schemas(DOCUMENT["paths"]), *DOCUMENT["components"]["schemas"].values()]:
        jsonschema.Draft202012Validator.check_schema(schema)
    assert all(follow(DOCUMENT, reference) is not None for reference in references(DOCUMENT))
    operations = [path["get"] for path in DOCUMENT["paths"].values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    for path, one in zip(DOCUMENT["paths"], operations, strict=True):
        assert [each["name"] for each in one["parameters"] if each["in"] == "path"] == re.findall(r"{(\w+)}", path)
        assert {"200", "400", "401", "503"} <= one["responses"].keys()


async def test_every_path_is_described_and_every_description_has_a_path(nowhere: Starlette) -> None:
    served = {route.path for route in nowhere.routes if isinstance(route, Route) and route.path.startswith("/api/")}

    assert served == {f"/api/v1{path}" for path in DOCUMENT["paths"]}
    assert await get(nowhere, "/openapi.json") == DOCUMENT


async def test_the_parameters_are_those_of_the_document(nowhere: Starlette) -> None:
    """A parameter that nobody knows is answered with the list of those that there are: it is the document's."""
    for path, told in DOCUMENT["paths"].items():
        found = is_problem(await ask(nowhere, f"/api/v1{path.replace('{id}', '1')}?nonsense=1"), 400)
        described = [one["name"] for one in told["get"]["parameters"] if one["in"] == "query"]
        assert found["parameter"] == "nonsense"
        assert found["detail"].rpartition("it takes ")[2] == (", ".join(sorted(described)) or "none")


# -------------------------------------------------------------------------------------------------------- the answers


async def test_answers_of_an_empty_database_fit(app: Starlette) -> None:
    for path in DOCUMENT["paths"]:
        if "{id}" not in path and path != "/trace":
            await get(app, path)
    assert (await get(app, "/overview"))["attention"] == []


async def test_answers_in_many_states_fit(app: Starlette, conn: Connection) -> None:
    register(conn, "shop.send", "shop.resize", busy=2)
    silent = register(conn, "shop.other", queues=["nightly"])
    conn.execute(
        "update jobrunner.runners set beat_at = now() - interval '5 min', ttl = '30 s' where id = %s", [silent]
    )
    dead = enqueue(conn, subject="order:42", headers='{"a": 1}', args='{"to": "x"}')
    bury(conn, dead, error="ValueError: order 42")
    conn.execute(
        "insert into jobrunner.attempts (job_id, attempt, runner_id, started_at, outcome, error_type, message, traceback) "
        "values (%s, 3, 7, now(), 'failed', 'ValueError', 'order 42', 'Traceback')",
        [dead],
    )
    running = enqueue(conn, unique_key="u")
    conn.execute(
        "update jobrunner.jobs set state = 'running', attempt = 1, started_at = now(), runner_id = %s where id = %s",
        [silent, running],
    )
    conn.execute(
        "insert into jobrunner.job_progress (job_id, total, processed, failed, message, started_at, updated_at) "
        "values (%s, 10, 4, 1, 'reading', now() - interval '4 s', now())",
        [running],
    )
    enqueue(conn, "strange.task", delay="1 h")
    enqueue(conn, "strange.task")
    gone = enqueue(conn)
    conn.execute("select jobrunner.op_cancel(array[%s], 'anna@ops', 'a mistake')", [gone])
    conn.execute("select jobrunner.op_pause('nightly', 'anna@ops', 'moving')")
    conn.execute("select jobrunner.publish('order.paid', '{}', subject => 'order:42')")

    seen = await get(app, "/overview")
    assert {one["code"] for one in seen["attention"]} >= {"runner_silent", "task_unknown", "jobs_died"}
    assert seen["jobs"]["dead"] == 1
    assert [queue["name"] for queue in (await get(app, "/queues"))["items"]] == ["default", "nightly"]
    assert len((await get(app, "/jobs"))["items"]) == 5
    detail = await get(app, f"/jobs/{dead}")
    assert (detail["id"], detail["state"], detail["attempts"][0]["runner"]) == (str(dead), "dead", "7")
    assert f"jobrunner dead requeue {dead}" in detail["why"]
    assert [node["id"] for node in detail["trace"]] == [str(dead)]
    assert (await get(app, f"/jobs/{running}"))["progress"]["percentage"] == 40.0
    assert (await get(app, f"/jobs/{gone}"))["state"] == "cancelled"
    assert {node["kind"] for node in (await get(app, "/trace?ref=order:42"))["items"]} == {
        "job",
        "transaction",
        "event",
    }
    assert {one["state"] for one in (await get(app, "/runners?gone=true"))["items"]} == {"alive", "silent"}
    tasks = await get(app, "/tasks")
    assert {one["name"]: one["runners"] for one in tasks["items"]} == {
        "shop.send": 1,
        "shop.resize": 1,
        "shop.other": 0,
    }
    assert [(one["task"], one["jobs"]) for one in tasks["unknown"]] == [("strange.task", 1)]
    assert [one["id"] for one in (await get(app, "/dead"))["items"]] == [str(dead)]
    (group,) = (await get(app, "/dead/groups"))["items"]
    assert (group["error"], group["n"], group["sample_id"]) == ("ValueError: order N", 1, str(dead))
    (change,) = (await get(app, f"/audit?job={gone}"))["items"]
    assert (change["actor"], change["action"], change["reason"]) == ("anna@ops", "cancel", "a mistake")
    assert len((await get(app, "/audit"))["items"]) == 2
    await get(app, "/meta")


async def test_subscriptions_fit(app: Starlette, conn: Connection) -> None:
    spec = '{"types": ["order.*"], "queue": "events"}'
    conn.execute("select jobrunner.subscribe_v1('shop.ledger', 'shop', %s, null)", [spec])
    conn.execute("select jobrunner.op_pause_subscription('shop.ledger', 'anna@ops', 'why not')")

    (one,) = (await get(app, "/subscriptions"))["items"]
    assert (one["name"], one["condition"]) == ("shop.ledger", "paused")
    assert (await get(app, "/overview"))["subscriptions"]["paused"] == 1


async def test_ids_are_text_beyond_what_a_float_can_hold(app: Starlette, conn: Connection) -> None:
    large = 2**53 + 1
    conn.execute(f"alter sequence jobrunner.jobs_id_seq restart {large}")
    enqueue(conn)

    assert (await get(app, "/jobs"))["items"][0]["id"] == str(large)
    assert (await get(app, f"/jobs/{large}"))["id"] == str(large)


async def test_payloads_are_hidden_unless_they_are_asked_for(
    app: Starlette, open_app: Open, dsn: str, conn: Connection
) -> None:
    job = enqueue(conn, args='{"card": "4111"}', headers='{"secret": 1}')

    hidden = await get(app, f"/jobs/{job}")
    shown = await get(open_app(dsn, show_payloads=True), f"/jobs/{job}")

    assert (hidden["args"], hidden["headers"], hidden["result"], hidden["payload_shown"]) == (None, None, None, False)
    assert (shown["args"], shown["headers"], shown["payload_shown"]) == ({"card": "4111"}, {"secret": 1}, True)


# ------------------------------------------------------------------------------------------------- filters and pages


async def walk(app: Starlette, path: str) -> list[str]:
    """The ids of all pages."""
    ids: list[str] = []
    page = await get(app, path)
    while True:
        ids += [one["id"] for one in page["items"]]
        if page["next_cursor"] is None:
            return ids
        page = await get(app, f"{path}&cursor={page['next_cursor']}")


async def test_pages_follow_one_another_without_a_gap_while_jobs_come_and_go(app: Starlette, conn: Connection) -> None:
    ids = [enqueue(conn) for _ in range(7)]
    first = await get(app, "/jobs?limit=3")
    enqueue(conn)
    conn.execute("select jobrunner.op_cancel(array[%s], 'x', null)", [ids[2]])

    second = await get(app, f"/jobs?limit=3&cursor={first['next_cursor']}")
    last = await get(app, f"/jobs?limit=3&cursor={second['next_cursor']}")

    seen = [int(one["id"]) for page in (first, second, last) for one in page["items"]]
    assert seen == ids[::-1]
    assert last["next_cursor"] is None


async def test_a_full_last_page_has_no_next_one(app: Starlette, conn: Connection) -> None:
    ids = [str(enqueue(conn)) for _ in range(4)]

    assert await walk(app, "/jobs?limit=2") == ids[::-1]
    assert (await get(app, "/jobs?limit=4"))["next_cursor"] is None


async def test_dead_jobs_come_by_their_death_also_when_many_died_at_once(app: Starlette, conn: Connection) -> None:
    ids = [enqueue(conn) for _ in range(5)]
    bury(conn, *ids[:3], error="x", ago="1 h")
    bury(conn, ids[3], error="y", ago="2 h")
    bury(conn, ids[4], error="Z 100%", ago="1 min")

    assert await walk(app, "/dead?limit=2") == [str(one) for one in (ids[4], ids[2], ids[1], ids[0], ids[3])]
    assert await walk(app, "/dead?limit=2&error=z%20100%25") == [str(ids[4])]
    assert await walk(app, "/dead?limit=2&task=other.task") == []


async def test_filters(app: Starlette, conn: Connection) -> None:
    jobs = {
        "old": enqueue(conn),
        "mail": enqueue(conn, queue="mail"),
        "other": enqueue(conn, "shop.other"),
        "keyed": enqueue(conn, key="k/1"),
        "subject": enqueue(conn, subject="order:42"),
    }
    names = {str(job): name for name, job in jobs.items()}
    conn.execute("update jobrunner.jobs set created_at = now() - interval '1 day' where id = %s", [jobs["old"]])

    for query, found in {
        "state=blocked": ["keyed"],
        "queue=mail": ["mail"],
        "task=shop.other": ["other"],
        "key=k%2F1": ["keyed"],
        "subject=order:42": ["subject"],
        "since=1h": ["subject", "keyed", "other", "mail"],
        "since=0s": [],
        "state=&queue=": ["subject", "keyed", "other", "mail", "old"],
    }.items():
        assert [names[one["id"]] for one in (await get(app, f"/jobs?{query}"))["items"]] == found, query


# ----------------------------------------------------------------------------------------------------------- problems


@pytest.mark.parametrize(
    ("target", "parameter", "words"),
    [
        ("/jobs?stat=dead", "stat", ["there is no parameter 'stat'", "state"]),
        ("/jobs?state=gone", "state", ["must be scheduled", "got 'gone'"]),
        ("/jobs?limit=201", "limit", ["from 1 to 200"]),
        ("/jobs?limit=0", "limit", ["from 1 to 200"]),
        ("/jobs?limit=1e2", "limit", ["from 1 to 200"]),
        ("/jobs?limit=²", "limit", ["from 1 to 200"]),
        ("/jobs?cursor=abc", "cursor", ["must be an id"]),
        ("/jobs?cursor=9999999999999999999", "cursor", ["must be an id"]),
        ("/jobs?since=tomorrow", "since", ["since ", "write it like"]),
        ("/jobs?since=-5s", "since", ["since "]),
        ("/jobs?queue=a%00b", "queue", ["without NUL"]),
        ("/jobs?queue=" + "q" * 600, "queue", ["512 bytes"]),
        ("/jobs?queue=a&queue=b", "queue", ["given twice"]),
        ("/runners?gone=yes", "gone", ["true or false"]),
        ("/dead?cursor=1", "cursor", ["next_cursor"]),
        ("/dead?cursor=9000000000000000000-1", "cursor", ["next_cursor"]),
        ("/trace", "ref", ["ref is needed"]),
        ("/audit?job=order", "job", ["must be an id"]),
    ],
)  # fmt: skip
async def test_a_wrong_parameter_is_named(nowhere: Starlette, target: str, parameter: str, words: list[str]) -> None:
    assert is_problem(await ask(nowhere, f"/api/v1{target}"), 400, *words)["parameter"] == parameter


async def test_what_is_not_there_is_a_problem_of_its_own(app: Starlette) -> None:
    is_problem(await ask(app, "/api/v1/jobs/77"), 404, "there is no job 77")
    is_problem(await ask(app, "/api/v1/jobs/order:42"), 404, "there is no job order:42")
    is_problem(await ask(app, "/api/v1/trace?ref=order:42"), 404, "there is no trace of order:42")
    is_problem(await ask(app, "/api/v2"), 404, "openapi.json")
    refused = await ask(app, "/api/v1/jobs", method="POST")
    is_problem(refused, 405, "read-only")
    assert "GET" in refused.headers["allow"]
    assert (await ask(app, "/api/v1/jobs", method="HEAD")).status == 200


async def test_what_nobody_foresaw_tells_nothing_of_itself(nowhere: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a secret")

    monkeypatch.setattr("jobrunner.ops.http.openapi.document", fail)
    sent: list[Answer] = []

    with pytest.raises(RuntimeError, match="a secret"):  # for the server, which logs it
        await ask(nowhere, "/api/v1/openapi.json", sent=sent)

    is_problem(sent[0], 500, "unexpected", "log")
    assert "secret" not in sent[0].text


async def test_a_schema_that_is_missing_is_told_and_a_database_that_is_away_too(
    open_app: Open, nowhere: Starlette, bare_dsn: str
) -> None:
    is_problem(await ask(open_app(bare_dsn), "/api/v1/overview"), 503, "is missing", "jobrunner migrate")
    found = await ask(nowhere, "/api/v1/jobs")
    is_problem(found, 503, "cannot use the database", "check the address")
    assert "s3cret" not in found.text
    assert found.headers["retry-after"] == "5"


names = st.sampled_from(
    ["state", "queue", "task", "key", "subject", "since", "limit", "cursor", "error", "job", "ref", "x"]
)
values = st.one_of(
    st.text(max_size=30), st.integers().map(str), st.sampled_from(["dead", "1h", "50", "%00", "a&b", ""])
)


async def test_no_query_is_an_error_of_the_server(app: Starlette) -> None:
    asked: list[str] = []

    @given(
        st.sampled_from(["jobs", "dead", "audit", "trace", "dead/groups"]),
        st.lists(st.tuples(names, values), max_size=3),
    )
    @settings(max_examples=120, deadline=None, database=None)
    def collect(path: str, query: list[tuple[str, str]]) -> None:
        encoded = "&".join(f"{name}={quote(value, errors='replace')}" for name, value in query)
        asked.append(f"/api/v1/{path}?{encoded}")

    collect()
    for target in asked:
        found = await ask(app, target)
        assert found.status in (200, 400, 404), (target, found.text)


# ------------------------------------------------------------------------------------------------------ how it reads


async def test_connections_cannot_write_and_no_statement_is_endless(dsn: str) -> None:
    reader = Reader(dsn)
    try:
        told = await reader.read(
            lambda conn: conn.execute(
                "select current_setting('transaction_read_only'), current_setting('statement_timeout'), "
                "current_setting('transaction_isolation'), current_setting('application_name')"
            ).fetchone()
        )
        assert told == ("on", "5s", "repeatable read", "jobrunner web")
        with pytest.raises(Exception, match="read-only"):
            await reader.read(lambda conn: conn.execute("select jobrunner.enqueue('shop.send')"))
        with pytest.raises(Exception, match="statement timeout"):
            await reader.read(lambda conn: conn.execute("select pg_sleep(60)"), statement=0.05)
        assert await reader.read(lambda conn: conn.execute("select 1").fetchone()) == (1,)
    finally:
        reader.close()


async def test_a_connection_that_died_while_it_lay_idle_is_replaced(dsn: str, conn: Connection) -> None:
    reader = Reader(dsn)
    try:
        pid = await reader.read(lambda mine: mine.info.backend_pid)
        conn.execute("select pg_terminate_backend(%s, 5000)", [pid])
        assert await reader.read(lambda mine: mine.info.backend_pid) != pid
    finally:
        reader.close()


async def test_many_who_ask_at_once_cost_one_count(
    app: Starlette, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = 0

    def count(conn: Any) -> Any:
        nonlocal counted
        counted += 1
        return queues(conn)

    queues = overview.list_queues
    monkeypatch.setattr(overview, "list_queues", count)
    answers = await asyncio.gather(*[ask(app, path) for path in ("/", "/api/v1/overview", "/api/v1/queues") * 10])

    assert {one.status for one in answers} == {200}
    await get(app, "/overview")  # a moment later
    assert counted == 1


async def test_a_shared_answer_grows_old_and_a_failure_is_shared_too() -> None:
    asked = 0

    async def read() -> int:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        if asked == 1:
            raise RuntimeError
        return asked

    shared = Shared(read, fresh=1000)
    failed = await asyncio.gather(shared.get(), shared.get(), return_exceptions=True)
    assert [type(one) for one in failed] == [RuntimeError, RuntimeError]
    assert asked == 1
    shared._good_until = 0.0
    assert (await shared.get(), await shared.get()) == (2, 2)
