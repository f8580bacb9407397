"""A person who knows only curl finds a stuck job, learns why, sees that it was mended, and by whom: real curl, a real server."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Connection
from tests.ops.shell import bury, enqueue, environment, register
from tests.support import wait_until

TOKEN = "correct-horse-battery"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")


@contextmanager
def web(dsn: str, *args: str) -> Iterator[str]:
    """`jobrunner web`, and where it is."""
    command = [sys.executable, "-m", "jobrunner", "web", "--bind", "127.0.0.1:0", *args]
    with subprocess.Popen(command, env=environment(dsn), stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr is not None
            found = re.match(r"(http://127\.0\.0\.1:\d+)/", running.stderr.readline())
            assert found is not None
            yield found[1]
            running.send_signal(signal.SIGTERM)
            assert running.wait(20) == 0
        finally:
            running.kill()


def curl(url: str, *options: str) -> str:
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "20", "-u", f"me:{TOKEN}", *options, url],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def curl_json(url: str) -> Any:
    return json.loads(curl(url))


def test_the_examples_of_the_page_do_what_it_says(dsn: str, conn: Connection) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "http.md").read_text()
    block = re.search(r"^## With curl$.*?^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert block is not None
    examples = [
        (command, wanted.splitlines())
        for command, wanted in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block[1], re.MULTILINE)
    ]
    assert len(examples) > 8
    bury(conn, enqueue(conn, "shop.send_receipt", queue="mail", subject="order:42"), error="ValueError: order 42")

    with web(dsn) as at:
        for command, wanted in examples:
            words = shlex.split(command.replace("localhost:8080", at.removeprefix("http://")))
            said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout
            assert wanted and [line for line in wanted if line not in said] == [], f"{command}\n{said}"


def test_a_person_with_curl_finds_a_stuck_job_learns_why_and_sees_who_mended_it(dsn: str, conn: Connection) -> None:
    register(conn, "shop.send_receipt")
    for _ in range(3):
        enqueue(conn, "shop.send_receipt")
    dead = enqueue(conn, "shop.send_receipt", queue="mail", subject="order:42", key="order:42")
    bury(conn, *[enqueue(conn, "shop.send_receipt", queue="mail") for _ in range(4)], error="TimeoutError: smtp 7")
    stuck = enqueue(conn, "shop.print_label", queue="labels", subject="order:42")

    with web(dsn, "--token", TOKEN) as at:
        # Whoever has no token sees nothing.
        without = subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{content_type}", f"{at}/api/v1/overview"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert without.stdout == "401 application/problem+json"

        # What is wrong? The overview says it in words.
        attention = {one["code"]: one for one in curl_json(f"{at}/api/v1/overview")["attention"]}
        assert attention["task_unknown"]["message"] == (
            "1 job waits in queue labels for task shop.print_label (version 1), which no live runner knows"
        )
        assert "4 jobs died" in attention["jobs_died"]["message"]

        # Which job is it, and why does it not run?
        (found,) = curl_json(f"{at}/api/v1/jobs?queue=labels&state=ready")["items"]
        assert found["id"] == str(stuck)
        assert (
            "no live runner of queue labels knows task shop.print_label"
            in curl_json(f"{at}/api/v1/jobs/{stuck}")["why"]
        )
        nodes = curl_json(f"{at}/api/v1/trace?ref=order:42")["items"]
        assert {node["id"] for node in nodes} == {str(stuck), str(dead)}

        # What died, of what? One group, and one of its jobs with the command that gives it another life.
        (group,) = curl_json(f"{at}/api/v1/dead/groups")["items"]
        assert (group["n"], group["error"]) == (4, "TimeoutError: smtp N")
        assert (
            f"jobrunner dead requeue {group['sample_id']}" in curl_json(f"{at}/api/v1/jobs/{group['sample_id']}")["why"]
        )
        assert curl(f"{at}/api/v1/audit").count('"action"') == 0

        # A colleague mends both with psql.
        conn.execute(
            "select jobrunner.op_requeue(array[%s]::bigint[], '0', 'anna@ops', 'smtp is back')",
            [int(group["sample_id"])],
        )
        conn.execute("select jobrunner.op_cancel(array[%s]::bigint[], 'anna@ops', 'the printer is gone')", [stuck])

        # It was done, when, by whom, and why.
        (requeued,) = curl_json(f"{at}/api/v1/audit?job={group['sample_id']}")["items"]
        assert (requeued["actor"], requeued["action"], requeued["reason"]) == ("anna@ops", "requeue", "smtp is back")
        (cancelled,) = curl_json(f"{at}/api/v1/audit?job={stuck}")["items"]
        assert (cancelled["actor"], cancelled["action"]) == ("anna@ops", "cancel")
        assert curl_json(f"{at}/api/v1/jobs/{group['sample_id']}")["state"] == "ready"
        assert curl_json(f"{at}/api/v1/jobs/{stuck}")["state"] == "cancelled"
        wait_until(
            lambda: "task_unknown" not in {one["code"] for one in curl_json(f"{at}/api/v1/overview")["attention"]},
            what="an overview without it",
        )

        # A mistake is told what is wrong, and nothing can be changed from here.
        assert "there is no parameter 'que'" in curl(f"{at}/api/v1/jobs?que=labels")
        assert json.loads(curl(f"{at}/api/v1/jobs/{stuck}", "-X", "DELETE"))["status"] == 405
