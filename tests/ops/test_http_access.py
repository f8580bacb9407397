"""Who may look: nothing answers without the token but the probes, and without one only this machine is answered."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route

from jobrunner import App, Context, Runner
from jobrunner.errors import ConfigError
from jobrunner.ops.http import create_app
from jobrunner.ops.http.app import probe_app
from tests.conftest import Login
from tests.ops.asgi import ask

TOKEN = "correct-horse-battery"
NOWHERE = "host=127.0.0.1 port=1"
PROBES = {"/livez", "/readyz", "/startupz", "/healthz"}


def runner() -> Runner:
    app = App("shop")

    @app.task
    async def work(ctx: Context) -> None: ...

    return Runner(app, NOWHERE)


def paths(routes: list[BaseRoute]) -> Iterator[str]:
    """A path for every route there is, and one that there is not."""
    for route in routes:
        if isinstance(route, Route):
            yield route.path.replace("{id}", "7")
        elif isinstance(route, Mount):
            yield f"{route.path}/style.css"
    yield "/nowhere"


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    "app", [create_app(NOWHERE, token=TOKEN), probe_app(runner(), token=TOKEN)], ids=["web", "run"]
)
async def test_every_path_but_the_probes_asks_for_the_token(app: Starlette) -> None:
    walked = list(paths(app.routes))
    assert len(walked) > 5
    for path in walked:
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            found = await ask(app, path, method=method)
            if path in PROBES:
                assert found.status != 401, path
            else:
                assert (found.status, found.headers["content-type"]) == (401, "application/problem+json"), path
                assert found.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"Authorization": f"bearer {TOKEN}"}, 200),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": f"Digest {TOKEN}"}, 401),
        ({"Authorization": "Bearer \xff\xfe"}, 401),
        (basic("anyone", TOKEN), 200),
        (basic("", TOKEN), 200),
        (basic(TOKEN, "anyone"), 401),
        (basic("anyone", f"{TOKEN}:"), 401),
        ({"Authorization": "Basic %%%"}, 401),
        ({"Authorization": "Basic ÄÖ=="}, 401),
    ],
)
async def test_the_token_comes_as_bearer_or_as_the_password_of_any_user(headers: dict[str, str], status: int) -> None:
    app = create_app(NOWHERE, token=TOKEN)

    assert (await ask(app, "/static/style.css", headers)).status == status


async def test_with_a_token_any_name_of_this_machine_will_do() -> None:
    app = create_app(NOWHERE, token=TOKEN)

    assert (await ask(app, "/livez", host="jobs.example.com")).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8080", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("jobs.localhost", 200),
        ("attacker.example", 403),
        ("localhost.attacker.example", 403),
        ("127.0.0.1.attacker.example", 403),
        ("localhost@attacker.example", 403),
        ("[", 403),
        ("", 403),
    ],
)
async def test_without_a_token_only_localhost_is_answered(host: str, status: int) -> None:
    """A page of the internet may point its own name at 127.0.0.1, and its script would read every job."""
    app = create_app(NOWHERE, local=True)

    assert (await ask(app, "/static/style.css", host=host)).status == status


async def test_a_runner_says_where_the_rest_is() -> None:
    answer = await ask(probe_app(runner(), local=True), "/api/v1/overview")

    assert answer.status == 404
    assert "`jobrunner web`" in answer.json["detail"]


async def test_a_login_that_may_not_look_is_not_ready(login: Login) -> None:
    for role, status in (("reader", 200), ("runner", 503), ("enqueue", 503)):
        app = create_app(login(role), local=True)
        assert (await ask(app, "/readyz")).status == status, role
        app.state.reader.close()


def test_an_app_says_who_may_look() -> None:
    with pytest.raises(ConfigError, match="insecure=True"):
        create_app(NOWHERE)
    for bad in ("short", "with a space in it", "ümläüt-is-not-ascii-x"):
        with pytest.raises(ConfigError, match="at least 16"):
            create_app(NOWHERE, token=bad)


async def test_every_answer_forbids_what_a_page_of_ours_never_needs() -> None:
    app = create_app(NOWHERE, insecure=True)
    for path in ("/", "/jobs", "/static/style.css", "/api/v1/openapi.json", "/nowhere", "/livez", "/metrics"):
        headers = (await ask(app, path, {"Accept": "text/html"})).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src" not in policy and "unsafe" not in policy
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


async def test_an_app_that_is_mounted_keeps_its_guard_and_its_paths(dsn: str) -> None:
    mine = create_app(dsn, token=TOKEN)
    outer = Starlette(routes=[Mount("/ops/jobs", mine)])

    assert (await ask(outer, "/ops/jobs/livez")).status == 200
    assert (await ask(outer, "/ops/jobs/")).status == 401
    page = await ask(outer, "/ops/jobs/jobs", basic("a", TOKEN))
    assert page.status == 200
    assert 'href="./static/style.css"' in page.text
    assert (await ask(outer, "/ops/jobs/static/style.css", basic("a", TOKEN))).status == 200
    assert (await ask(outer, "/ops/jobs/api/v1/meta", basic("a", TOKEN))).status == 200
    mine.state.reader.close()


async def test_no_websocket_is_let_in() -> None:
    app, sent = create_app(NOWHERE, insecure=True), []

    async def send(message: object) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/", "headers": []}, None, send)  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]
