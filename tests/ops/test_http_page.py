"""The pages: they work without a script, show the same as the API, let nothing of a job act, and say when they cannot look."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import urljoin

import pytest
from starlette.applications import Starlette

from jobrunner.ops.http import create_app
from tests.conftest import Connection
from tests.ops.asgi import ask
from tests.ops.shell import bury, enqueue, register

POISON = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</pre></bdi></td><script>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "\u202egnp.exe \u2066\u2069",
    "a&amp;b &lt;",
    "' onmouseover=alert(1) x='",
]


@pytest.fixture
def app(dsn: str) -> Iterator[Starlette]:
    made = create_app(dsn, insecure=True, show_payloads=True)
    yield made
    made.state.reader.close()


class Page(HTMLParser):
    """What a browser would make of a page: its tags, their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, *names: str) -> list[str]:
        return [value for _, name, value in self.attributes if name in names]


async def look(app: Starlette, target: str, status: int = 200) -> Page:
    found = await ask(app, target, {"Accept": "text/html,*/*"})
    assert (found.status, found.headers["content-type"]) == (status, "text/html; charset=utf-8"), found.text[:2000]
    page = Page(found.text)
    assert "script" not in page.tags
    assert "style" not in page.tags
    assert [name for _, name, _ in page.attributes if name.startswith("on") or name == "style"] == []
    return page


async def test_an_empty_database_is_well(app: Starlette) -> None:
    page = await look(app, "/")

    assert "All is well" in page.text
    assert "No runner: start one with jobrunner run APP" in " ".join(page.text.split())
    assert page.values("http-equiv") == ["refresh"]
    assert "refresh" not in (await look(app, "/?refresh=off")).values("http-equiv")


async def test_every_link_of_every_page_leads_somewhere(app: Starlette, conn: Connection) -> None:
    register(conn, "shop.send")
    bury(conn, enqueue(conn, subject="order:42", queue="a&b/c?d"), error="x")
    cause = enqueue(conn, key="k 1", queue="mail", subject="order:42")
    caused = enqueue(conn)
    conn.execute("insert into jobrunner.job_links (job_id, cause_job_id) values (%s, %s)", [caused, cause])
    for _ in range(60):
        enqueue(conn)

    todo, seen = ["/"], {"/"}
    while todo:
        target = todo.pop()
        found = await ask(app, target, {"Accept": "text/html"})
        assert found.status == 200, target
        if "text/html" not in found.headers["content-type"]:
            continue
        links = {urljoin(f"http://x{target}", link) for link in Page(found.text).values("href", "src")}
        new = {link.removeprefix("http://x") for link in links} - seen
        assert all(link.startswith("/") for link in new)
        seen |= new
        todo += [link for link in new if "refresh=off" not in link]
    assert {f"/jobs/{cause}", f"/jobs/{caused}", "/jobs?key=k%201", "/jobs?queue=a%26b/c%3Fd"} <= seen
    assert any("cursor=" in link for link in seen)


async def test_nothing_that_comes_with_a_job_acts(app: Starlette, conn: Connection) -> None:
    runner = register(conn, "shop.send")
    conn.execute("update jobrunner.runners set host = %s, app = %s where id = %s", [POISON[0], POISON[1], runner])
    ids = []
    for n, poison in enumerate(POISON):
        job = enqueue(conn, f"shop.{poison}", queue=f"q{poison}", subject=poison, args='{"a": "</script><b>"}')
        long = poison + "x" * 10_000
        if n % 2:
            bury(conn, job, error=long)
        else:
            conn.execute("select jobrunner.op_pause(%s, %s, %s)", [f"q{poison}", poison, poison])
        conn.execute(
            "insert into jobrunner.attempts (job_id, attempt, started_at, outcome, reason, error_type, message, traceback) "
            "values (%s, 1, now(), 'failed', %s, %s, %s, %s)",
            [job, poison, poison, long, long],
        )
        ids.append(job)

    page = await look(app, "/")
    assert "<script>alert(1)</script>" in page.text
    assert page.values("src") == ["./static/icon.svg"]
    assert len(page.text) < 40_000  # ten kilobytes of one error are not shown here
    for job, poison in zip(ids, POISON, strict=True):
        page = await look(app, f"/jobs/{job}")
        assert poison.translate(dict.fromkeys([0x202E, 0x2066, 0x2069], "\N{REPLACEMENT CHARACTER}")) in page.text
        assert "img" not in page.tags[page.tags.index("main") :]
        assert "\u202e" not in page.text
        assert "xxxxxxxxxx" in page.text
    await look(app, "/jobs")


async def test_what_is_asked_for_is_shown_harmlessly_too(app: Starlette) -> None:
    """Every one of these came from the address, which anyone can make another one click."""
    page = await look(app, "/jobs?queue=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert '"><script>alert(1)</script>' in page.values("value")
    for target, status in (
        ("/jobs?%3Cscript%3E=1", 400),
        ("/jobs?state=%3Cscript%3E", 400),
        ("/jobs/%3Cscript%3E", 404),
        ("/%3Cscript%3E", 404),
    ):
        await look(app, target, status)


async def test_a_job_has_its_why_its_attempts_and_its_tree(app: Starlette, conn: Connection) -> None:
    register(conn, "shop.send")
    cause, job = enqueue(conn, subject="order:42"), enqueue(conn, args='{"to": "anna"}')
    conn.execute("insert into jobrunner.job_links (job_id, cause_job_id) values (%s, %s)", [job, cause])
    conn.execute(
        "insert into jobrunner.attempts (job_id, attempt, started_at, outcome, error_type, message, traceback) "
        "values (%s, 1, now() - interval '3 s', 'failed', 'SMTPError', 'busy', 'Traceback (most recent call last)')",
        [job],
    )
    bury(conn, job, error="SMTPError: busy")

    page = await look(app, f"/jobs/{job}")
    told = " ".join(page.text.split())
    assert f"jobrunner dead requeue {job}" in told
    assert "attempt 1 failed after 3s : SMTPError: busy" in told.replace("s:", "s :")
    assert '"to": "anna"' in told
    assert str(cause) in page.values("href")
    assert "refresh" not in page.values("http-equiv")  # it is over


async def test_the_list_keeps_its_filters_from_page_to_page(app: Starlette, conn: Connection) -> None:
    for _ in range(51):
        enqueue(conn, queue="mail")
    enqueue(conn)

    first = await look(app, "/jobs?state=ready&queue=mail&key=")
    (older,) = [link for link in first.values("href") if "cursor=" in link]
    assert re.fullmatch(r"\?state=ready&queue=mail&cursor=\d+", older)
    second = await look(app, f"/jobs{older}")
    assert len([link for link in second.values("href") if re.fullmatch(r"\./jobs/\d+", link)]) == 1
    assert "?state=ready&queue=mail" in second.values("href")
