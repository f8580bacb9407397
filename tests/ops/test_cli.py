"""The commands on a real database, in this process: what they show, what they change, and what they refuse."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict
from typer.main import get_command

from jobrunner.ops import logs
from jobrunner.ops.cli import fleet, main
from jobrunner.ops.cli.main import app
from jobrunner.ops.cli.session import expand_embedded
from jobrunner.store.migrate import SCHEMA_VERSION
from jobrunner.version import VERSION
from tests.conftest import Connect, Connection
from tests.ops.shell import Shell, bury, enqueue, register, spawn, states
from tests.pooler import Pooler

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shell(dsn: str, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(dsn, capsys)


# ------------------------------------------------------------------------------------------------- enqueue


def test_enqueue_prints_the_id_of_a_job_with_all_its_options(shell: Shell, conn: Connection) -> None:
    made = shell(
        "enqueue", "shop.send", "--args", '{"order_id": 42}', "--queue", "mail", "--priority", 5, "--delay", "5m", "--key", "k",
        "--unique-key", "u", "--subject", "order:42", "--max-attempts", 4, "--version", 2, "--json",
    )  # fmt: skip

    job = shell("jobs", "show", made.json["id"], "--json").json
    wanted = {
        "state": "scheduled", "args": {"order_id": 42}, "queue": "mail", "priority": 5, "key": "k", "unique_key": "u",
        "subject": "order:42", "max_attempts": 4, "version": 2,
    }  # fmt: skip
    assert made.code == 0
    assert job.items() >= wanted.items()
    assert shell("enqueue", "shop.send").out == f"{max(states(conn))}\n"


def test_enqueue_takes_a_time_with_a_zone_only(shell: Shell, conn: Connection) -> None:
    shell("enqueue", "shop.send", "--run-at", "2030-01-31T09:00:00+02:00")
    without = shell("enqueue", "shop.send", "--run-at", "2030-01-31T09:00:00")
    wrong = shell("enqueue", "shop.send", "--run-at", "tomorrow")

    assert conn.execute("select run_at = '2030-01-31 07:00:00Z' from jobrunner.jobs").fetchall() == [(True,)]
    assert (without.code, wrong.code) == (2, 2)
    assert "needs a time zone" in without.err
    day = shell("enqueue", "shop.send", "--run-at", "2030-01-01").err
    assert "write it like 2030-01-01T00:00:00Z or" in day
    assert shell("enqueue", "shop.send", "--run-at", "2030-01-01T00:00:00Z").code == 0


def test_a_task_that_no_runner_registered_needs_force_once_one_registered_any(shell: Shell, conn: Connection) -> None:
    register(conn, "shop.send_receipt")

    refused = shell("enqueue", "shop.send_receit")
    forced = shell("enqueue", "shop.send_receit", "--force")

    assert refused.code == 4
    wanted = "unknown task 'shop.send_receit'; did you mean shop.send_receipt? (--force takes it all the same)"
    assert refused.err == f"error: {wanted}\n"
    assert "--force takes it" in shell("enqueue", "other").err  # also without a name like it
    assert forced.code == 0
    assert len(states(conn)) == 1


# ------------------------------------------------------------------------------------------------- jobs


def test_jobs_list_filters_and_pages_through_live_jobs_and_history(shell: Shell, conn: Connection) -> None:
    ids = [enqueue(conn, queue="mail" if n % 2 else "bulk", key=f"k{n}", subject=f"order:{n}") for n in range(6)]
    shell("jobs", "cancel", ids[0], ids[1])

    def listed(*options: object) -> list[int]:
        return [int(job["id"]) for job in shell("jobs", "list", "--json", *options).json]

    assert listed() == ids[::-1]
    assert listed("--limit", 2) == [ids[5], ids[4]]
    assert listed("--limit", 3, "--after", ids[4]) == [ids[3], ids[2], ids[1]]
    assert listed("--state", "cancelled") == [ids[1], ids[0]]
    assert listed("--state", "blocked", "--queue", "mail") == [ids[5], ids[3]]
    assert listed("--key", "k0") == [ids[0]]
    assert listed("--subject", "order:4") == [ids[4]]
    assert listed("--task", "shop.other") == []
    conn.execute("update jobrunner.jobs set created_at = now() - interval '2 hours' where id = %s", [ids[5]])
    assert ids[5] not in listed("--since", "1h")


def test_a_full_page_says_how_to_go_on(shell: Shell, conn: Connection) -> None:
    first, _ = enqueue(conn), enqueue(conn)

    page = shell("jobs", "list", "--limit", 1)

    assert page.err == f"that is 1; for more: --after {first + 1}\n"
    assert "that is" not in shell("jobs", "list", "--limit", 1, "--quiet").err


def test_jobs_show_tells_arguments_attempts_progress_and_why(shell: Shell, conn: Connection) -> None:
    job = enqueue(conn, args='{"order_id": 7}', subject="order:7")
    bury(conn, job, error="ValueError: no such order")
    conn.execute(
        "insert into jobrunner.job_progress (job_id, total, processed, failed, message) values (%s, 200, 50, 3, 'reading')",
        [job],
    )
    conn.execute(
        "insert into jobrunner.attempts (job_id, attempt, outcome, error_type, message, traceback) "
        "values (%s, 1, 'failed', 'ValueError', 'no such order', 'Traceback: line 1')",
        [job],
    )

    shown = shell("jobs", "show", job)
    told = shell("jobs", "show", job, "--json").json

    for words in (
        '{"order_id": 7}',
        "25 %",
        "3 failed",
        "reading",
        "attempt 1",
        "ValueError: no such order",
        f"dead requeue {job}",
    ):
        assert words in shown.out
    assert "Traceback: line 1" not in shown.out
    assert "Traceback: line 1" in shell("jobs", "show", job, "--full").out
    assert told["attempts"][0]["traceback"] == "Traceback: line 1"
    progress = told["progress"]
    assert set(progress) == {"total", "processed", "failed", "percentage", "rate", "estimated_completion", "message"}
    assert (progress["total"], progress["processed"], progress["failed"], progress["percentage"]) == (200, 50, 3, 25.0)


def test_long_arguments_are_cut_unless_full(shell: Shell, conn: Connection) -> None:
    job = enqueue(conn, args=json.dumps({"text": "x" * 5000}))

    assert "all of them with --full" in shell("jobs", "show", job).out
    assert "x" * 5000 in re.sub(r"\s", "", shell("jobs", "show", job, "--full").out)


def test_watch_ends_when_the_job_is_over(shell: Shell, conn: Connection) -> None:
    job = enqueue(conn)
    bury(conn, job)

    assert shell("jobs", "show", job, "--watch", "--json").json["state"] == "dead"


def test_times_are_utc_ids_text_and_durations_seconds(shell: Shell, conn: Connection) -> None:
    enqueue(conn)

    job = shell("jobs", "list", "--json").json[0]
    queue = shell("queues", "list", "--json").json[0]

    assert isinstance(job["id"], str)
    assert job["created_at"].endswith("Z")
    assert datetime.fromisoformat(job["created_at"]).utcoffset() is not None
    assert isinstance(queue["oldest_ready_age_seconds"], float)


def test_retry_gives_a_dead_job_another_life_and_a_scheduled_one_no_wait(shell: Shell, conn: Connection) -> None:
    dead, later = enqueue(conn), enqueue(conn, delay="1h")
    bury(conn, dead)

    assert shell("jobs", "retry", dead, later, "--reason", "mail is up").code == 0

    assert set(states(conn).values()) == {"ready"}
    audit = conn.execute("select action, reason, actor like '%@%' from jobrunner.audit order by id").fetchall()
    assert audit == [("requeue", "mail is up", True), ("reschedule", "mail is up", True)]


def test_one_job_that_cannot_be_changed_stops_the_command_before_any(shell: Shell, conn: Connection) -> None:
    dead, ready = enqueue(conn), enqueue(conn)
    bury(conn, dead)

    refused = shell("jobs", "retry", dead, ready)
    unknown = shell("jobs", "cancel", ready, 999)

    assert (refused.code, unknown.code) == (5, 4)
    assert refused.err == f"error: cannot retry job {ready}: it is ready\n"
    assert unknown.err == "error: there is no job 999; it never was, or its history was dropped\n"
    assert shell("jobs", "cancel", dead).err.endswith(f"it is dead; give it up with: jobrunner dead discard {dead}\n")
    assert states(conn) == {dead: "dead", ready: "ready"}


def test_cancel_ends_what_waits_and_asks_what_runs(shell: Shell, conn: Connection) -> None:
    waits, runs = enqueue(conn), enqueue(conn)
    runner = register(conn, "shop.send", busy=1)
    conn.execute(
        "update jobrunner.jobs set state = 'running', attempt = 1, runner_id = %s, started_at = now() where id = %s",
        [runner, runs],
    )

    done = shell("jobs", "cancel", waits, runs, "--json").json

    assert done == [{"id": str(waits), "result": "cancelled"}, {"id": str(runs), "result": "requested"}]
    assert "asked for by" in shell("jobs", "show", runs).out


# ------------------------------------------------------------------------------------------------- dead


@pytest.fixture
def graves(conn: Connection) -> list[int]:
    """Four dead jobs, the first three days ago, and one that is not dead."""
    ids = [
        enqueue(conn, task, queue=queue)
        for task, queue in [("a.x", "mail"), ("a.x", "bulk"), ("a.y", "mail"), ("a.y", "mail")]
    ]
    bury(conn, ids[0], error="OSError: 50% of the disk is full", ago="3 days")
    bury(conn, *ids[1:], error="TimeoutError: slow", ago="1 minute")
    enqueue(conn)
    return ids


def test_dead_requeue_takes_exactly_what_the_filters_say(shell: Shell, conn: Connection, graves: list[int]) -> None:
    for options, wanted in (
        (["--queue", "mail"], {0, 2, 3}),
        (["--task", "a.x"], {0, 1}),
        (["--error", "DISK"], {0}),
        (["--error", "50%"], {0}),
        (["--older-than", "1d"], {0}),
        (["--newer-than", "1d"], {1, 2, 3}),
        (["--limit", "2", "--all"], {0, 1}),
        (["--all"], {0, 1, 2, 3}),
    ):
        dry = shell("dead", "requeue", *options, "--dry-run", "--json").json
        assert {int(one) for one in dry["ids"]} == {graves[n] for n in wanted}, options
    assert "would requeue 4 jobs" in shell("dead", "requeue", "--all", "--dry-run").out

    done = shell("dead", "requeue", "--newer-than", "1d", "--queue", "mail", "--yes", "--json").json

    assert {int(one) for one in done["ids"]} == {graves[2], graves[3]}
    assert [states(conn)[one] for one in graves] == ["dead", "dead", "ready", "ready"]


def test_dead_list_shows_the_latest_first(shell: Shell, graves: list[int]) -> None:
    listed = shell("dead", "list", "--json").json

    assert [int(job["id"]) for job in listed] == [graves[3], graves[2], graves[1], graves[0]]
    assert [job["error"] for job in shell("dead", "list", "--json", "--error", "slow", "--limit", 1).json] == [
        "TimeoutError: slow"
    ]
    assert "3d ago" in shell("dead", "list").out


def test_dead_groups_tells_faults_apart_by_task_and_error(shell: Shell, conn: Connection) -> None:
    first, second, other, mail = enqueue(conn), enqueue(conn), enqueue(conn, "shop.u"), enqueue(conn, queue="mail")
    bury(conn, first, error="smtp.Error: no route to 'mail-1', try 3", ago="2 hours")
    bury(conn, second, mail, error="smtp.Error: no route to 'mail-22', try 14")
    bury(conn, other, error="ValueError: no")

    everything = shell("dead", "groups", "--json").json
    of_queue = shell("dead", "groups", "--queue", "default", "--task", "shop.send", "--json").json
    shown = shell("dead", "groups").out

    assert [(one["n"], one["task"], one["error_type"], one["error"]) for one in everything] == [
        (3, "shop.send", "smtp.Error", "smtp.Error: no route to …, try N"),
        (1, "shop.u", "ValueError", "ValueError: no"),
    ]
    assert [(one["n"], one["sample_id"]) for one in of_queue] == [(2, str(second))]
    assert of_queue[0]["fingerprint"] == everything[0]["fingerprint"]
    assert of_queue[0]["first_at"] < of_queue[0]["last_at"]
    assert re.search(r"3 +shop.send +2h.* ago +.* ago +\d+ +[0-9a-f]{12} +Error: no route to …, try N", shown), shown
    assert shell("dead", "groups", "--limit", 1, "--json").json == everything[:1]
    assert shell("dead", "groups", "--task", "shop.none").out == "no dead jobs\n"


def test_a_bulk_change_needs_all_and_yes(shell: Shell, conn: Connection, graves: list[int]) -> None:
    without_all = shell("dead", "discard")
    without_yes = shell("dead", "discard", "--all")
    one = shell("dead", "discard", "--error", "disk")
    named = shell("dead", "discard", graves[1], graves[2])

    assert (without_all.code, without_yes.code) == (7, 7)
    assert without_all.err == "error: will not discard all dead jobs without --all; add it if you mean it\n"
    assert without_yes.err == "error: will not discard 4 jobs without --yes; add it if you mean it\n"
    assert (one.code, named.code) == (0, 0)
    assert [states(conn)[one] for one in graves] == ["cancelled", "cancelled", "cancelled", "dead"]


def test_ids_that_are_not_dead_are_told_before_anything_changes(
    shell: Shell, conn: Connection, graves: list[int]
) -> None:
    alive = max(states(conn))

    conflict = shell("dead", "requeue", graves[0], alive)
    unknown = shell("dead", "requeue", graves[0], 12345)

    assert conflict.err == f"error: cannot requeue job {alive}: it is ready, not dead\n"
    assert (conflict.code, unknown.code) == (5, 4)
    for options in (["--task", "a.x"], ["--limit", 1]):
        filtered = shell("dead", "requeue", graves[0], alive, *options)
        assert (filtered.code, filtered.err) == (5, conflict.err), options
    assert states(conn)[graves[0]] == "dead"
    assert shell("dead", "requeue", graves[0], graves[2], "--task", "a.x").out == "requeued 1 of 1 dead job\n"
    assert [states(conn)[graves[n]] for n in (0, 2)] == ["ready", "dead"]


def test_an_answer_of_no_changes_nothing_and_says_so(
    shell: Shell, conn: Connection, graves: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = io.StringIO("n\n")
    monkeypatch.setattr(sys, "stdin", answer)
    monkeypatch.setattr(answer, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)

    asked = shell("dead", "discard", "--all")

    assert asked.code == 7
    assert asked.err.endswith("nothing changed\n")
    assert "error" not in asked.err
    assert [states(conn)[one] for one in graves] == ["dead"] * 4


def test_an_error_in_a_list_has_no_module_and_all_of_its_message_where_there_is_room(
    shell: Shell, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(
        conn, enqueue(conn), error="shop.errors.CardDeclined: call 10.0.0.1, then give it another try: at the very end"
    )
    monkeypatch.setenv("COLUMNS", "120")

    shown = shell("dead", "list").out

    assert " CardDeclined: call 10.0.0.1, then give it another try: at the very end\n" in re.sub(r" +\n", "\n", shown)
    assert len(shown.splitlines()[0].rstrip()) <= 120
    monkeypatch.setenv("COLUMNS", "80")
    assert shell("dead", "list").out.rstrip().endswith("…")


def test_a_large_requeue_goes_in_batches_and_is_spread(shell: Shell, conn: Connection) -> None:
    conn.execute(
        "insert into jobrunner.jobs (task, state, attempt, failures, max_attempts, finished_at) "
        "select 'a.x', 'dead', 1, 1, 1, now() from generate_series(1, 1201)"
    )

    done = shell("dead", "requeue", "--task", "a.x", "--spread", "10m", "--yes")

    assert done.out == "requeued 1,201 of 1,201 dead jobs\n"
    assert conn.execute("select array_agg(jobs order by id) from jobrunner.audit").fetchall() == [([500, 500, 201],)]
    tenths = conn.execute(
        "select floor(extract(epoch from run_at - now()) / 60), count(*) from jobrunner.jobs where state = 'scheduled' group by 1"
    ).fetchall()
    assert len(tenths) in (10, 11)  # the minutes of the spread, seen a moment later
    assert max(many for _, many in tenths) < 2 * 1201 / 10


# ------------------------------------------------------------------------------------------------- queues, runners, status


def test_pause_and_resume_say_whether_they_changed_anything(shell: Shell, conn: Connection) -> None:
    enqueue(conn, queue="mail")

    assert shell("queues", "pause", "mail", "--reason", "the printer is on fire").out == "queue mail paused\n"
    assert shell("queues", "pause", "mail", "--json").json == {"queue": "mail", "paused": True, "changed": False}
    assert re.search("paused by .*: the printer is on fire", shell("queues", "list").out)
    assert "queue_paused" in [one["code"] for one in shell("status", "--json").json["attention"]]
    assert shell("queues", "resume", "mail").out == "queue mail resumed\n"
    assert "so far" in shell("queues", "pause", "typo").err


def test_runners_shows_the_live_ones_and_with_all_the_gone(shell: Shell, conn: Connection) -> None:
    runner = register(conn, "shop.send", queues=["mail"], busy=3)
    shown = shell("runners").out
    conn.execute("select jobrunner.stop_v1(%s)", [runner])

    assert all(words in shown for words in ("host-1", "4711", "alive", "3/10", "mail", "shop.send"))
    assert shell("runners", "--json").json == []
    assert [one["state"] for one in shell("runners", "--all", "--json").json] == ["stopped"]


def test_a_runner_that_hears_nothing_is_explained_and_one_that_hears_is_not(shell: Shell, conn: Connection) -> None:
    runner = register(conn, "shop.send")
    assert "hears" not in shell("runners").out + shell("status").out
    conn.execute("update jobrunner.runners set listening = false, poll = '1.5 s' where id = %s", [runner])

    why = "runner host-1:4711 hears no notifications (a pooler in transaction mode?) and looks every 1.5 s"
    todo = "set JOBRUNNER_LISTEN_DSN to a direct address"
    assert f"{why}; {todo}" in " ".join(shell("runners").out.split())
    assert f"notice {why} {todo}" in " ".join(shell("status").out.split())
    conn.execute("select jobrunner.stop_v1(%s)", [runner])
    assert "hears" not in shell("runners", "--all").out


def test_through_a_pooler_a_command_leaves_the_isolation_level_alone(
    shell: Shell, connect: Connect, pooler: Pooler, direct_dsn: str
) -> None:
    name = conninfo_to_dict(direct_dsn)["dbname"]
    connect().execute(f"alter database {name} set default_transaction_isolation = 'repeatable read'".encode())

    refused = replace(shell, dsn=pooler.dsn(str(name)))("queues", "list")
    assert refused.code == 2
    assert refused.err.startswith("error: default_transaction_isolation of this role is repeatable read, which cannot")
    assert replace(shell, dsn=direct_dsn)("queues", "list").code == 0


def test_status_counts_every_state_and_finds_what_needs_a_person(shell: Shell, conn: Connection) -> None:
    ready, dead, cancelled = enqueue(conn, queue="mail"), enqueue(conn), enqueue(conn)
    enqueue(conn, delay="1h")
    enqueue(conn, key="k")
    bury(conn, dead)
    shell("jobs", "cancel", cancelled)
    conn.execute("update jobrunner.jobs set run_at = now() - interval '10 minutes' where id = %s", [ready])

    before = shell("status", "--json").json
    register(conn, "shop.send")
    after = shell("status", "--json").json

    assert before["jobs"] == {"ready": 1, "scheduled": 1, "retrying": 0, "blocked": 1, "running": 0, "dead": 1}
    assert before["finished"]["cancelled"] == 1
    assert before["oldest_ready_age_seconds"] == pytest.approx(600, abs=30)
    assert [(one["name"], one["oldest_ready_age_seconds"] is None) for one in before["queues"]] == [
        ("default", True),
        ("mail", False),
    ]
    assert {one["code"] for one in before["attention"]} == {"no_runner", "jobs_died"}
    assert {one["code"] for one in after["attention"]} == {"queue_lagging", "jobs_died"}
    assert "jobrunner run APP" not in shell("status").out


def test_status_names_a_task_that_no_live_runner_knows_before_anyone_parks_it(shell: Shell, conn: Connection) -> None:
    enqueue(conn, "shop.forgotten", queue="mail")
    enqueue(conn, "shop.forgotten", queue="mail")
    enqueue(conn, queue="mail")
    enqueue(conn, "shop.paused", queue="still")
    shell("queues", "pause", "still")

    def found() -> dict[str, str]:
        return {one["code"]: one["message"] for one in shell("status", "--json").json["attention"]}

    assert "task_unknown" not in found()  # no runner at all is another finding
    register(conn, "shop.send")
    fresh = found()
    conn.execute("update jobrunner.jobs set run_at = now() - interval '10 minutes'")
    late = found()
    conn.execute("select jobrunner.park_v1('mail', 1000)")

    assert (
        fresh["task_unknown"]
        == "2 jobs wait in queue mail for task shop.forgotten (version 1), which no live runner knows"
    )
    assert "queue_lagging" not in fresh
    assert late["queue_lagging"].endswith("due for 10m; task shop.forgotten: no live runner knows it")
    assert found()["task_unknown"] == fresh["task_unknown"]
    assert "forgotten" not in found()["queue_lagging"]


def test_every_command_works_on_an_empty_database(shell: Shell) -> None:
    for args in ("status", "jobs list", "dead list", "queues list", "runners", "sql"):
        shown = shell(*args.split())
        assert (shown.code, shown.err) == (0, ""), args
        assert shown.out.strip(), args
        shell(*args.split(), "--json").json  # noqa: B018  (it parses)
    assert "all is well" in shell("status").out


def test_health_passes_with_a_live_runner_and_a_moving_queue(shell: Shell, conn: Connection) -> None:
    register(conn, "shop.send", queues=["mail"])
    enqueue(conn, queue="mail")

    healthy = shell("health", "--json")

    assert healthy.code == 0
    assert healthy.json["status"] == "pass"
    assert set(healthy.json["checks"]) == {"database", "schema", "runners", "queues"}


def test_health_fails_with_3_and_says_which(shell: Shell, conn: Connection) -> None:
    alone = shell("health")
    register(conn, "shop.send", queues=["mail"])
    enqueue(conn, queue="mail")
    conn.execute("update jobrunner.jobs set run_at = now() - interval '10 minutes'")
    stuck = shell("health", "--json")
    elsewhere = shell("health", "--queue", "bulk")
    patient = shell("health", "--max-age", "1h")
    shell("queues", "pause", "mail")

    assert (alone.code, stuck.code, elsewhere.code, patient.code) == (3, 3, 3, 0)
    assert "no live runners, 1 wanted" in alone.err
    assert stuck.json["checks"]["queues"]["status"] == "fail"
    assert "queue mail does not move" in stuck.err
    assert "no live runners for bulk" in elsewhere.err
    assert shell("health").code == 0  # a paused queue is meant to stand still


def test_a_requeued_job_does_not_look_as_if_it_had_waited_since_it_died(shell: Shell, conn: Connection) -> None:
    register(conn, "shop.send")
    job = enqueue(conn)
    conn.execute("update jobrunner.jobs set run_at = now() - interval '3 days'")
    bury(conn, job, ago="3 days")

    shell("dead", "requeue", job)

    assert shell("health").code == 0


# ------------------------------------------------------------------------------------------------- why, trace, sql


def test_why_is_one_sentence(shell: Shell, conn: Connection) -> None:
    job = enqueue(conn)

    assert shell("why", job).out == f"Job {job} is ready and no runner is alive: jobrunner run APP\n"
    assert shell("why", job, "--json").json["id"] == str(job)
    assert shell("why", job + 1).code == 4


def test_trace_draws_the_tree_from_a_subject_or_any_job_of_it(shell: Shell, conn: Connection) -> None:
    root = enqueue(conn, "shop.pay", subject="order:42")
    child = enqueue(conn, "shop.mail", cause_job_id=root)
    grandchild = enqueue(conn, "shop.log", cause_job_id=child)
    enqueue(conn, "shop.other")

    by_subject = shell("trace", "order:42").out
    rows = shell("trace", grandchild, "--json").json

    assert re.search(
        rf"{root} shop.pay ready.*\n└── {child} shop.mail ready.*\n    └── {grandchild} shop.log ready", by_subject
    )
    assert by_subject == shell("trace", f"job:{child}").out
    assert [(row["depth"], row["id"]) for row in rows] == [(0, str(root)), (1, str(child)), (2, str(grandchild))]
    assert "shop.other" not in by_subject
    assert (shell("trace", "order:43").code, shell("trace", 999).code) == (4, 4)


def test_each_runbook_runs_as_it_stands_and_is_printed(shell: Shell, conn: Connection, graves: list[int]) -> None:
    for path in sorted((ROOT / "sql" / "ops").glob("*.sql")):
        printed = shell("sql", path.stem).out

        assert printed == path.read_text().rstrip("\n") + "\n"
        assert re.match(r"-- [A-Z][^\n]*\?", printed), f"{path.stem} does not begin with its question"
        conn.execute(printed)
    assert {one["name"] for one in shell("sql", "--json").json} >= {"dead_jobs", "blockers", "schema", "functions"}


def test_sql_prints_schema_and_functions_that_install(capsys: pytest.CaptureFixture[str], bare_dsn: str) -> None:
    import psycopg

    shell = Shell("", capsys)
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        conn.execute(shell("sql", "schema").out)
        conn.execute(shell("sql", "functions").out)

        assert conn.execute("select jobrunner.enqueue('a.x')").fetchone() == (1,)
    assert shell("sql", "nothing").code == 4


# ------------------------------------------------------------------------------------------------- migrate


def test_migrate_says_from_and_to_and_changes_nothing_in_a_dry_run(
    capsys: pytest.CaptureFixture[str], bare_dsn: str
) -> None:
    shell = Shell(bare_dsn, capsys)

    assert shell("migrate", "--dry-run", "--json").json == {"dry_run": True, "before": None, "after": SCHEMA_VERSION}
    assert shell("status").code == 1
    assert shell("migrate").out == f"installed schema jobrunner version {SCHEMA_VERSION}\n"
    assert shell("migrate", "--json").json == {"dry_run": False, "before": SCHEMA_VERSION, "after": SCHEMA_VERSION}


# ------------------------------------------------------------------------------------------------- the whole


def test_common_options_stand_before_or_after_the_command(dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "--dsn", dsn, "jobs", "list"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_database_comes_from_dsn_then_jobrunner_dsn_then_database_url(
    dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = "host=/nowhere"
    for flag, jobrunner_dsn, database_url in ((dsn, wrong, wrong), ("", dsn, wrong), ("", "", dsn)):
        monkeypatch.setenv("JOBRUNNER_DSN", jobrunner_dsn)
        monkeypatch.setenv("DATABASE_URL", database_url)
        assert main(["jobs", "list", "--dsn", flag]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("status --embedded", "status --embedded=.jobrunner/pg"),
        ("run --embedded shop:app", "run --embedded=.jobrunner/pg shop:app"),
        ("run --embedded ./pg shop:app", "run --embedded=./pg shop:app"),
        ("run --embedded=pg shop:app", "run --embedded=pg shop:app"),
        ("demo reviews -- --embedded", "demo reviews -- --embedded"),
    ],
)
def test_embedded_takes_a_word_for_its_directory_only_with_a_slash(given: str, read: str) -> None:
    assert expand_embedded(given.split()) == read.split()


def test_version_and_bare_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"jobrunner {VERSION}\n"
    assert main([]) == 2


def test_demo_hands_the_rest_of_the_line_to_a_demo(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--help"]) == 0
    assert "Demos: reviews" in capsys.readouterr().out
    assert main(["demo", "reviews", "--help"]) == 0
    assert "jobrunner demo reviews" in capsys.readouterr().out
    assert main(["demo", "nothing"]) == 4


def commands() -> list[tuple[str, Any]]:
    """Every command by its full name."""
    found: list[tuple[str, Any]] = []

    def walk(name: str, command: Any) -> None:
        for each, inner in getattr(command, "commands", {}).items():
            walk(f"{name} {each}", inner)
        if not hasattr(command, "commands"):
            found.append((name, command))

    walk("jobrunner", get_command(app))
    return found


def test_every_command_and_option_is_in_the_manual() -> None:
    manual = (ROOT / "docs" / "cli.md").read_text()
    common = {"--dsn", "--embedded", "--json", "--quiet", "--debug", "--help"}

    for name, command in commands():
        found = re.search(rf"^### `{name}[ `].*?(?=^#|\Z)", manual, re.MULTILINE | re.DOTALL)
        assert found, f"{name} has no section"
        section = found.group()
        for param in command.params:
            for option in param.opts:
                if option.startswith("--") and option not in common:
                    assert f"`{option}" in section, f"{option} of {name}"
    for option in common:
        assert f"`{option}" in manual


def test_a_child_gets_every_option_that_its_parent_got() -> None:
    """Each is written as its parameter is named, so what comes later is handed on too."""
    [run] = [command for name, command in commands() if name == "jobrunner run"]

    for param in run.params:
        assert [f"--{param.name.replace('_', '-')}"] == param.opts or param.name == "where"
    given = {"queue": ["a", "b c"], "slots": 7, "max_jobs": None, "low": 0, "quiet": True, "debug": False}
    assert fleet.options(given) == ["--queue=a", "--queue=b c", "--slots=7", "--low=0", "--quiet"]


def test_every_sql_file_for_people_is_on_the_map() -> None:
    text = (ROOT / "sql" / "README.md").read_text()

    for path in [*(ROOT / "sql" / "functions").glob("*.sql"), *(ROOT / "sql" / "ops").glob("*.sql")]:
        assert f"`{path.stem}`" in text, path.stem


def test_help_shows_no_type_for_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    for args in (["--help"], ["dead", "requeue", "-h"], ["queues", "--help"]):
        assert main(args) == 0
        assert "<bool>" not in capsys.readouterr().out
    assert main(["--help"]) == 0
    assert "143 SIGTERM" in " ".join(capsys.readouterr().out.split())


def test_every_command_says_what_it_does() -> None:
    for name, command in commands():
        assert command.help, name


def test_a_record_becomes_one_line_of_text_or_json() -> None:
    record = logging.makeLogRecord(
        {
            "name": "jobrunner",
            "levelno": logging.INFO,
            "levelname": "INFO",
            "msg": "took %s",
            "args": ("it",),
            "job_id": 7,
        }
    )

    assert logs.TextLines().format(record).endswith("INFO    jobrunner  took it  job_id=7")
    line = json.loads(logs.JsonLines().format(record))
    assert (line["level"], line["message"], line["job_id"]) == ("info", "took it", 7)
    assert line["at"].endswith("Z")


def test_options_before_the_word_demo_reach_the_demo(dsn: str, conn: Connection) -> None:
    made = spawn("--dsn", dsn, "--json", "demo", "reviews", "--rows", "200")

    assert made.code == 0, made.err
    assert made.json["submitted"] == 200
    assert conn.execute("select count(*) from reviews.imports").fetchone() == (1,)
