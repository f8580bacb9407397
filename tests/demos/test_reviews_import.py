"""The import on a real server: what is stored, what is refused, and what a second start finds."""

from __future__ import annotations

import gzip
import itertools
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from jobrunner import Backoff, Runner, Task
from jobrunner.demos.reviews import app, chunks, imports, report, submit, tasks
from jobrunner.demos.reviews.making import made_lines
from jobrunner.demos.reviews.source import examine, made
from tests.support import eventually

Conn = psycopg.Connection[tuple[Any, ...]]
Import = Callable[..., Awaitable[report.Figures]]


LINGER = """
create function reviews.linger() returns trigger language plpgsql as
$$ begin perform pg_sleep(0.0005); return new; end $$;
create trigger linger before insert on reviews.reviews for each row execute function reviews.linger()
"""
"""Makes storing a hundred rows take 60 ms."""


def line(review_id: str, **changes: Any) -> bytes:
    review = {"review_id": review_id, "hotel_id": "h1", "rating": 4, "content": "Fine.", **changes}
    return json.dumps(review).encode() + b"\n"


@pytest.fixture
def reviews(conn: Conn) -> Conn:
    """A session on a database that has the demo's tables."""
    conn.execute(imports.SCHEMA)
    return conn


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed jobs start again at once."""
    for name, task in list(app.tasks.items()):
        assert isinstance(task, Task)
        monkeypatch.setitem(app.tasks, name, replace(task, retry=Backoff(attempts=10, base="20ms", cap="100ms")))


@pytest.fixture
async def aconn(dsn: str, reviews: Conn) -> AsyncIterator[AsyncConnection[Any]]:
    async with await AsyncConnection.connect(dsn, autocommit=True) as conn:
        yield conn


@pytest.fixture
def run(dsn: str, aconn: AsyncConnection[Any], tmp_path: Path) -> Import:
    """Imports *content* to the end and returns the figures."""

    async def run(content: bytes, *, slots: int = 10, provider: str = "demo") -> report.Figures:
        path = tmp_path / "reviews.jsonl"
        path.write_bytes(content)
        async with aconn.transaction():
            import_id = await submit(aconn, examine(str(path)), provider=provider)
        async with Runner(app, dsn, slots=slots, grace="1s") as runner:
            await runner.wait_idle("20s")
        return await report.figures(aconn, import_id)

    return run


def parts(found: report.Figures) -> tuple[int, int, int, int]:
    return found.submitted, found.processed, found.failed, found.duplicates


def one(conn: Conn, query: str) -> Any:
    row = conn.execute(query).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


@pytest.mark.pg16
async def test_made_rows_end_where_they_were_made_to_end(dsn: str, reviews: Conn, aconn: AsyncConnection[Any]) -> None:
    """8 chunks at once, bad lines and duplicates in all of them; each line counts once, and every good one is stored."""
    lines = list(made_lines(3000, 5))
    expected = [sum(made.expected == kind for made in lines) for kind in ("stored", "failed", "duplicate")]
    async with aconn.transaction():
        import_id = await submit(aconn, made(3000, 5))

    async with Runner(app, dsn, grace="1s") as runner:
        await runner.wait_idle("20s")

    assert (3000, *expected) == parts(await report.figures(aconn, import_id))
    stored = {review_id for (review_id,) in reviews.execute("select review_id from reviews.reviews")}
    assert {json.loads(made.text)["review_id"] for made in lines if made.expected == "stored"} == stored
    failed = [number for (number,) in reviews.execute("select line from reviews.import_errors order by line")]
    assert [number for number, made in enumerate(lines, 1) if made.expected == "failed"] == failed
    assert (
        one(reviews, "select count(*) from jobrunner.v_job where task = 'reviews.import_chunk' and state = 'succeeded'")
        == 8
    )
    assert (3000, 3000, expected[1], "done") == one(
        reviews, "select total, processed, failed, message from jobrunner.v_job where task = 'reviews.import_file'"
    )
    assert not os.path.exists(one(reviews, "select path from reviews.imports"))  # noqa: ASYNC240, PTH110


async def test_a_packed_file_is_unpacked_imported_and_its_copy_removed(run: Import, reviews: Conn) -> None:
    assert parts(await run(gzip.compress(line("a") + line("b")))) == (2, 2, 0, 0)
    location, path = one(reviews, "select location, path from reviews.imports")
    assert (os.path.exists(location), os.path.exists(path)) == (True, False)  # noqa: ASYNC240, PTH110


async def test_a_source_that_goes_away_before_its_turn_ends_the_import_with_a_reason(
    dsn: str, reviews: Conn, aconn: AsyncConnection[Any], tmp_path: Path
) -> None:
    for content in (line("a"), gzip.compress(line("a"))):
        path = tmp_path / "reviews.jsonl"
        path.write_bytes(content)
        async with aconn.transaction():
            await submit(aconn, examine(str(path)))
        path.unlink()

    async with Runner(app, dsn, grace="1s") as runner:
        await runner.wait_idle("20s")

    dead = reviews.execute("select state, coalesce(error, reason) from jobrunner.v_job").fetchall()
    assert [state for state, _ in dead] == ["dead", "dead"]
    assert all("No such file" in reason for _, reason in dead)
    assert os.listdir(tmp_path) == []  # noqa: PTH208


async def test_the_same_file_again_is_all_duplicates(run: Import, reviews: Conn) -> None:
    content = b"".join(line(f"r{n}") for n in range(500))

    assert parts(await run(content)) == (500, 500, 0, 0)
    assert parts(await run(content)) == (500, 0, 0, 500)
    assert one(reviews, "select count(*) from reviews.reviews") == 500


async def test_all_fields_are_kept_and_the_import_sets_the_provider(run: Import, reviews: Conn) -> None:
    full = {"author": "Ann", "title": "T", "language": "en", "created_at": "2025-01-02T03:04:05+01:00", "images": ["a"]}
    extra = {"stay": {"nights": 3}, "gone": None, "provider_id": "not this one"}

    await run(line("a", **full, **extra) + line("b"), provider="booker")

    assert ("booker", 4, "Fine.", "Ann", "T", "en", "2025-01-02 02:04:05", ["a"], extra) == one(
        reviews,
        """
        select provider_id, rating, content, author, title, language,
            to_char(created_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'), images, extra
        from reviews.reviews
        where review_id = 'a'
        """,
    )
    assert one(reviews, "select author, created_at, images, extra from reviews.reviews where review_id = 'b'") == (
        None,
        None,
        None,
        {},
    )


@pytest.mark.pg16
async def test_a_row_that_the_database_refuses_fails_alone(run: Import, reviews: Conn) -> None:
    """Rules that the validator does not know: a CHECK that somebody added, text that PostgreSQL cannot hold, a trigger."""
    reviews.execute("alter table reviews.reviews add check (hotel_id <> 'closed')")
    reviews.execute(
        """
        create function reviews.no_spam() returns trigger language plpgsql as
        $$ begin if new.content = 'spam' then raise exception 'spam'; end if; return new; end $$;
        create trigger no_spam before insert on reviews.reviews for each row execute function reviews.no_spam()
        """
    )
    bad = {
        10: line("bad1", hotel_id="closed"),
        20: line("bad2", content="a\0b"),
        30: line("bad3", content="spam"),
        40: line("bad4" * 100),
        50: line("bad5", stay=float("nan")),
        60: line("bad6", **{"key\0": 1}),
    }

    found = await run(b"".join(bad.get(n, line(f"r{n % 80}")) for n in range(1, 96)))

    assert parts(found) == (95, 75, 6, 14)
    refused = reviews.execute(
        "select line from reviews.import_errors where kind = 'refused by the database' order by line"
    )
    assert sorted(bad) == [number for (number,) in refused]
    assert one(reviews, "select count(*) from reviews.reviews where review_id like 'bad%'") == 0


async def test_blank_lines_line_ends_and_a_byte_order_mark_do_not_count(run: Import) -> None:
    content = (
        b"\xef\xbb\xbf" + line("a").replace(b"\n", b"\r\n") + b"\n  \t\r\n\n" + line("b") + b"\n" * 300 + line("c")[:-1]
    )

    assert parts(await run(content)) == (3, 3, 0, 0)
    assert parts(await run(b"\xef\xbb\xbf")) == (0, 0, 0, 0)
    assert parts(await run(b" \n\n")) == (0, 0, 0, 0)


async def test_a_line_of_five_megabytes_is_one_failed_line(run: Import, reviews: Conn) -> None:
    content = line("a") + line("big", content="x" * 5_000_000) + line("b")

    assert parts(await run(content)) == (3, 2, 1, 0)
    assert one(reviews, "select line, kind from reviews.import_errors") == (2, "too long")


async def test_an_import_gets_through_a_runner_with_one_slot(run: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watching job would hold it for ever."""
    monkeypatch.setattr(tasks, "_PATIENCE", 0.2)
    monkeypatch.setattr(tasks, "_AGAIN", "10ms")

    assert parts(await run(b"".join(line(f"r{n}") for n in range(300)), slots=1)) == (300, 300, 0, 0)


async def test_two_imports_run_one_after_the_other_and_lose_nothing(
    dsn: str, reviews: Conn, aconn: AsyncConnection[Any]
) -> None:
    """Each watcher keeps a slot: side by side, as many imports as slots would stand still."""
    async with aconn.transaction():
        ids = [await submit(aconn, made(300, seed)) for seed in (1, 2, 3)]

    async with Runner(app, dsn, slots=2, grace="1s") as runner:
        await runner.wait_idle("20s")

    assert [(await report.figures(aconn, import_id)).submitted for import_id in ids] == [300, 300, 300]
    spans = reviews.execute("select started_at, finished_at from reviews.imports order by id").fetchall()
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))


