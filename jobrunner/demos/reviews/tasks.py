"""The two tasks: `import_file` brings the lines to disk and parts them, `import_chunk` stores one part.

    submit ─► import_file ─► 8 × import_chunk          a transaction per hundred lines, fenced, with the chunk's cursor
                  └── watches the chunks, tells the progress, finishes the import

Every step may be killed and started again: what is committed tells where to go on.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import psycopg
from psycopg import AsyncConnection

from jobrunner.demos.reviews import chunks, imports
from jobrunner.demos.reviews.lines import Range, read_blocks, split
from jobrunner.demos.reviews.model import Checked, check
from jobrunner.demos.reviews.source import Source, place_for, shown, unpack
from jobrunner.errors import InputError, StaleLease
from jobrunner.policy.backoff import Backoff
from jobrunner.policy.outcomes import Reject, Snooze
from jobrunner.worker.app import App
from jobrunner.worker.context import Context

CHUNKS = 8
"""Parts of a file, imported at the same time."""

_LOOK = 0.25  # seconds between two looks at the chunks
_PATIENCE = 5.0  # seconds without a move after which the watcher gives its slot away
_AGAIN = "2s"
_RETRY = Backoff(attempts=10, base="1s", cap="30s")

app = App("reviews")


async def submit(
    conn: AsyncConnection[Any], source: Source, *, provider: str = "demo", folder: Path | None = None
) -> int:
    """Write the import of *source* and its job in the caller's transaction; returns the id of the import.

    *provider* becomes the provider_id of every review; *folder* is where a source is unpacked that has to be (else the
    directory for temporary files), and where the runners must be able to write and read.

    Imports run one after the other, by their key: each keeps one slot for watching its chunks, and several at once could
    take all of them.
    """
    import_id = await imports.add(conn, source, place_for(source, folder), provider)
    call = import_file.job(import_id=import_id)
    job_id = await app.enqueue(conn, call, key="reviews.imports", subject=f"import:{import_id}")
    await imports.set_job(conn, import_id, job_id)
    return import_id


@app.task(retry=_RETRY)
async def import_file(ctx: Context, import_id: int) -> Snooze | Reject | None:
    """Split the file once, then tell how far its chunks are until all are done."""
    async with ctx.transaction(final=False) as tx:
        this = await imports.get(tx, import_id)
    try:
        if this.is_unpacked:
            # Rows are made in no time, and the first word on progress starts the clock of the estimate.
            tell = partial(_go_on, ctx) if this.is_made else partial(_tell, ctx, "fetched")
            await asyncio.to_thread(unpack, this.location, Path(this.path), tell=tell)
        if this.bytes is None:
            await _divide(ctx, this)
    except InputError as error:
        return Reject(str(error))
    return await _watch(ctx, this)


async def _divide(ctx: Context, this: imports.Import) -> None:
    """The chunks and their jobs, in one transaction: a second start finds all of them or none."""
    async with ctx.transaction(final=False) as tx:
        await imports.start(tx, this.id)
    size, ranges = await asyncio.to_thread(_ranges, this, partial(_tell, ctx, "counted"))
    numbers = range(1, len(ranges) + 1)
    async with ctx.transaction(final=False) as tx:
        calls = [import_chunk.job(import_id=this.id, number=number) for number in numbers]
        job_ids = await app.enqueue_many(tx, [call.using(subject=f"import:{this.id}") for call in calls])
        await chunks.add(tx, this.id, size, ranges, job_ids)


async def _watch(ctx: Context, this: imports.Import) -> Snooze | Reject | None:
    moved_at, passed = time.monotonic(), -1
    while True:
        async with ctx.transaction(final=False) as tx:
            now = await imports.totals(tx, this.id)
        done = now.finished_chunks == now.chunks
        message = "done" if done else f"{now.finished_chunks} of {now.chunks} chunks"
        ctx.progress(now.passed, total=now.submitted, failed=now.failed, message=message)
        if done:
            async with ctx.transaction() as tx:
                await imports.finish(tx, this.id)
            _remove(this)
            return None
        if now.finished_chunks + now.lost_chunks == now.chunks:
            return Reject(
                f"{now.lost_chunks} of {now.chunks} chunks are dead ({now.problem}); requeue them, then this job"
            )
        if now.passed != passed:
            moved_at, passed = time.monotonic(), now.passed
        elif time.monotonic() - moved_at > _PATIENCE:
            return Snooze(_AGAIN, reason="no chunk moves; its slot may be what they wait for")
        await asyncio.sleep(_LOOK)


@app.task(retry=_RETRY)
async def import_chunk(ctx: Context, import_id: int, number: int) -> Reject | None:
    """Store the lines of one chunk from its cursor on."""
    async with ctx.transaction(final=False) as tx:
        this = await imports.get(tx, import_id)
        chunk = await chunks.get(tx, import_id, number)
    try:
        file = _open(this)
    except InputError as error:
        if this.is_unpacked:  # a temporary file that somebody cleared away: import_file is bringing it back
            raise
        return Reject(str(error))
    # Reading and checking a hundred lines takes less than a millisecond: it need not leave the event loop.
    with file:
        for block in read_blocks(file, chunk.cursor_byte, chunk.end_byte, chunk.next_line):
            await _store(ctx, this, chunk, check(block))
    async with ctx.transaction() as tx:
        await chunks.finish(tx, chunk)
    return None


async def _store(ctx: Context, this: imports.Import, chunk: chunks.Chunk, checked: Checked) -> None:
    try:
        async with ctx.transaction(final=False) as tx:
            await chunks.store_all(tx, this, chunk, checked)
    except psycopg.Error as error:
        if not chunks.is_refused_row(error):
            raise
        async with ctx.transaction(final=False) as tx:
            await chunks.store_what_can_be(tx, this, chunk, checked)


def _open(this: imports.Import) -> BinaryIO:
    """The plain lines, when they are those that were divided."""
    try:
        file = Path(this.path).open("rb")  # noqa: SIM115 (the caller closes it)
    except OSError as error:
        raise InputError(shown(this.location), f"{error.strerror}; bring it back and submit it again") from None
    if this.bytes not in (None, os.fstat(file.fileno()).st_size):
        file.close()
        raise InputError(shown(this.location), "it has changed since its import began; submit it again")
    return file


def _ranges(this: imports.Import, tell: Callable[[int], None]) -> tuple[int, list[Range]]:
    with _open(this) as file:
        return os.fstat(file.fileno()).st_size, split(file, CHUNKS, tell=tell)


def _remove(this: imports.Import) -> None:
    if this.is_unpacked:
        Path(this.path).unlink(missing_ok=True)


def _go_on(ctx: Context, count: int) -> None:
    """Called on a thread, which nobody can cancel: it looks by itself whether it should go on."""
    if ctx.cancelled:
        raise StaleLease(ctx.job_id, ctx.attempt)


def _tell(ctx: Context, done: str, count: int) -> None:
    _go_on(ctx, count)
    ctx.progress(message=f"{done} {count:,} bytes")
