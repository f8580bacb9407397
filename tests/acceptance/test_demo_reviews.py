"""`jobrunner demo reviews` as its users run it: a process that is killed and started again, a pipe that reads its JSON."""

from __future__ import annotations

import inspect
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrunner.demos.reviews import command, imports
from jobrunner.demos.reviews.making import made_lines
from jobrunner.ops.cli import main
from tests.conftest import Connection
from tests.support import wait_until

KEYS = ["submitted", "processed", "failed", "duplicates", "seconds", "rows_per_second"]

SLOW = """
create function reviews.linger() returns trigger language plpgsql as
$$ begin perform pg_sleep(0.0003); return new; end $$;
create trigger linger before insert on reviews.reviews for each row execute function reviews.linger()
"""

Demo = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def demo() -> Iterator[Demo]:
    """Starts `jobrunner demo reviews …`; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "jobrunner", "demo", "reviews", *map(str, args)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ends(process: subprocess.Popen[str], deadline: float = 40) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=deadline)
    return process.returncode, out, err


def expected(rows: int, seed: int) -> tuple[int, int, int, int]:
    ways = [made.expected for made in made_lines(rows, seed)]
    return rows, ways.count("stored"), ways.count("failed"), ways.count("duplicate")


def test_two_thousand_rows_on_a_temporary_server_print_one_json_object(demo: Demo) -> None:
    """What CI runs from the wheel, too."""
    code, out, err = ends(demo("--rows", 2000, "--seed", 7, "--json"))

    figures = json.loads(out)
    assert code == 0
    assert list(figures) == KEYS
    assert tuple(figures[key] for key in KEYS[:4]) == expected(2000, 7)
    assert figures["rows_per_second"] == pytest.approx(2000 / figures["seconds"], rel=0.01)
    assert "starting a temporary PostgreSQL" in err
    first_bad = next(number for number, made in enumerate(made_lines(2000, 7), 1) if made.expected == "failed")
    assert f"{first_bad}  " in err
    assert "Traceback" not in err


@pytest.mark.faults
def test_a_killed_import_goes_on_where_it_was_and_stores_every_good_line_once(
    demo: Demo, dsn: str, conn: Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, seed = 12_000, 3
    path = tmp_path / "reviews.jsonl"
    path.write_bytes(b"".join(made.text + b"\n" for made in made_lines(rows, seed)))
    conn.execute(imports.SCHEMA)
    conn.execute(SLOW)
    arguments = ("--input", path, "--dsn", dsn, "--json")

    def passed() -> int:
        row = conn.execute("select coalesce(sum(passed), 0)::int from reviews.chunks").fetchone()
        assert row is not None
        return int(row[0])

    first = demo(*arguments)
    wait_until(lambda: passed() > rows // 4, 20, "a quarter of the import")
    shown = wait_until(lambda: show_progress(conn, dsn, capsys), 5, "progress that jobs show can show")
    first.kill()
    first.wait()
    before = passed()
    conn.execute("drop trigger linger on reviews.reviews")
    code, out, err = ends(demo(*arguments))

    assert shown is not None
    assert 0 < shown["processed"] < shown["total"] == rows
    assert 0 < shown["percentage"] < 100 and shown["rate"] > 0 and shown["estimated_completion"]
    assert rows // 4 < before < rows
    assert code == 0
    assert tuple(json.loads(out)[key] for key in KEYS[:4]) == expected(rows, seed)
    assert "going on with it" in err
    stored = [review_id for (review_id,) in conn.execute("select review_id from reviews.reviews order by review_id")]
    good = {json.loads(made.text)["review_id"] for made in made_lines(rows, seed) if made.expected == "stored"}
    assert stored == sorted(good)
    errors = [line for (line,) in conn.execute("select line from reviews.import_errors order by line")]
    assert errors == [number for number, made in enumerate(made_lines(rows, seed), 1) if made.expected == "failed"]
    assert conn.execute("select count(*) from reviews.imports").fetchone() == (1,)


def show_progress(conn: Connection, dsn: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any] | None:
    """The progress that `jobrunner jobs show` prints, once it has counted something."""
    found = conn.execute("select job_id from reviews.imports").fetchone()
    assert found is not None
    capsys.readouterr()
    assert main(["jobs", "show", str(found[0]), "--json", "--dsn", dsn]) == 0
    progress: dict[str, Any] | None = json.loads(capsys.readouterr().out)["progress"]
    return progress if progress and progress["processed"] else None


def test_an_import_whose_jobs_are_dead_is_requeued_by_the_next_start(
    dsn: str, conn: Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After three crashes they are; starting the import again is the person who gives them another life."""
    arguments = ["demo", "reviews", "--rows", "500", "--dsn", dsn, "--json"]
    conn.execute(imports.SCHEMA)
    with conn.transaction():
        conn.execute(
            """
            insert into reviews.imports (location, fingerprint, provider_id, path, job_id)
            values ('made:500:1', '', 'demo', %s, jobrunner.enqueue(
                'reviews.import_file', '{"import_id": 1}', key => 'reviews.imports'
            ))
            """,
            [str(tmp_path / "lines")],
        )
    conn.execute(
        """
        update jobrunner.jobs
        set state = 'dead', blocked_on = null, reason = 'crashed', crashes = 3, attempt = 3, finished_at = now()
        """
    )

    code = main(arguments)

    out, err = capsys.readouterr()
    assert (code, "import 1 of this source is not finished: going on with it" in err) == (0, True)
    assert tuple(json.loads(out)[key] for key in KEYS[:4]) == expected(500, 1)
    assert conn.execute("select action, reason from jobrunner.audit").fetchall() == [
        ("requeue", "the import was started again")
    ]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.jsonl", None, "there is no such file; check the path"),
        ("empty.jsonl", b"", "it is empty; name a file of JSON lines"),
        ("binary.jsonl", bytes(range(256)) * 16, "it is binary; name a file of JSON lines, plain or gzip"),
        ("", None, "it is a directory; name a file in it"),
    ],
)
def test_an_unusable_input_is_one_sentence_and_touches_no_database(
    name: str, content: bytes | None, sentence: str, tmp_path: Path, bare_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    code = main(["demo", "reviews", "--input", str(path), "--dsn", bare_dsn, "--json"])

    out, err = capsys.readouterr()
    assert (code, out, err) == (2, "", f"error: cannot read {path}: {sentence}\n")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--input", "a", "--rows", "5"], 2, "--input and --rows name two sources"),
        (["--rows", "0"], 2, "--rows"),
        (["--rows", "5", "--dsn", "host=127.0.0.1 port=1 user=x"], 6, "cannot use the database at host=127.0.0.1"),
        (["--rows", "5", "--dsn", "nonsense"], 2, "the address of the database"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    arguments: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "reviews", *arguments]) == code

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and sentence in err and err.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("least", [0, 2_000])
def test_a_signal_ends_the_demo_at_once_with_its_code(
    demo: Demo, dsn: str, conn: Connection, number: signal.Signals, least: int
) -> None:
    """The first instant is while the rows are made, the second while chunks store them."""
    conn.execute(imports.SCHEMA)

    def begun() -> bool:
        query = (
            "select exists (select 1 from reviews.chunks having sum(passed) >= %s)"
            if least
            else "select exists (select 1 from jobrunner.jobs where state = 'running' and %s = 0)"
        )
        return conn.execute(query, [least]).fetchone() == (True,)

    process = demo("--rows", 300_000, "--dsn", dsn, "--json")
    wait_until(begun, 20, "the instant of the signal")
    process.send_signal(number)
    code, out, err = ends(process, 10)

    assert (code, out) == (128 + number, "")
    assert "the same command goes on" in err
    assert "Traceback" not in err and "rollback" not in err and "rolling back" not in err


