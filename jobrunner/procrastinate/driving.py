"""Who speaks for a talk: sends its statements, waits where it waits, and tells errors as procrastinate's users know them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psycopg
from procrastinate import exceptions, manager
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads

from jobrunner.errors import InvalidJob
from jobrunner.procrastinate.talks import Row, Say, Talk

Loads = Callable[..., Any]


def drive(talk: Talk, say: Callable[[Say], list[Row]]) -> list[Row]:
    """The answer of *talk*; *say* executes one statement."""
    with told():
        try:
            step = next(talk)
            while True:
                if isinstance(step, Say):
                    try:
                        rows = say(step)
                    except psycopg.Error as error:
                        step = talk.throw(error)
                        continue
                else:
                    time.sleep(step)
                    rows = []
                step = talk.send(rows)
        except StopIteration as done:
            answer: list[Row] = done.value
            return answer


async def drive_async(talk: Talk, say: Callable[[Say], Awaitable[list[Row]]]) -> list[Row]:
    """The same on an event loop."""
    with told():
        try:
            step = next(talk)
            while True:
                if isinstance(step, Say):
                    try:
                        rows = await say(step)
                    except psycopg.Error as error:
                        step = talk.throw(error)
                        continue
                else:
                    await asyncio.sleep(step)
                    rows = []
                step = talk.send(rows)
        except StopIteration as done:
            answer: list[Row] = done.value
            return answer


def execute(conn: psycopg.Connection[Any], loads: Loads | None, step: Say) -> list[Row]:
    """The rows of one statement; *loads* is the app's own decoder of JSON."""
    with conn.cursor(row_factory=dict_row) as cursor:
        if loads is not None:
            set_json_loads(loads, cursor)
        cursor.execute(step.statement, step.params)
        return cursor.fetchall() if cursor.description else []


async def execute_async(conn: psycopg.AsyncConnection[Any], loads: Loads | None, step: Say) -> list[Row]:
    """The same on an event loop."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        if loads is not None:
            set_json_loads(loads, cursor)
        await cursor.execute(step.statement, step.params)
        return await cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Errors as procrastinate's users know them: UniqueViolation for a queueing lock, else ConnectorException with one sentence."""
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        name = error.diag.constraint_name
        lock = error.diag.message_detail if name == manager.QUEUEING_LOCK_CONSTRAINT else None
        raise exceptions.UniqueViolation(constraint_name=name, queueing_lock=lock) from error
    except InvalidJob as error:
        raise exceptions.ConnectorException(str(error)) from error
    except psycopg.Error as error:
        raise exceptions.ConnectorException(str(error).strip().partition("\n")[0]) from error
