"""Gives back what a dead child held, at once: who has waited for the process need not wait for the end of its lease."""

from __future__ import annotations

import asyncio

import psycopg

from jobrunner.store import runners
from jobrunner.telemetry import log
from jobrunner.worker.link import Broken, Link, Lost
from jobrunner.worker.patience import Session
from jobrunner.worker.supervised import Child

_WITHIN = 60.0  # seconds; then it is left to the rescue, as without a parent
_AGAIN = (
    1.0  # seconds after the death: a claim may have been under way, and the server hears late of a client that is gone
)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


async def release(dsn: str, child: Child, *, orderly: bool) -> None:
    """Gives back the jobs of every id that *child* lived under. *orderly*: it stopped as it should and only could not say
    good-bye, so nothing counts as a crash. Tries again while the database is away, for a minute."""
    link = Link(dsn, "supervise")
    try:
        async with asyncio.timeout(_WITHIN):
            for runner in child.ids:
                await _give_back(link, child, runner, orderly=orderly)
    except (Broken, TimeoutError) as error:
        log.warning("the jobs of %s come back with the end of its lease: %s", child, str(error) or "no answer")
    finally:
        await link.close()


async def _give_back(link: Link, child: Child, runner: int, *, orderly: bool) -> None:
    loop = asyncio.get_running_loop()
    again, pause, held = loop.time() + _AGAIN, _FIRST_PAUSE, 1
    while held or loop.time() < again:
        try:
            back, held = await link.run(_stopped if orderly else runners.crashed, runner)
        except (Lost, psycopg.Error) as error:
            log.info("giving back the jobs of %s: %s", child, str(error).strip().partition("\n")[0])
            back, held = 0, 1
        if back:
            log.info("gave back %s of %s", f"{back} jobs" if back > 1 else "1 job", child)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _stopped(conn: Session, runner: int) -> tuple[int, int]:
    return await runners.stop(conn, runner), 0
