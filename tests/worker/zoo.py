"""Tasks for processes of their own: they compute, sleep, tell, and die in every way. Imported by the tests and by their children.

A job's `meet` is a folder: what handlers say to the test and to each other are files in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psycopg

from jobrunner import App, Backoff, Cancel, Context, Event, Reject, Retry, Snooze

app = App("zoo")
birds = App("birds")

ONCE = Backoff(attempts=1)
SOON = Backoff(attempts=20, base="1ms", cap="1ms")


class Arrived(Event, name="zoo.arrived", key="animal"):
    animal: str
    meet: str


def say(meet: str, name: str) -> None:
    """Make a file, whole: who sees it can read it."""
    unfinished = Path(meet) / f".{name}-{os.getpid()}"
    unfinished.write_text(str(os.getpid()))
    unfinished.rename(Path(meet) / name)


def wait_for(meet: str, name: str) -> None:
    """Return when that file is there."""
    while not (Path(meet) / name).exists():
        time.sleep(0.002)


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class Unreadable(dict[str, int]):
    def items(self) -> Any:
        raise LookupError("gone by now")


class Unpicklable(Exception):
    def __init__(self, one: str, two: threading.Lock) -> None:
        super().__init__(one)
        self.two = two


def recurse(n: int) -> int:
    return recurse(n + 1) + 1


def allocate() -> None:
    free = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**31, free[1]))
    try:
        bytearray(2**32)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, free)


def spin() -> None:
    while True:
        pass


def grip() -> None:
    """Compute without ever giving up the interpreter's lock."""
    sum(range(10**12))


def die(how: str) -> Any:
    """End the handler, or its process, in this way."""
    match how:
        case "ValueError":
            raise ValueError("boom\0")
        case "SystemExit":
            sys.exit(3)
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case "RecursionError":
            recurse(0)
        case "MemoryError":
            allocate()
        case "Mute":
            raise Mute
        case "long":
            raise ValueError("x" * 50_000_000)
        case "Unpicklable":
            raise Unpicklable("one", threading.Lock())
        case "surrogate":
            raise ValueError("half a pair \ud800")
        case "Unreadable":
            return Unreadable(a=1)
        case "_exit":
            os._exit(7)
        case "SIGSEGV":
            ctypes.string_at(0)
        case "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        case "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
        case "spin":
            spin()
    return None


@app.task(executor="process", retry=ONCE)
def dies(ctx: Context, how: str) -> Any:
    return die(how)


@app.task(executor="process", retry=ONCE, timeout="200ms")
def hangs(ctx: Context, meet: str) -> None:
    say(meet, "hangs")
    spin()


@app.task(executor="process", retry=Backoff(attempts=1, on={LookupError: Snooze("1h", "lost")}))
def answers(ctx: Context, how: str) -> Any:
    match how:
        case "retry":
            return Retry("9s", "busy")
        case "snooze":
            return Snooze("1h")
        case "cancel":
            return Cancel("gone")
        case "reject":
            return Reject("never")
        case "rule":
            raise KeyError("nothing")
        case "job":
            return [ctx.job_id, ctx.attempt, ctx.headers, ctx.key]
        case "object":
            return object()
        case "transaction":
            with getattr(ctx, "transaction")():  # noqa: B009  # so that its code does not show it
                return None
    return {"how": how, "deep": [None, 1.5, "ü\n\"'\\"], "main": threading.current_thread() is threading.main_thread()}


@app.task(executor="process")
def nothing(ctx: Context) -> None:
    """No work at all."""


@app.task(executor="process", retry=ONCE)
def pid(ctx: Context) -> int:
    return os.getpid()


@app.task(executor="process", retry=ONCE)
def works(ctx: Context, meet: str, *, tell: str = "working", until: str = "go", patient: bool = False) -> str:
    """Says that it works, and waits; a patient one does not look whether it should end."""
    say(meet, tell)
    while not (Path(meet) / until).exists():
        if ctx.cancelled and not patient:
            say(meet, "told")
            return "told"
        time.sleep(0.002)
    return "went"