def test_errors_that_cannot_be_written_are_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "reviews", "--rows", "5", "--errors", str(tmp_path / "no" / "bad.jsonl")]) == 2

    assert capsys.readouterr().err == f"error: --errors cannot be written: there is no directory {tmp_path / 'no'}\n"


def test_every_option_is_in_the_document() -> None:
    text = (Path(__file__).parents[2] / "docs" / "demo-reviews.md").read_text()
    options = {"input", "rows", "seed", "dsn", "provider", "slots", "errors", "json", "quiet"}

    assert set(inspect.signature(command).parameters) == options
    assert [option for option in options if f"| `--{option}" not in text] == []


def peak_memory(process: subprocess.Popen[str]) -> int:
    """The most that the process held, in kB, read until it ends. Not ru_maxrss: that begins with the parent's."""
    peak, status = 0, Path(f"/proc/{process.pid}/status")

    def ended() -> bool:
        nonlocal peak
        found = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        peak = int(found[0]) if found else peak
        return process.poll() is not None

    wait_until(ended, 300, "the end of the import")
    return peak


def grows(demo: Demo, dsn: str, small: int, large: int) -> float:
    """Megabytes that *large* rows need over what *small* ones need."""
    peaks = []
    for seed, rows in enumerate((small, large)):
        process = demo("--rows", rows, "--seed", seed, "--dsn", dsn, "--json")
        peaks.append(peak_memory(process))
        assert ends(process)[0] == 0
    return (peaks[1] - peaks[0]) / 1024


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")


@needs_proc
def test_sixty_thousand_lines_need_no_more_memory_than_five_thousand(demo: Demo, dsn: str) -> None:
    """60,000 lines are 13 MB of text and would be 60 MB of objects."""
    assert grows(demo, dsn, 5_000, 60_000) < 8


@needs_proc
@pytest.mark.slow
def test_a_million_lines_need_no_more_memory_than_ten_thousand(demo: Demo, dsn: str) -> None:
    assert grows(demo, dsn, 10_000, 1_000_000) < 8
