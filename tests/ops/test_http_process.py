"""`jobrunner web` and `jobrunner run --http` as a person and an orchestrator meet them: where they listen, and how they end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobrunner.errors import ConfigError, Refused
from jobrunner.ops.http import serve
from tests.conftest import Connection
from tests.ops.shell import Result, Shell, enqueue, environment, spawn
from tests.support import wait_until

APP = """
import time
from jobrunner import App, Context

app = App("shop")

@app.task()
async def block(ctx: Context) -> None:
    time.sleep(4)

@app.task()
async def work(ctx: Context) -> None: ...
"""
TOKEN = "correct-horse-battery"


def get(port: int, path: str, timeout: float = 10, **headers: str) -> tuple[int, str]:
    """Status and body; 0 when nothing answers in time."""
    asked = urllib.request.Request(f"http://localhost:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


@contextmanager
def process(*args: str, dsn: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "jobrunner", *args]
    with subprocess.Popen(command, env=environment(dsn), cwd=cwd, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_a_runner_serves_its_probes_and_a_blocked_loop_answers_nothing(
    dsn: str, conn: Connection, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    port = free_port()
    args = ("run", "shop:app", "--http", f"127.0.0.1:{port}", "--http-token", TOKEN)
    with process(*args, dsn=dsn, cwd=tmp_path) as running:
        wait_until(lambda: get(port, "/readyz")[0] == 200, what="a runner that is ready")
        assert [get(port, path)[0] for path in ("/livez", "/startupz", "/metrics", "/api/v1/jobs")] == [
            200,
            200,
            401,
            401,
        ]
        assert json.loads(get(port, "/livez?verbose")[1])["checks"]["claim"]["status"] == "pass"
        enqueue(conn, "shop.work")
        wait_until(
            lambda: (
                'outcome="succeeded",queue="default",task="shop.work"} 1.0'
                in get(port, "/metrics", Authorization=f"Bearer {TOKEN}")[1]
            ),
            what="a job in the metrics",
        )

        enqueue(conn, "shop.block")
        wait_until(lambda: get(port, "/livez", timeout=0.4)[0] == 0, what="a probe that times out")
        wait_until(lambda: get(port, "/livez")[0] == 200, what="the loop again")

        taken = spawn("run", "shop:app", "--http", f"127.0.0.1:{port}", dsn=dsn, cwd=tmp_path)
        one_sentence(taken, 1, f"cannot listen on 127.0.0.1:{port}", "already in use", "another port")
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0


def test_web_needs_no_database_to_start_and_ends_with_0(tmp_path: Path) -> None:
    with process("web", "--bind", "localhost:0", dsn="host=127.0.0.1 port=1", cwd=tmp_path) as running:
        assert running.stderr is not None
        said = running.stderr.readline()
        port = int(said.partition(";")[0].rstrip("/").rpartition(":")[2])
        assert said in [f"http://{host}:{port}/; Ctrl-C stops it\n" for host in ("127.0.0.1", "[::1]")]
        assert (get(port, "/livez")[0], get(port, "/readyz")[0]) == (200, 503)
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
        assert running.stderr.read() == ""


def one_sentence(result: Result, code: int, *words: str) -> None:
    assert result.code == code, result
    assert result.err.startswith("error: ") and result.err.count("\n") == 1, result.err
    assert [word for word in words if word not in result.err] == [], result.err


def test_it_refuses_to_answer_everyone(capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell("", capsys)
    one_sentence(shell("web", "--bind", "0.0.0.0:0"), 7, "answer everyone who reaches 0.0.0.0:0", "--token")
    one_sentence(shell("web", "--token", "short"), 2, "at least 16")
    one_sentence(shell("web", "--bind", "8080"), 2, "--bind must be HOST:PORT")
    several = spawn("run", "x:app", "--http", "127.0.0.1:0", "--processes", 2)
    one_sentence(several, 2, "--http serves one process")
    refused = spawn("run", "x:app", "--http", "0.0.0.0:0")
    one_sentence(refused, 7, "--http-token (or JOBRUNNER_HTTP_TOKEN) or --insecure")


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080, True),
        ("localhost:0", "localhost", 0, True),
        ("[::1]:80", "::1", 80, True),
        ("127.8.9.10:80", "127.8.9.10", 80, True),
        ("0.0.0.0:80", "0.0.0.0", 80, False),
        ("[::]:80", "::", 80, False),
        ("10.0.0.7:80", "10.0.0.7", 80, False),
        ("localhost.example:80", "localhost.example", 80, False),
    ],
)
def test_where_to_listen(text: str, host: str, port: int, loopback: bool) -> None:
    found = serve.address(text, what="--bind")

    assert (found.host, found.port, found.is_loopback, str(found)) == (host, port, loopback, text)
    if not loopback:
        with pytest.raises(Refused) as refused:
            serve.allow(found, token=None, insecure=False, flag="--token")
        assert refused.value.exit_code == 7
    serve.allow(found, token=None, insecure=not loopback, flag="--token")
    serve.allow(found, token=None if loopback else TOKEN, insecure=False, flag="--token")


@pytest.mark.parametrize(
    "text", ["", "8080", ":8080", "localhost", "localhost:", "localhost:x", "h:70000", "::1:80", "h:-1", "h:²"]
)
def test_what_is_no_place_to_listen(text: str) -> None:
    with pytest.raises(ConfigError, match="--bind must be HOST:PORT"):
        serve.address(text, what="--bind")