@app.task(executor="process", retry=ONCE)
def computes(ctx: Context, meet: str, *, name: str, in_c: bool) -> None:
    """For ever; *in_c*: no other thread of its process gets a turn."""
    say(meet, name)
    grip() if in_c else spin()


@app.task(executor="process", retry=ONCE)
def tells(ctx: Context, meet: str) -> None:
    ctx.progress(1, total=3, message="first")
    ctx.progress(2)
    wait_for(meet, "seen")
    ctx.logger.warning("a word")
    ctx.progress(3, message="last")


@app.task(executor="process", retry=ONCE)
def forks(ctx: Context, meet: str) -> None:
    """Leaves a process behind that holds everything open, and dies."""
    if os.fork() == 0:
        say(meet, "left")
        time.sleep(60)
        os._exit(0)
    wait_for(meet, "left")
    os._exit(4)


@app.task(executor="process", retry=ONCE)
def lies(ctx: Context, what: str, length: int | None = None) -> None:
    """Says something to the runner that no child says; RUN stands for what it is asked about."""
    listener = next(one for one in threading.enumerate() if one.name == "jobrunner runner")
    child = listener._target.__self__  # type: ignore[attr-defined]
    said = what.replace("RUN", str(child._running)).encode("latin-1")
    child._sock.sendall(struct.pack(">I", len(said) if length is None else length) + said)
    spin()


@app.task(executor="process", retry=ONCE)
def starts_one(ctx: Context, meet: str) -> None:
    """Starts a process and waits for it."""
    left = multiprocessing.get_context("spawn").Process(target=wait_for, args=(meet, "never"))
    left.start()
    Path(meet, "grandchild").write_text(str(left.pid))
    say(meet, "started")
    spin()


# ------------------------------------------------------------------------------------------------ in the runner


@app.task(retry=SOON)
async def where(ctx: Context) -> list[int]:
    """In which process it ran, and with which."""
    return [os.getpid(), os.getppid()]


@app.task(retry=SOON)
async def good(ctx: Context, n: int) -> int:
    return n


@app.task(retry=Backoff(attempts=1))
async def poison(ctx: Context, how: str) -> Any:
    """Whatever runs it goes down."""
    return die(how)


@app.task(retry=SOON)
def counts(ctx: Context) -> None:
    """One row, with its completion."""
    with ctx.transaction() as tx:
        tx.execute("insert into t_count (job_id, pid) values (%s, %s)", [ctx.job_id, os.getpid()])


@app.task(retry=SOON)
async def counts_async(ctx: Context) -> None:
    """The same on a loop."""
    async with ctx.transaction() as tx:
        await tx.execute("insert into t_count (job_id, pid) values (%s, %s)", [ctx.job_id, os.getpid()])


@app.task(retry=SOON)
async def waits(ctx: Context, meet: str) -> None:
    say(meet, f"waits-{ctx.job_id}")
    try:
        while not (Path(meet) / "go").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    except asyncio.CancelledError:
        say(meet, "cancelled")
        raise


@birds.on(Arrived)
def arrived(ctx: Context, event: Arrived) -> int:
    say(event.meet, f"arrived-{event.animal}")
    return os.getpid()


@birds.stream(Arrived)
def arrivals(ctx: Context, events: list[Arrived]) -> None:
    with ctx.transaction() as tx:
        for _ in events:
            tx.execute("insert into t_count (job_id, pid) values (%s, %s)", [ctx.job_id, os.getpid()])


def is_alive(number: int) -> bool:
    """Whether there is such a process that is no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


COUNT = "create table t_count (job_id bigint, pid int)"


def counted(conn: psycopg.Connection[tuple[Any, ...]]) -> list[tuple[int, int]]:
    """What the counters have written."""
    return conn.execute("select job_id, pid from t_count order by 1").fetchall()
