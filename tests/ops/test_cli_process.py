"""The real command as a process: every bad input is one sentence and an exit code, and signals and pipes end it cleanly."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import Connection
from tests.ops.shell import Result, Shell, bury, enqueue, environment, register, spawn, states
from tests.support import wait_until

APP = """
import time
from jobrunner import App, Context

app = App("shop")
other = 1

@app.task()
def work(ctx: Context, path: str) -> None:
    open(path, "w").close()
    while not ctx.cancelled:
        time.sleep(0.01)
"""


@pytest.fixture
def shell(dsn: str, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(dsn, capsys)


def is_one_sentence(result: Result, code: int, *words: str) -> None:
    assert result.code == code, result
    assert result.err.startswith("error: "), result.err
    assert result.err.count("\n") == 1, result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err


def test_the_command_imports_no_server_and_no_front_end() -> None:
    """It starts in 0.3 s; each of these would be a large part of that."""
    heavy = "{'procrastinate', 'starlette', 'uvicorn', 'jobrunner.demos.reviews'}"
    code = f"import sys, jobrunner.ops.cli; sys.exit(bool({heavy} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_call_that_must_not_reach_the_database_ends_with_2(dsn: str, shell: Shell, conn: Connection) -> None:
    malformed = spawn("enqueue", "shop.send", "--args", '{"a": 1 2}', dsn=dsn)
    is_one_sentence(malformed, 2, "--args is not JSON", "line 1, column 9")
    is_one_sentence(spawn("enqueue", "shop.send", "--delay", "5x", dsn=dsn), 2, "--delay", "5m")
    is_one_sentence(shell("enqueue", "shop.send", "--args", "[1]"), 2, "must be an object")
    is_one_sentence(shell("enqueue", "shop.send", "--args", '{"a": "\\u0000"}'), 2, "args.a contains a NUL")
    is_one_sentence(shell("enqueue", "shop.send", "--priority", 40_000), 2, "priority must be a whole number")
    is_one_sentence(shell("enqueue", "", "--queue", "a\nb"), 2, "task must not be empty")
    assert states(conn) == {}


def test_a_payload_too_large_and_an_unknown_task_write_nothing(dsn: str, shell: Shell, conn: Connection) -> None:
    register(conn, "shop.send")

    unknown = spawn("enqueue", "shop.sent", dsn=dsn)
    # In this process: the kernel gives one argument of a new one no more than 128 kB.
    large = shell("enqueue", "shop.send", "--args", '{"text": "' + "x" * 300_000 + '"}')

    is_one_sentence(unknown, 4, "did you mean shop.send?")
    is_one_sentence(large, 2, "300,011 bytes", "limit is 262,144")
    assert states(conn) == {}


def test_a_server_that_cannot_be_used_ends_with_6_and_shows_no_password(dsn: str, tmp_path: Path) -> None:
    nobody = "postgresql://me:secret@127.0.0.1:1/x"
    (tmp_path / "shop.py").write_text(APP)
    for result in (
        spawn("status", dsn=nobody),
        spawn("run", "shop:app", dsn=nobody, cwd=tmp_path),
        spawn("status", "--dsn", make_conninfo(dsn, dbname="missing")),
    ):
        is_one_sentence(result, 6, "cannot use the database at", "; check the")
        assert "secret" not in result.err

    malformed = spawn("status", "--dsn", "postgres//me:secret@host")
    is_one_sentence(malformed, 2, "neither a URL")
    assert "secret" not in malformed.err


def test_a_read_only_server_is_named_and_nothing_is_lost(
    dsn: str, conn: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    job = enqueue(conn)
    read_only = make_conninfo(dsn, options="-c default_transaction_read_only=on")

    is_one_sentence(spawn("enqueue", "shop.send", dsn=read_only), 6, "read-only", "primary")
    shell = Shell(read_only, capsys)
    is_one_sentence(shell("jobs", "cancel", job), 6, "read-only")
    is_one_sentence(shell("migrate"), 6, "read-only")
    assert shell("jobs", "list").code == 0
    assert states(conn) == {job: "ready"}


def test_a_schema_that_is_missing_older_or_newer_says_what_to_do(
    bare_dsn: str, dsn: str, shell: Shell, conn: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    is_one_sentence(spawn("status", dsn=bare_dsn), 1, "is missing", "jobrunner migrate")

    conn.execute("update jobrunner.settings set value = '0' where name = 'schema_version'")
    is_one_sentence(spawn("status", dsn=dsn), 1, "has version 0", "jobrunner migrate")
    for options in ([], ["--dry-run"]):
        is_one_sentence(shell("migrate", *options), 1, "has version 0, which no library wrote; set schema_version in")
    conn.execute("update jobrunner.settings set value = '99' where starts_with(name, 'schema_')")
    is_one_sentence(spawn("status", dsn=dsn), 1, "has version 99", "upgrade jobrunner")
    is_one_sentence(shell("migrate"), 1, "has version 99", "upgrade jobrunner")
    is_one_sentence(shell("migrate", "--dry-run"), 1, "has version 99")
    is_one_sentence(shell("enqueue", "shop.send"), 1, "has version 99")
    assert (shell("health").code, Shell(bare_dsn, capsys)("health").code) == (3, 3)


def test_a_missing_privilege_names_the_role(
    dsn: str, conn: Connection, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    conn.execute("drop role if exists jobrunner_test_nobody")
    conn.execute("create role jobrunner_test_nobody login")
    try:
        stranger = make_conninfo(dsn, user="jobrunner_test_nobody")
        is_one_sentence(
            spawn("status", dsn=stranger), 1, "role jobrunner_test_nobody may not use schema", "jobrunner sql roles"
        )
        conn.execute("grant usage on schema jobrunner to jobrunner_test_nobody")
        conn.execute("grant select on all tables in schema jobrunner to jobrunner_test_nobody")
        is_one_sentence(
            Shell(stranger, capsys)("enqueue", "shop.send"), 1, "may not use function", "jobrunner sql roles"
        )
        (tmp_path / "shop.py").write_text(APP)
        running = spawn("run", "shop:app", "--log-level", "error", dsn=stranger, cwd=tmp_path)
        assert "the database role jobrunner_test_nobody may not" in running.err.splitlines()[-1]
        assert states(conn) == {}
    finally:
        conn.execute("drop owned by jobrunner_test_nobody")
        conn.execute("drop role jobrunner_test_nobody")


def test_a_bug_is_one_sentence_and_debug_shows_the_traceback(dsn: str, conn: Connection) -> None:
    conn.execute(
        "create or replace function jobrunner.why(_id bigint) returns text language sql as $$ select (1 / 0)::text $$"
    )
    job = enqueue(conn)

    told = spawn("why", job, dsn=dsn)
    is_one_sentence(told, 1, "unexpected DivisionByZero", "--debug")
    assert "Traceback" in spawn("why", job, "--debug", dsn=dsn).err


def test_an_app_that_cannot_be_loaded_ends_with_2(
    dsn: str, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")

    is_one_sentence(spawn("run", "shops:app", dsn=dsn, cwd=tmp_path), 2, "no shops in")
    is_one_sentence(shell("run", "shop:apps"), 2, "has no apps")
    is_one_sentence(shell("run", "shop:other"), 2, "is a int, not a jobrunner App nor a procrastinate App")
    is_one_sentence(shell("run", "broken:app"), 2, "needs nothing_of_this_name")
    is_one_sentence(shell("run", "shop:app", "--lease", "soon"), 2, "--lease", "30s")
    is_one_sentence(shell("run", "shop:app", "--poll", "x"), 2, "--poll", "30s")
    is_one_sentence(shell("run", "shop:app", "--queue", ""), 2, "queue must not be empty")
    for wrong, right in (("./shop", "shop:app"), ("shop.py", "shop:app"), ("a/shop.py:other", "a.shop:other")):
        is_one_sentence(shell("run", wrong), 2, f"without .py: {right};")


def test_a_fleet_that_cannot_begin_says_so_once(dsn: str, shell: Shell, conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")
    nobody = "postgresql://me:secret@127.0.0.1:1/x"
    fleet = ["--processes", "3", "--quiet"]

    is_one_sentence(spawn("run", "broken:app", *fleet, dsn=dsn, cwd=tmp_path), 2, "needs nothing_of_this_name")
    is_one_sentence(spawn("run", "shop:app", *fleet, dsn=nobody, cwd=tmp_path), 6, "cannot use the database")
    small = spawn("run", "shop:app", "--processes", "3", "--max-rss", "5MB", dsn=dsn, cwd=tmp_path)
    assert (small.code, small.err.count("error: "), small.err.count("pid")) == (2, 1, 1)
    assert "--max-rss must be above what the app takes before its first job: " in small.err
    is_one_sentence(shell("run", "shop:app", "--processes", "2", "--max-rss", "5"), 2, "--max-rss", "500MB")
    is_one_sentence(shell("run", "shop:app", "--processes", "2", "--grace", "x"), 2, "--grace")
    is_one_sentence(shell("run", "shop:app", "--processes", "0"), 2, "--processes")
    assert conn.execute("select count(*) from jobrunner.runners").fetchone() == (0,)


def test_a_fleet_says_who_says_what(dsn: str, conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    command = [sys.executable, "-m", "jobrunner", "run", "shop:app", "--processes", "2", "--log-format", "json"]
    with subprocess.Popen(command, env=environment(dsn), cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        wait_until(
            lambda: conn.execute("select count(*) from jobrunner.runners").fetchone() == (2,), what="two runners"
        )
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)

    assert process.returncode == 0, err
    lines = err.splitlines()
    lines.remove("runs shop:app in 2 processes; Ctrl-C stops it")
    said = [json.loads(line) for line in lines]
    assert {line.get("child") for line in said} == {None, 1, 2}
    assert sum("has stopped" in line["message"] for line in said) == 2


def test_a_reader_that_goes_away_ends_the_command_without_a_word(dsn: str, conn: Connection) -> None:
    conn.execute("insert into jobrunner.jobs (task) select 'shop.send' from generate_series(1, 1500)")
    for form in ("--json", "--quiet"):
        command = [sys.executable, "-m", "jobrunner", "jobs", "list", "--limit", "1500", form]
        process = subprocess.Popen(command, env=environment(dsn), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        process.wait(20)
        process.stderr.close()


def test_ctrl_c_ends_with_130_and_sigterm_with_143(dsn: str, conn: Connection) -> None:
    job = enqueue(conn)
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        command = [sys.executable, "-m", "jobrunner", "jobs", "show", str(job), "--watch"]
        with subprocess.Popen(
            command, env=environment(dsn), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == f"job {job} ready\n"  # it watches
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (code, "", "")


def test_run_claims_and_a_signal_stops_it_gracefully(dsn: str, conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    begun = tmp_path / "begun"
    job = enqueue(conn, "shop.work", args=f'{{"path": "{begun}"}}')
    command = [sys.executable, "-m", "jobrunner", "run", "shop:app", "--grace", "100ms", "--log-format", "json"]
    with subprocess.Popen(command, env=environment(dsn), cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        wait_until(begun.exists, what="the job's start")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)

    assert process.returncode == 0, err
    assert states(conn) == {job: "ready"}  # handed back, no attempt spent
    assert conn.execute("select failures, crashes from jobrunner.jobs").fetchall() == [(0, 0)]
    assert "Traceback" not in err


def test_an_embedded_server_lasts_for_the_command_and_keeps_its_data(shell: Shell, tmp_path: Path) -> None:
    home = tmp_path / "pg"
    made = spawn("enqueue", "shop.send", "--embedded", home, "--json")
    listed = spawn("jobs", "list", "--embedded", home, "--json")
    both = shell("jobs", "list", "--embedded", home)

    assert [job["id"] for job in listed.json] == [made.json["id"]]
    assert listed.err.startswith(f"embedded PostgreSQL in {home}")
    is_one_sentence(both, 2, "name two servers")
    assert not (home / "data" / "postmaster.pid").exists()


def test_a_directory_that_no_server_can_use_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    is_one_sentence(spawn("status", "--embedded", tmp_path), 6, "is not empty")


def test_a_large_discard_that_is_stopped_says_how_far_it_came(dsn: str, conn: Connection) -> None:
    """Each batch is a transaction: what it said is what is done."""
    ids = [row[0] for row in conn.execute(
        "insert into jobrunner.jobs (task) select 'a.x' from generate_series(1, 1500) returning id"
    )]  # fmt: skip
    bury(conn, *ids)
    conn.execute(
        "create function stop() returns trigger language plpgsql as $$ begin "
        "if (select count(*) from jobrunner.audit) >= 2 then raise exception 'stop' using errcode = '57P01'; end if; "
        "return new; end $$"
    )
    conn.execute("create trigger stop before insert on jobrunner.audit for each row execute function stop()")

    stopped = spawn("dead", "discard", "--all", "--yes", dsn=dsn)

    assert stopped.code == 6
    assert stopped.err.splitlines()[0] == "stopped: discarded 1,000 of 1,500 dead jobs"
    assert conn.execute("select count(*) from jobrunner.jobs where state = 'dead'").fetchone() == (500,)
