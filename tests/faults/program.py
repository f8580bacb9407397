"""What the runners of these tests run: `jobrunner run tests.faults.program:app`, each in an operating-system process of its own.

Handlers write what they did to one file that all processes append to (FAULTS_FOLDER/seen): a table would be away whenever
the server is. What must happen exactly once they write to t_effect, through ctx.transaction(). They wait for the test by
gates: files that the test makes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobrunner import App, Backoff, Context
from jobrunner.errors import StaleLease

FOLDER = Path(os.environ.get("FAULTS_FOLDER", "."))

if (FOLDER / "broken").exists():
    raise RuntimeError("the test broke this program")

app = App("faults")

EATEN: list[bytes] = []
SOON = Backoff(attempts=30, base="50ms", cap="500ms")
EFFECT = "insert into t_effect (job_id, attempt, pid) values (%s, %s, %s)"


def note(ctx: Context, phase: str) -> None:
    """One line of the file, in one write: it outlives a kill -9 of the process, and lines of two processes do not mix."""
    line = f"{time.monotonic_ns()} {phase} {ctx.job_id} {ctx.attempt} {os.getpid()}\n"
    seen = os.open(FOLDER / "seen", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(seen, line.encode())
    os.close(seen)


@contextmanager
def noted(ctx: Context) -> Iterator[None]:
    """start, and then how it ended: end, cancelled, stale or failed."""
    note(ctx, "start")
    try:
        yield
    except (asyncio.CancelledError, StaleLease, Exception) as error:
        phases = {asyncio.CancelledError: "cancelled", StaleLease: "stale"}
        note(ctx, phases.get(type(error), "failed"))
        raise
    note(ctx, "end")


async def gate(name: str) -> None:
    """Wait until the test has made the file."""
    while not (FOLDER / name).exists():  # noqa: ASYNC110  # a file is what a test can make for a frozen process
        await asyncio.sleep(0.005)


@app.task(retry=SOON)
async def quick(ctx: Context, n: int) -> None:
    """Nothing: so short that it is prefetched."""
    with noted(ctx):
        pass


@app.task(retry=SOON)
async def work(ctx: Context, n: int, ms: int) -> None:
    """A while."""
    with noted(ctx):
        await asyncio.sleep(ms / 1000)


@app.task(retry=SOON, on_lease_uncertain="continue")
async def effect(ctx: Context, n: int, ms: int) -> None:
    """A row that must be written once; all that it does is fenced, so it goes on when the lease is uncertain."""
    with noted(ctx):
        async with ctx.transaction() as tx:
            await tx.execute(EFFECT, [ctx.job_id, ctx.attempt, os.getpid()])
            await asyncio.sleep(ms / 1000)


@app.task(retry=SOON, on_lease_uncertain="continue")
def effect_in_thread(ctx: Context, n: int, ms: int) -> None:
    """The same in a thread."""
    with noted(ctx), ctx.transaction() as tx:
        tx.execute(EFFECT, [ctx.job_id, ctx.attempt, os.getpid()])
        time.sleep(ms / 1000)


@app.task(retry=Backoff(attempts=2, base="50ms"))
async def poison(ctx: Context, n: int) -> None:
    """Fails with what PostgreSQL cannot store."""
    with noted(ctx):
        raise ValueError("a NUL \x00 and half a pair \ud800")


@app.task(retry=SOON, on_lease_uncertain="continue")
async def held(ctx: Context, n: int, *, inside: bool, again: bool) -> None:
    """The first attempt waits at the gate "thaw", the next one at "finish" if *again*. *inside*: in ctx.transaction()."""
    with noted(ctx):
        if not inside:
            await _stay(ctx, again=again)
            return
        async with ctx.transaction() as tx:
            await tx.execute(EFFECT, [ctx.job_id, ctx.attempt, os.getpid()])
            await _stay(ctx, again=again)


async def _stay(ctx: Context, *, again: bool) -> None:
    note(ctx, "held")
    if ctx.attempt == 1:
        await gate("thaw")
    elif again:
        await gate("finish")


@app.task(retry=SOON, on_lease_uncertain="continue")
async def patient(ctx: Context, n: int) -> None:
    """Goes on through an outage, until the gate "enough"."""
    with noted(ctx):
        await gate("enough")


@app.task(retry=SOON)
async def hungry(ctx: Context, n: int, mb: int) -> None:
    """Takes memory and keeps it."""
    with noted(ctx):
        EATEN.append(b"x" * (mb * 10**6))


@app.task(retry=SOON)
async def long(ctx: Context, n: int, seconds: float) -> None:
    """Longer than any grace."""
    with noted(ctx):
        await asyncio.sleep(seconds)


@app.task(retry=SOON)
def long_in_thread(ctx: Context, n: int, seconds: float) -> None:
    """Longer than any grace, in a thread that does not look at ctx.cancelled."""
    with noted(ctx):
        time.sleep(seconds)
