"""A PgBouncer in transaction mode with three server connections, before a server that listens on a Unix socket."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
from psycopg.conninfo import make_conninfo

from jobrunner.embedded.account import account_for
from tests.support import wait_until

HERE = Path(__file__).parent

DIRECT = {
    # asks which sessions are there, or ends one by its purpose
    "test_a_crash_between_the_work_and_its_settlement_counts_nothing_twice",
    "test_stop_twice_is_once_and_leaves_no_session_behind",
    "test_a_runner_names_what_is_wrong_with_the_database_before_it_writes_anything",
    # changes a default of the database, which sessions that the pool has already do not hear of
    "test_a_transaction_may_have_a_higher_isolation_level",
    # keeps more transactions open than the pool has sessions
    "test_a_key_keeps_the_order_of_commits_when_the_first_took_longer_than_the_floor_waits",
    "test_thousands_in_a_call_come_in_order_and_tell_how_far_they_are",
}
"""What cannot go through it."""

NOTIFIED = {
    "test_a_commit_wakes_a_sleeping_runner_long_before_its_poll",
    "test_a_paused_queue_stops_and_resumes_at_once",
    "test_a_scheduled_job_runs_when_it_is_due_and_not_a_poll_later",
    "test_a_transaction_into_many_new_queues_is_found_at_once",
    "test_an_idle_runner_sends_few_statements",
    "test_more_queues_than_one_claim_asks_are_all_asked_before_it_rests",
    "test_that_a_runner_hears_is_seen_before_its_next_beat",
}
"""What is about notifications: not for a runner that only polls."""

CONFIG = """
[databases]
* = host={host} port={port} user=postgres
[pgbouncer]
unix_socket_dir = {folder}
listen_port = 6432
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 500
server_round_robin = {round_robin}
server_lifetime = 3600
log_connections = 0
log_disconnections = 0
"""


def binary() -> Path:
    """Where PgBouncer is; without it a test fails where CI=true is set, and is skipped elsewhere, with the reason."""
    made = subprocess.run([str(HERE / "pgbouncer.sh")], capture_output=True, text=True, check=False)
    if made.returncode == 0:
        return Path(made.stdout.strip())
    sentence = made.stderr.strip() or "tests/pgbouncer.sh failed"
    if os.environ.get("CI") == "true":
        pytest.fail(sentence)
    pytest.skip(sentence)


@dataclass
class Pooler:
    """A running PgBouncer. Its sessions are lent for one transaction each; *scattered*, hardly ever the same one twice."""

    host: str
    """The folder of the server's socket."""
    port: int
    size: int = 3
    scattered: bool = True
    mode: str = "transaction"

    def __enter__(self) -> Self:
        program = binary()
        self.folder = Path(tempfile.mkdtemp(prefix="pgb-", dir="/tmp"))  # a socket's path has to be short
        self._said = self.folder / "log"
        config = self.folder / "pgbouncer.ini"
        config.write_text(
            CONFIG.format(
                host=self.host,
                port=self.port,
                folder=self.folder,
                size=self.size,
                round_robin=int(self.scattered),
                mode=self.mode,
            )
        )
        account = account_for(self.folder / "none")
        options = [] if account["user"] is None else ["-u", "nobody"]  # it refuses to be root
        if account["user"] is not None and account["group"] is not None:
            os.chown(self.folder, account["user"], account["group"])
        libraries = [str(folder) for folder in program.parents[2].glob("usr/lib/*-linux-*")] + [
            os.environ.get("LD_LIBRARY_PATH", "")
        ]
        with self._said.open("wb") as log:
            self._process = subprocess.Popen(
                [str(program), *options, str(config)],
                env={**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, libraries))},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_there, 10, "PgBouncer")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_there(self) -> bool:
        assert self._process.poll() is None, f"PgBouncer has ended: {self.said()}"
        return (self.folder / ".s.PGSQL.6432").exists()

    def said(self) -> str:
        """Its log."""
        return self._said.read_text()

    def dsn(self, dbname: str) -> str:
        """The way through it to a database."""
        return make_conninfo(host=str(self.folder), port=6432, user="postgres", dbname=dbname)
