"""The command line as a test sees it: in this process (`Shell`, fast) or as a process of its own (`spawn`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from jobrunner.ops.cli import main
from tests.conftest import Connection


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs commands in this process, against one database."""

    dsn: str
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *args: object) -> Result:
        self.capsys.readouterr()
        code = main([*(str(arg) for arg in args), "--dsn", self.dsn])
        said = self.capsys.readouterr()
        return Result(code, said.out, said.err)


def environment(dsn: str = "") -> dict[str, str]:
    """Ours without anything that names a database or a terminal, but *dsn*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "JOBRUNNER_", "DATABASE_"))}
    return {**kept, "JOBRUNNER_DSN": dsn, "COLUMNS": "100", "NO_COLOR": "1"}


def spawn(*args: object, dsn: str = "", cwd: object = None) -> Result:
    """The real command, to its end; nothing on stdin."""
    done = subprocess.run(
        [sys.executable, "-m", "jobrunner", *(str(arg) for arg in args)],
        env=environment(dsn),
        cwd=None if cwd is None else str(cwd),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def enqueue(conn: Connection, task: str = "shop.send", **options: Any) -> int:
    """A job through the SQL function; *options* by its parameter names."""
    named = "".join(f", {name} => %({name})s" for name in options)
    row = conn.execute(f"select jobrunner.enqueue(%(task)s{named})", {"task": task, **options}).fetchone()
    assert row is not None
    return int(row[0])


def bury(conn: Connection, *ids: int, error: str = "ValueError: no", ago: str = "0") -> None:
    """Makes ready jobs dead, as after their last attempt."""
    conn.execute(
        "update jobrunner.jobs set state = 'dead', attempt = 3, failures = 3, max_attempts = 3, reason = 'failed', error = %s, "
        "started_at = now() - %s::interval, finished_at = now() - %s::interval where id = any (%s)",
        [error, ago, ago, list(ids)],
    )


def register(conn: Connection, *tasks: str, queues: list[str] | None = None, busy: int = 0) -> int:
    """A live runner that knows *tasks*; returns its id."""
    runner = 7_000_000_000_000_000 + len(tasks) + busy
    known = json.dumps(
        [
            {"name": task, "version": 1, "queue": "default", "priority": 0, "max_attempts": 10, "retry": {}}
            for task in tasks
        ]
    )
    conn.execute(
        "select jobrunner.register_v1(%s, '1 hour', 10, 'shop', 'host-1', 4711, '1.0', %s, %s)", [runner, queues, known]
    )
    conn.execute("update jobrunner.runners set busy = %s, listening = true where id = %s", [busy, runner])
    return runner


def states(conn: Connection) -> dict[int, str]:
    """The state of every job."""
    return dict(conn.execute("select id, state from jobrunner.v_job order by id").fetchall())
