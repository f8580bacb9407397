"""Ears end when they are told to, and say when they hear nothing."""

from __future__ import annotations

import asyncio

import pytest

from jobrunner.telemetry import Telemetry
from jobrunner.worker import ears as module
from jobrunner.worker.ears import Ears
from jobrunner.worker.link import connect
from jobrunner.worker.patience import Session
from tests.conftest import Connection
from tests.support import eventually
from tests.worker.rig import Events, terminate, within


async def test_a_cancellation_that_comes_with_the_connection_is_not_swallowed(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio.wait_for does that before Python 3.12, and the stop of a runner then waits for ever."""

    async def connect_just_then(dsn: str, purpose: str) -> Session:
        conn = await connect(dsn, purpose)
        task.cancel()
        return conn

    monkeypatch.setattr(module, "connect", connect_just_then)
    task = asyncio.create_task(Ears(dsn, lambda payload: None, Telemetry()).run())

    with pytest.raises(asyncio.CancelledError):
        await within(5, task)


async def test_ears_that_lost_their_connection_say_so_and_hear_again(dsn: str, conn: Connection) -> None:
    heard: list[str] = []
    telemetry = Telemetry()
    events = Events(telemetry)
    ears = Ears(dsn, heard.append, telemetry)
    task = asyncio.create_task(ears.run())
    await events.wait_for("listener.up")

    terminate(conn, "listen")
    await events.wait_for("listener.down")
    await events.wait_for("listener.up", times=2)
    before = len(heard)
    conn.execute("select pg_notify('jobrunner', 'look')")
    await eventually(lambda: heard[before:] == ["look"], what="the notification")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert not ears.listening


async def test_ears_ask_each_time_where_to_and_outlive_who_does_not_know(dsn: str, conn: Connection) -> None:
    telemetry = Telemetry()
    events, asked = Events(telemetry), 0

    async def address() -> str:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise KeyError("the vault is sealed")
        return dsn

    task = asyncio.create_task(Ears(address, lambda payload: None, telemetry).run())
    await events.wait_for("listener.up")
    terminate(conn, "listen")
    await events.wait_for("listener.up", times=2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert asked == 3
