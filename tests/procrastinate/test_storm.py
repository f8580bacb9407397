"""Workers with our connector and a runner beside them, killed, frozen and cut off at random. Minutes, because a lease is 30 s."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import pytest
from procrastinate import exceptions

from jobrunner.procrastinate import JobrunnerConnector
from tests.conftest import Connection
from tests.ops.shell import environment
from tests.procrastinate import storm
from tests.support import eventually

pytestmark = [pytest.mark.slow, pytest.mark.faults]

SECONDS = float(os.environ.get("STORM_SECONDS", "60"))
LOCKS = [f"lock {n}" for n in range(8)]
FROZEN = 40.0  # longer than a lease

T_RUN: LiteralString = "create table t_run (id bigserial primary key, job_id bigint, lock text, what text, pid integer)"
CUT: LiteralString = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and application_name <> 'sender' and random() < 0.4"""
UNEXPLAINED: LiteralString = """
    select count(*)
    from (select job_id from t_run where what = 'end' group by job_id having count(*) > 1) twice
    where not exists (
        select from jobrunner.attempts a where a.job_id = twice.job_id and a.outcome in ('crashed', 'handed_back')
    )"""
"""Jobs that came to their end twice though nobody had lost them before it was written."""
ALL: LiteralString = "select id from jobrunner.jobs union all select id from jobrunner.finished_jobs order by id"
LIVE: LiteralString = "select count(*) from jobrunner.jobs where state <> 'dead'"

WORKER = ["-m", "procrastinate", "--app", "tests.procrastinate.storm.app", "worker"]
RUNNER = ["-m", "jobrunner", "run", "tests.procrastinate.storm:app", "--slots", "5"]


class Crew:
    """Processes; who ends is replaced."""

    def __init__(self, dsn: str, log: Path, *commands: list[str]) -> None:
        self._environment, self._log, self._commands = environment(dsn), log, commands
        self._processes = [self._spawn(command) for command in commands]
        self._frozen: tuple[int, float] | None = None

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        root = Path(__file__).parents[2]
        with self._log.open("ab") as said:
            return subprocess.Popen(
                [sys.executable, *command], env=self._environment, cwd=root, stdout=said, stderr=said
            )

    def strike(self) -> None:
        """Kill one, or freeze one for longer than its lease."""
        n = random.randrange(len(self._commands))
        if random.random() < 0.7:
            self._processes[n].kill()
            self._frozen = None if self._frozen and self._frozen[0] == n else self._frozen
        elif self._frozen is None:
            self._processes[n].send_signal(signal.SIGSTOP)
            self._frozen = n, time.monotonic()

    def tend(self) -> None:
        """Thaw who was frozen for long, replace who has ended."""
        if self._frozen and time.monotonic() > self._frozen[1] + FROZEN:
            self.thaw()
        for n, process in enumerate(self._processes):
            if process.poll() is not None:
                self._processes[n] = self._spawn(self._commands[n])

    def thaw(self) -> None:
        """Let the frozen one go on, as a zombie."""
        if self._frozen:
            self._processes[self._frozen[0]].send_signal(signal.SIGCONT)
        self._frozen = None

    def stop(self) -> None:
        """All of them."""
        self.thaw()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(60)


@pytest.fixture
def crew(dsn: str, conn: Connection, tmp_path: Path) -> Iterator[Crew]:
    conn.execute(T_RUN)
    crew = Crew(dsn, tmp_path / "log", WORKER, WORKER, WORKER, RUNNER)
    yield crew
    crew.stop()


async def test_each_job_ends_once_and_each_lock_keeps_its_order(crew: Crew, dsn: str, conn: Connection) -> None:
    sent: dict[str, list[int]] = defaultdict(list)
    sender = JobrunnerConnector(dsn, min_size=1, max_size=3, kwargs={"application_name": "sender"})
    with storm.app.replace_connector(sender) as app:
        async with app.open_async():
            await _rage(crew, conn, sent)
            await eventually(lambda: _is_over(crew, conn), deadline=150, what="the end of all jobs")
    crew.stop()

    assert [id_ for (id_,) in conn.execute(ALL)] == sorted(id_ for ids in sent.values() for id_ in ids)
    assert _value(conn, "select count(*) from jobrunner.unique_keys") == 0
    assert _value(conn, UNEXPLAINED) == 0
    seen = conn.execute("select job_id, lock, what, pid from t_run order by id").fetchall()
    for lock in LOCKS:
        ran = [(job, what, pid) for job, of, what, pid in seen if of == lock]
        assert _overlaps(ran) == [], lock
        first = list(dict.fromkeys(job for job, what, _ in ran if what == "start"))
        assert first == [job for job in sent[lock] if job in set(first)], lock


def _is_over(crew: Crew, conn: Connection) -> bool:
    crew.tend()
    return _value(conn, LIVE) == 0


async def _rage(crew: Crew, conn: Connection, sent: dict[str, list[int]]) -> None:
    ends, strike, recent = time.monotonic() + SECONDS, time.monotonic() + 5, list[int]()
    while (now := time.monotonic()) < ends:
        lock = random.choice([None, None, *LOCKS])
        job = storm.work.configure(
            lock=lock,
            queueing_lock=random.choice([None, None, "a", "b", "c"]),
            queue=random.choice(storm.QUEUES),
            priority=0 if lock else random.randint(-5, 5),
            schedule_in=None if lock or random.random() < 0.9 else {"milliseconds": random.randint(1, 800)},
        )
        try:
            recent.append(
                await job.defer_async(ms=random.choice([0, 1, 5, 30]), failures=random.choice([0, 0, 0, 1, 3]))
            )
            sent[lock or ""].append(recent[-1])
        except exceptions.AlreadyEnqueued:
            pass
        if recent and random.random() < 0.03:
            await storm.app.job_manager.cancel_job_by_id_async(random.choice(recent[-20:]), abort=True)
        if now > strike:
            strike = now + random.uniform(2, 5)
            crew.strike() if random.random() < 0.7 else conn.execute(CUT)
        crew.tend()
        await asyncio.sleep(random.uniform(0, 0.02))


def _overlaps(ran: list[tuple[int, str, int]]) -> list[tuple[int, int]]:
    """Jobs that started between the start and the end of another one. Who was killed has no end."""
    started: dict[tuple[int, int], set[int]] = {}
    found = []
    for job, what, pid in ran:
        if what == "start":
            for inside in started.values():
                inside.add(job)
            started[job, pid] = set()
        else:
            found += [(job, other) for other in started.pop((job, pid), set()) if other != job]
    return found


def _value(conn: Connection, statement: LiteralString) -> int:
    row = conn.execute(statement).fetchone()
    assert row is not None
    return int(row[0])
