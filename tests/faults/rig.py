"""The rig: runners as processes, producers, the oracle, and the one list of what must hold while faults go on.

The oracle has three witnesses, none of which is the product: t_sent and the producers' ledger (what was committed), t_run (a
trigger: each claim and each end as the server saw it) and the file `seen` (what handlers did). Random choices come from one
seed, which is printed; FAULTS_SEED repeats it and FAULTS_SIZE=10 makes everything ten times as long.

(long because: processes, producers and checks share one seed, one database and one folder)
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString, NamedTuple, Self, TypeAlias

import psycopg

from jobrunner import Job
from tests.faults.oracle import ALWAYS, ASKED, AT_THE_END, DEADLOCKS, LATE, LEFT, ORACLE, RUNNERS, STUCK
from tests.faults.program import app, effect, effect_in_thread, poison, quick, work
from tests.support import wait_until

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

ROOT = Path(__file__).parents[2]
SIZE = float(os.environ.get("FAULTS_SIZE", "1"))
LEASE = 3.0


class Seen(NamedTuple):
    """A line of the handlers' file."""

    at: float
    """Seconds of the machine's monotonic clock."""
    phase: str
    job_id: int
    attempt: int
    pid: int


@dataclass
class Process:
    """A runner in a process of its own."""

    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        """kill -9, and gone."""
        self.popen.kill()
        self.popen.wait()

    def ends(self, within: float) -> int:
        """Its exit code; fails the test when it has none after *within* seconds."""
        try:
            return self.popen.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"runner {self.pid} did not end within {within:g} s:\n{self.said()}") from None

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-4000:]


