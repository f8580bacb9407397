"""Tasks that run in processes of their own, real ones: what comes back, what a death costs, and who else notices."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jobrunner import Job, Runner
from jobrunner.errors import HandlerError
from tests.conftest import Connection
from tests.support import eventually, wait_until
from tests.worker import zoo
from tests.worker.rig import one, state, within

FAST: dict[str, Any] = {"lease": "3s", "poll": "100ms", "grace": "2s", "slots": 4, "children": 2}

OVER = ("succeeded", "dead", "cancelled", "scheduled")


@pytest.fixture
async def runner(dsn: str) -> AsyncIterator[Runner]:
    async with Runner(zoo.app, dsn, **FAST) as made:
        yield made


def ended(conn: Connection, *ids: int) -> Any:
    """Waits until each of these jobs is over, or waits for another try."""
    return eventually(lambda: all(state(conn, each) in OVER for each in ids), 20, "the end")


def met(meet: Path, name: str) -> Any:
    """Waits for the file that a handler makes, and gives what it says."""
    return eventually((meet / name).exists, 20, name)


def error_of(conn: Connection, job_id: int) -> tuple[str, str, str]:
    """How the first attempt of the job went wrong: outcome, type, message."""
    found: tuple[str, str, str] = one(
        conn, "select outcome, error_type, message from jobrunner.attempts where job_id = %s and attempt = 1", job_id
    )
    return found


# ------------------------------------------------------------------------------------------------ what comes back


async def test_what_a_handler_answers_comes_back_as_from_a_thread(runner: Runner, conn: Connection) -> None:
    hows = ["value", "job", "object", "retry", "snooze", "cancel", "reject", "rule"]
    ids = [zoo.app.enqueue(conn, zoo.answers.job(how=how), max_attempts=2, headers={"a": "ü"}) for how in hows]
    await ended(conn, *ids)

    rows = conn.execute("select state, reason, failures, result from jobrunner.v_job order by id").fetchall()
    assert rows == [
        ("succeeded", None, 0, {"how": "value", "deep": [None, 1.5, "ü\n\"'\\"], "main": True}),
        ("succeeded", None, 0, [ids[1], 1, {"a": "ü"}, None]),
        ("succeeded", None, 0, None),
        ("scheduled", "busy", 1, None),
        ("scheduled", None, 0, None),
        ("cancelled", "gone", 0, None),
        ("dead", "never", 0, None),
        ("scheduled", "lost", 0, None),  # by the rule of its backoff, which the child has asked
    ]
    assert error_of(conn, ids[-1]) == ("snoozed", "KeyError", "'nothing'")


RAISED = {
    "ValueError": ("ValueError", "boom"),
    "SystemExit": ("SystemExit", "3"),
    "KeyboardInterrupt": ("KeyboardInterrupt", ""),
    "RecursionError": ("RecursionError", "maximum recursion depth exceeded"),
    "MemoryError": ("MemoryError", ""),
    "Mute": ("tests.worker.zoo.Mute", "(the exception cannot be printed: its __str__ raised)"),
    "long": ("ValueError", "xxxx"),
    "Unpicklable": ("tests.worker.zoo.Unpicklable", "one"),
    "surrogate": ("ValueError", "half a pair \ufffd"),
    "Unreadable": ("LookupError", "gone by now"),
}
"""What fails its job and leaves its process well."""

DIED = {
    "_exit": "the process of this job ended itself, with exit code 7",
    "SIGSEGV": "the process of this job was killed by SIGSEGV",
    "SIGKILL": "the process of this job was killed by SIGKILL; nobody here did that: often it is the kernel",
}
"""What takes its process with it."""


async def test_what_a_handler_raises_comes_back_as_text_and_its_process_serves_the_next(
    dsn: str, conn: Connection
) -> None:
    pids = [zoo.app.enqueue(conn, zoo.pid.job())]
    ids = {how: zoo.app.enqueue(conn, zoo.dies.job(how=how)) for how in RAISED}
    async with Runner(zoo.app, dsn, **{**FAST, "children": 1}) as runner:
        errors = runner.errors()
        await ended(conn, *ids.values())
        pids.append(zoo.app.enqueue(conn, zoo.pid.job()))
        await ended(conn, *pids)

    for how, (kind, message) in RAISED.items():
        outcome, type_, said = error_of(conn, ids[how])
        assert (outcome, type_, said[: len(message)]) == ("failed", kind, message)
        assert len(said) < 10_000
    assert "in die" in one(conn, "select traceback from jobrunner.attempts where job_id = %s", ids["ValueError"])
    assert len({one(conn, "select result from jobrunner.v_job where id = %s", each) for each in pids}) == 1
    seen = [each async for each in errors]
    assert {type(each.exception) for each in seen} == {HandlerError}
    assert str(seen[0].exception) == "ValueError: boom"


async def test_a_process_that_dies_fails_its_job_by_name_and_no_other(runner: Runner, conn: Connection) -> None:
    bad = {how: zoo.app.enqueue(conn, zoo.dies.job(how=how)) for how in DIED}
    good = [zoo.app.enqueue(conn, zoo.pid.job()) for _ in range(6)]
    await ended(conn, *bad.values(), *good)

    assert [state(conn, each) for each in good] == ["succeeded"] * 6
    for how, message in DIED.items():
        outcome, type_, said = error_of(conn, bad[how])
        assert (outcome, type_, said[: len(message)]) == ("failed", "ProcessDied", message)
    assert one(conn, "select max(crashes), max(failures) from jobrunner.jobs") == (0, 1)
    assert runner.failure is None


async def test_a_process_that_forked_is_dead_when_it_is_dead_and_leaves_nothing_behind(
    runner: Runner, conn: Connection, tmp_path: Path
) -> None:
    """What it had started would work on beside the next attempt."""
    job_id = zoo.app.enqueue(conn, zoo.forks.job(meet=str(tmp_path)))
    await within(10, ended(conn, job_id))

    assert error_of(conn, job_id)[2].endswith("exit code 4")
    left = int((tmp_path / "left").read_text())
    await eventually(lambda: not zoo.is_alive(left), 5, "the end of what it left")


async def test_a_payload_that_does_not_fit_and_an_order_that_nobody_may_give(runner: Runner, conn: Connection) -> None:
    invalid = zoo.app.enqueue(conn, Job("zoo.dies", {"how": ["x"]}))
    lent = zoo.app.enqueue(conn, zoo.answers.job(how="transaction"))
    await ended(conn, invalid, lent)

    assert error_of(conn, invalid)[0] == "invalid_payload"
    assert "open a connection of its own" in error_of(conn, lent)[2]


LIES: dict[str, dict[str, Any]] = {
    "a pickle": {"what": "\x80\x04N."},
    "an order": {"what": '{"kind": "stop", "run": RUN}'},
    "of another run": {"what": '{"kind": "ended", "run": 0, "how": "succeeded"}'},
    "a field too many": {"what": '{"kind": "moved", "run": RUN, "processed": 1, "failed": 0, "x": 1}'},
    "not a count": {"what": '{"kind": "moved", "run": RUN, "processed": 1e300, "failed": 0}'},
    "not a number": {"what": '{"kind": "ended", "run": RUN, "how": "succeeded", "result": "{\\"result\\": NaN}"}'},
    "a failure without an error": {"what": '{"kind": "ended", "run": RUN, "how": "failed"}'},
    "too much": {"what": "", "length": 2**31},
}


async def test_what_no_child_says_is_refused_and_costs_its_process_only(runner: Runner, conn: Connection) -> None:
    """Nothing is unpickled, nothing is believed: a child that was taken over can fail its own job."""
    ids = {name: zoo.app.enqueue(conn, zoo.lies.job(**lie)) for name, lie in LIES.items()}
    good = zoo.app.enqueue(conn, zoo.pid.job())
    await ended(conn, *ids.values(), good)

    for name, job_id in ids.items():
        outcome, type_, said = error_of(conn, job_id)
        assert (outcome, type_) == ("failed", "ProcessDied"), name
        assert said.startswith("the process of this job was given up: it "), name
    assert state(conn, good) == "succeeded"


async def test_progress_and_logs_of_a_process_are_those_of_its_runner(
    dsn: str, conn: Connection, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s<%(message)s|%(job_id)s>", defaults={"job_id": "-"}))
    logging.getLogger().addHandler(handler)
    try:
        job_id = zoo.app.enqueue(conn, zoo.tells.job(meet=str(tmp_path)))
        async with Runner(zoo.app, dsn, **FAST) as runner:

            def said() -> Any:
                rows = conn.execute("select processed, total, message from jobrunner.job_progress").fetchall()
                return rows and rows[0]

            await eventually(lambda: said() == (2, 3, "first"), what="the progress while it runs")
            zoo.say(str(tmp_path), "seen")
            await runner.wait_idle(10)
            assert said() == (3, 3, "last")
    finally:
        logging.getLogger().removeHandler(handler)

    assert f"WARNING<a word|{job_id}>" in capfd.readouterr().err


# ------------------------------------------------------------------------------------------------ how runs are ended


async def test_a_timeout_kills_what_only_computes_with_all_that_it_started_and_the_loop_is_free_meanwhile(
    runner: Runner, conn: Connection, tmp_path: Path
) -> None:
    began = time.monotonic()
    job_id = zoo.app.enqueue(conn, zoo.hangs.job(meet=str(tmp_path)))
    await met(tmp_path, "hangs")
    quick = zoo.app.enqueue(conn, zoo.good.job(n=1))
    await within(2, ended(conn, quick))
    await ended(conn, job_id)

    assert error_of(conn, job_id) == ("timeout", "TimeoutError", "the handler was still running after 200ms")
    assert time.monotonic() - began < 10
    await eventually(lambda: not zoo.is_alive(int((tmp_path / "hangs").read_text())), 5, "its end")
    after = zoo.app.enqueue(conn, zoo.pid.job())
    await ended(conn, after)


async def test_a_person_can_cancel_what_only_computes_and_all_that_it_has_started(
    runner: Runner, conn: Connection, tmp_path: Path
) -> None:
    job_id = zoo.app.enqueue(conn, zoo.starts_one.job(meet=str(tmp_path)))
    await met(tmp_path, "started")
    conn.execute("select jobrunner.op_cancel(array[%s]::bigint[])", [job_id])
    await ended(conn, job_id)

    assert state(conn, job_id) == "cancelled"
    for name in ("started", "grandchild"):
        await eventually(lambda: not zoo.is_alive(int((tmp_path / name).read_text())), 5, name)  # noqa: B023


async def test_who_is_cancelled_is_told_first_and_its_process_serves_the_next(
    runner: Runner, conn: Connection, tmp_path: Path
) -> None:
    job_id = zoo.app.enqueue(conn, zoo.works.job(meet=str(tmp_path)))
    await met(tmp_path, "working")
    conn.execute("select jobrunner.op_cancel(array[%s]::bigint[])", [job_id])
    await met(tmp_path, "told")
    await ended(conn, job_id)

    assert state(conn, job_id) == "cancelled"
    assert zoo.is_alive(int((tmp_path / "working").read_text()))


@pytest.mark.parametrize("patient", [False, True], ids=["listens", "does not"])
async def test_a_stop_lets_it_run_for_the_grace_then_tells_it_then_kills_it_and_hands_it_back(
    dsn: str, conn: Connection, tmp_path: Path, patient: bool
) -> None:
    job_id = zoo.app.enqueue(conn, zoo.works.job(meet=str(tmp_path), patient=patient))
    async with Runner(zoo.app, dsn, **{**FAST, "grace": "200ms"}):
        await met(tmp_path, "working")

    assert state(conn, job_id) == "ready"
    assert one(conn, "select outcome, reason from jobrunner.attempts") == ("handed_back", "shutdown")
    assert (tmp_path / "told").exists() != patient
    assert not zoo.is_alive(int((tmp_path / "working").read_text()))


async def test_a_job_that_ends_within_the_grace_has_ended(dsn: str, conn: Connection, tmp_path: Path) -> None:
    job_id = zoo.app.enqueue(conn, zoo.works.job(meet=str(tmp_path)))
    async with Runner(zoo.app, dsn, **FAST) as runner:
        await met(tmp_path, "working")
        stopping = asyncio.create_task(runner.stop())
        await eventually(lambda: not runner._gate.is_open, what="the stop")
        zoo.say(str(tmp_path), "go")
        await stopping

    assert state(conn, job_id) == "succeeded"


async def test_two_processes_compute_at_a_time_and_no_more_are_claimed(
    runner: Runner, conn: Connection, tmp_path: Path
) -> None:
    """Each waits for the other; a third would hold a slot, and keep the job from a runner that has a process for it."""
    pair = [
        zoo.app.enqueue(conn, zoo.works.job(meet=str(tmp_path), tell=mine, until=other))
        for mine, other in (("a", "b"), ("b", "a"))
    ]
    await ended(conn, *pair)
    assert [state(conn, each) for each in pair] == ["succeeded"] * 2

    for n in range(4):
        zoo.app.enqueue(conn, zoo.works.job(meet=str(tmp_path), tell=f"t{n}"))
    await met(tmp_path, "t0")
    await met(tmp_path, "t1")
    quick = zoo.app.enqueue(conn, zoo.good.job(n=1))
    await ended(conn, quick)
    assert one(conn, "select count(*) filter (where state = 'ready'), max(attempt) from jobrunner.jobs") == (2, 1)
    zoo.say(str(tmp_path), "go")
    await runner.wait_idle(20)
    assert one(conn, "select count(*) from jobrunner.finished_jobs") == 7


async def test_signals_for_the_whole_group_are_the_runners_business(runner: Runner, conn: Connection) -> None:
    """Ctrl-C and a service manager's SIGTERM reach children too, whose jobs have the runner's grace."""
    job_id = zoo.app.enqueue(conn, zoo.dies.job(how="SIGTERM"))
    await ended(conn, job_id)

    assert state(conn, job_id) == "succeeded"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child that holds the interpreter's lock")
def test_children_end_with_a_runner_that_is_killed_whatever_they_compute(
    dsn: str, conn: Connection, tmp_path: Path
) -> None:
    for name, in_c in (("a", False), ("b", True)):
        zoo.app.enqueue(conn, zoo.computes.job(meet=str(tmp_path), name=name, in_c=in_c))
    run = f"asyncio.run(Runner(app, {dsn!r}, children=2).run())"
    program = f"import asyncio; from jobrunner import Runner; from tests.worker.zoo import app; {run}"
    with subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2]) as process:
        try:
            for name in "ab":
                wait_until((tmp_path / name).exists, 20, name)
            pids = [int((tmp_path / name).read_text()) for name in "ab"]
            assert all(map(zoo.is_alive, pids))
        finally:
            process.kill()
    wait_until(lambda: not any(map(zoo.is_alive, pids)), 5, "the end of the children")