@pytest.mark.usefixtures("impatient")
async def test_a_watcher_that_is_started_again_finds_the_chunks_and_makes_no_others(
    dsn: str, reviews: Conn, aconn: AsyncConnection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its second start comes after a crash; here its first one fails right after the chunks were committed."""
    looks = 0

    async def fail_once(conn: AsyncConnection[Any], import_id: int) -> imports.Totals:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise RuntimeError("killed here")
        return await totals(conn, import_id)

    totals = imports.totals
    monkeypatch.setattr(imports, "totals", fail_once)
    async with aconn.transaction():
        import_id = await submit(aconn, made(800, 1))

    async with Runner(app, dsn, grace="1s") as runner:
        await eventually(lambda: one(reviews, "select count(*) from reviews.imports where finished_at is not null"), 20)
        await runner.wait_idle("20s")

    assert (await report.figures(aconn, import_id)).submitted == 800
    assert one(
        reviews,
        """
        select (select count(*) from reviews.chunks),
            (select count(*) from jobrunner.v_job where task = 'reviews.import_chunk')
        """,
    ) == (8, 8)


@pytest.mark.usefixtures("impatient")
async def test_a_temporary_file_that_was_cleared_away_is_brought_back(
    dsn: str, reviews: Conn, aconn: AsyncConnection[Any]
) -> None:
    reviews.execute(LINGER)
    async with aconn.transaction():
        import_id = await submit(aconn, made(2000, 1))
    async with Runner(app, dsn, grace="0s"):
        await eventually(lambda: one(reviews, "select sum(passed) from reviews.chunks"), 10)
    assert one(reviews, "select sum(passed) from reviews.chunks") < 2000
    os.unlink(one(reviews, "select path from reviews.imports"))  # noqa: PTH108
    reviews.execute("drop trigger linger on reviews.reviews")

    async with Runner(app, dsn, grace="1s") as runner:
        await runner.wait_idle("20s")

    expected = [sum(made.expected == way for made in made_lines(2000, 1)) for way in ("stored", "failed", "duplicate")]
    assert parts(await report.figures(aconn, import_id)) == (2000, *expected)


@pytest.mark.usefixtures("impatient")
async def test_a_chunk_goes_on_at_its_cursor_when_it_is_started_again(
    run: Import, reviews: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every chunk fails once, half-way; a second pass over what was committed would show as duplicates."""
    seen: dict[int, int] = {}
    failed: set[int] = set()

    async def fail_once(conn: Any, whose: Any, chunk: chunks.Chunk, checked: Any) -> None:
        await store_all(conn, whose, chunk, checked)
        seen[chunk.number] = seen.get(chunk.number, 0) + 1
        if seen[chunk.number] == 2 and chunk.number not in failed:
            failed.add(chunk.number)
            raise RuntimeError("killed before the commit")

    store_all = chunks.store_all
    monkeypatch.setattr(chunks, "store_all", fail_once)
    found = await run(b"".join(line(f"r{n:05}") for n in range(2400)))

    assert parts(found) == (2400, 2400, 0, 0)
    assert len(failed) == 8
    assert one(reviews, "select count(*) from jobrunner.attempts where outcome in ('failed', 'retried')") == 8


async def test_a_file_that_changes_under_its_import_ends_it_with_a_reason(
    dsn: str, reviews: Conn, aconn: AsyncConnection[Any], tmp_path: Path
) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_bytes(line("a") * 10)
    async with aconn.transaction():
        await submit(aconn, examine(str(path)))
    reviews.execute("update reviews.imports set bytes = 1")  # as if it had been divided when it was shorter
    reviews.execute(
        """
        insert into reviews.chunks (import_id, number, job_id, first_byte, end_byte, first_line, lines, cursor_byte)
        values (1, 1, jobrunner.enqueue('reviews.import_chunk', '{"import_id": 1, "number": 1}'), 0, 1, 1, 1, 0)
        """
    )

    async with Runner(app, dsn, grace="1s"):
        await eventually(lambda: one(reviews, "select count(*) from jobrunner.jobs where state = 'dead'") == 2, 10)

    reason = one(reviews, "select coalesce(error, reason) from jobrunner.jobs where task = 'reviews.import_file'")
    assert "has changed since its import began" in reason


async def test_bad_lines_are_reported_by_kind_with_their_numbers(
    run: Import, aconn: AsyncConnection[Any], tmp_path: Path
) -> None:
    await run(line("a") + b"{\n" + line("b", rating=9) + b"[]\n" + line("c", rating=0))

    found = await report.groups(aconn, 1)
    await report.write_errors(aconn, 1, tmp_path / "bad.jsonl")

    assert {g.kind: g.lines for g in found} == {"wrong value: rating": [3, 5], "not JSON": [2], "not an object": [4]}
    assert found[0].kind == "wrong value: rating"
    assert found[0].first[0][:2] == (3, "rating: Input should be less than or equal to 5")
    written = [json.loads(text) for text in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(bad["line"], bad["kind"]) for bad in written] == [
        (2, "not JSON"),
        (3, "wrong value: rating"),
        (4, "not an object"),
        (5, "wrong value: rating"),
    ]


async def test_chunks_that_meet_on_the_same_rows_do_not_deadlock(run: Import, reviews: Conn) -> None:
    """Eight chunks with the same ids, every other one backwards: without the sort in `check` they lock crosswise."""
    reviews.execute(LINGER)
    ids = [f"r{n:02}" for n in range(100)]
    orders = [ids if chunk % 2 else reversed(ids) for chunk in range(8)]

    found = await run(b"".join(line(review_id) for order in orders for review_id in order))

    assert parts(found) == (800, 100, 0, 700)
    assert one(reviews, "select count(*) from jobrunner.attempts") == 0