@dataclass
class Rig:
    """One test's runners, producers and oracle on one database."""

    dsn: str
    folder: Path
    seed: int = field(default_factory=lambda: int(os.environ.get("FAULTS_SEED") or random.randrange(10**6)))
    processes: list[Process] = field(default_factory=list)
    """All that were started, dead ones too."""
    acknowledged: set[int] = field(default_factory=set)
    """Numbers whose commit returned."""
    ambiguous: set[int] = field(default_factory=set)
    """Numbers whose commit raised: once or not at all."""
    did: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Self:
        self.dice = random.Random(self.seed)
        self._numbers = iter(range(1, 10**9))
        self._lock = threading.Lock()
        with self.connect() as conn:
            conn.execute(ORACLE)
            self._deadlocks = self._value(conn, DEADLOCKS)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.alive():
            process.kill()
        print(f"FAULTS_SEED={self.seed}", dict(self.did))  # noqa: T201
        with suppress(psycopg.OperationalError):  # the server may be away
            print(*self.column(RUNNERS), *self.column(LEFT), sep="\n")  # noqa: T201

    def connect(self) -> Connection:
        return psycopg.connect(self.dsn, autocommit=True, prepare_threshold=None, application_name="rig")

    def value(self, statement: LiteralString, *args: object) -> Any:
        """The first column of the first row, on a connection of its own."""
        with self.connect() as conn:
            return self._value(conn, statement, *args)

    def column(self, statement: LiteralString, *args: object) -> list[Any]:
        """The first column of every row."""
        with self.connect() as conn:
            return [row[0] for row in conn.execute(statement, args).fetchall()]

    @staticmethod
    def _value(conn: Connection, statement: LiteralString, *args: object) -> Any:
        row = conn.execute(statement, args).fetchone()
        return row and row[0]

    # ---------------------------------------------------------------------------------------------- runners

    def spawn(
        self,
        *,
        slots: int = 10,
        queue: str | None = None,
        lease: float = LEASE,
        grace: float = 5,
        ready: bool = True,
        quarantine: bool = True,
        program: str = "tests.faults.program:app",
        options: Sequence[str] = (),
    ) -> Process:
        """Start a runner of *program*, with further *options*; *ready*: return when it has registered."""
        log = self.folder / f"runner-{len(self.processes)}.log"
        settings = ["--slots", str(slots), "--lease", f"{lease}s", "--grace", f"{grace}s"]
        settings += [*(["--queue", queue] if queue else []), *options]
        settings += [] if quarantine else ["--no-quarantine"]
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, "-m", "jobrunner", "run", program, "--dsn", self.dsn, *settings],
                cwd=ROOT,
                env={**os.environ, "FAULTS_FOLDER": str(self.folder), "PYTHONWARNINGS": "default"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        process = Process(popen, log)
        self.processes.append(process)
        if ready:
            self.wait_ready(process)
        return process

    def wait_ready(self, *processes: Process) -> None:
        """Return when they have registered."""
        with self.connect() as conn:
            for process in processes:
                wait_until(
                    lambda: self._value(conn, "select true from jobrunner.runners where pid = %s", process.pid),  # noqa: B023
                    30,
                    f"the start of runner {process.pid}",
                )

    def alive(self) -> list[Process]:
        """Those that run."""
        return [process for process in self.processes if process.popen.poll() is None]

    def wait_busy(self, finished: int) -> None:
        """Return when so many jobs have ended."""
        wait_until(lambda: self.value("select count(*) from jobrunner.finished_jobs") >= finished, 30, "the load")

    def wait_caught_up(self, within: float) -> float:
        """Seconds until no job older than a second waits for a runner; producers may go on."""
        began = time.monotonic()
        wait_until(lambda: not self.value(LATE), within, "a queue without old jobs")
        return time.monotonic() - began

    def open_gate(self, name: str) -> None:
        """Let the handlers go that wait at it."""
        (self.folder / name).touch()

    def seen(self) -> list[Seen]:
        """What handlers have noted, in order."""
        path = self.folder / "seen"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [line.split() for line in lines]
        return [Seen(int(at) / 1e9, phase, int(job), int(attempt), int(pid)) for at, phase, job, attempt, pid in found]

    def count(self, phase: str) -> int:
        """How many have noted *phase*."""
        return sum(line.phase == phase for line in self.seen())

    # -------------------------------------------------------------------------------------------- producers

    def send(self, conn: Connection, make: Callable[[int], Job], count: int = 1, *, undo: bool = False) -> None:
        """Enqueue *count* jobs that *make* makes of numbers, in one transaction with their rows in t_sent; *undo* it."""
        with self._lock:
            numbers = [next(self._numbers) for _ in range(count)]
        try:
            with conn.transaction(force_rollback=undo), conn.cursor() as cursor:
                cursor.executemany("insert into t_sent values (%s)", [[n] for n in numbers])
                app.enqueue_many(conn, [make(n) for n in numbers])
        except psycopg.Error:
            self.ambiguous.update(numbers)
            raise
        if undo:
            self.did["rolled back"] += count
        else:
            self.acknowledged.update(numbers)
            self.did["sent"] += count

    def any_job(self, n: int) -> Job:
        """A job of a random kind: short, long, keyed, in a transaction, in a thread, or poison."""
        throw, ms = self.dice.random(), self.dice.randint(10, 120)
        if throw < 0.02:
            return poison.job(n=n)
        if throw < 0.25:
            return quick.job(n=n)
        if throw < 0.40:
            return effect.job(n=n, ms=ms // 2)
        if throw < 0.45:
            return effect_in_thread.job(n=n, ms=ms // 2)
        if throw < 0.50:
            return effect.job(n=n, ms=ms // 10).using(key=f"e{self.dice.randrange(5)}")
        if throw < 0.60:
            return work.job(n=n, ms=ms // 10).using(key=f"w{self.dice.randrange(10)}")
        return work.job(n=n, ms=ms)

    @contextmanager
    def producing(self, per_second: float) -> Iterator[None]:
        """Inside, a thread enqueues *per_second* jobs in small transactions, and survives what happens to the server."""
        over = threading.Event()
        failures: list[BaseException] = []

        def produce() -> None:
            conn: Connection | None = None
            due = time.monotonic()
            while not over.is_set():
                try:
                    conn = conn or self.connect()
                    size = self.dice.randint(1, 5)
                    self.send(conn, self.any_job, size, undo=self.dice.random() < 0.1)
                    due += size / per_second
                    over.wait(max(0.0, due - time.monotonic()))
                except psycopg.Error as error:
                    self.did[type(error).__name__] += 1
                    if conn is not None:
                        conn.close()
                        conn = None
                    due = time.monotonic() + 0.1
                    over.wait(0.1)
                except BaseException as error:
                    failures.append(error)
                    raise
            if conn is not None:
                conn.close()

        thread = threading.Thread(target=produce, name="producer")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        assert failures == []

    # ----------------------------------------------------------------------------------------------- oracle

    def check(self, *, stuck: bool = True) -> None:
        """What must hold at any time."""
        self._look(ALWAYS | ({"I6: nobody is left on a dead runner": STUCK} if stuck else {}))
        self.did["looks"] += 1

    def drained(self, within: float) -> float:
        """Seconds until every job has ended; fails the test when that takes longer than *within*."""
        began = time.monotonic()
        wait_until(lambda: not self.column(LEFT) or time.monotonic() - began > within, within + 1)
        assert not (left := self.column(LEFT)), f"FAULTS_SEED={self.seed}: left after {within:g} s: {left}"
        return time.monotonic() - began

    def check_end(self, *, repeats: int) -> None:
        """What must hold when all jobs have ended; *repeats*: how many second starts the faults explain (I5)."""
        self._look(ALWAYS | AT_THE_END)
        with self.connect() as conn:
            sent = {n for (n,) in conn.execute("select n from t_sent").fetchall()}
            deadlocks = self._value(conn, DEADLOCKS)
            asked: int = self._value(conn, ASKED)
        assert self.acknowledged <= sent, f"I1: acknowledged and gone: {sorted(self.acknowledged - sent)[:20]}"
        assert sent <= self.acknowledged | self.ambiguous, "I2: there without a commit"
        starts = Counter(line.job_id for line in self.seen() if line.phase == "start")
        self.did["repeats"] = repeated = sum(starts.values()) - len(starts)
        self.did["retries asked for"] = asked
        assert repeated - asked <= repeats, f"I5: {repeated} repeats, {asked} asked for, {repeats} explained by faults"
        assert deadlocks == self._deadlocks, f"{deadlocks - self._deadlocks} deadlocks"
        self.check_logs()

    def check_logs(self) -> None:
        """No runner has said what only a defect makes it say."""
        for process in self.processes:
            said = process.log.read_text()
            for complaint in ("Traceback", "never awaited", "never retrieved", "was destroyed", "the runner cannot"):
                assert complaint not in said, f"{process.log.name}:\n{said[-6000:]}"

    def _look(self, invariants: dict[str, LiteralString]) -> None:
        with self.connect() as conn, conn.transaction():
            conn.execute("set transaction isolation level repeatable read")
            found = {name: rows for name, query in invariants.items() if (rows := conn.execute(query).fetchmany(8))}
        assert not found, self._history(found)

    def _history(self, found: dict[str, list[tuple[Any, ...]]]) -> str:
        return "\n".join([f"FAULTS_SEED={self.seed}", *(f"{name}: {rows}" for name, rows in found.items())])

    def histories(self) -> dict[int, list[Seen]]:
        """What handlers have noted, by job."""
        by_job: dict[int, list[Seen]] = defaultdict(list)
        for line in self.seen():
            by_job[line.job_id].append(line)
        return by_job


def pause(seconds: float) -> None:
    """How long a fault lasts, or the pace of many: not a wait for anything."""
    time.sleep(seconds)
