"""What a drain says to the database: the statements of a runner, one after another on one connection, by the test's clock.

None of them takes a lock that another test's open transaction could hold.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from jobrunner.errors import ConfigError
from jobrunner.policy.lifecycle import Settlement, State
from jobrunner.policy.models import Claimed, Json
from jobrunner.policy.recorded import Batch, Recorded
from jobrunner.policy.subscriptions import differences
from jobrunner.store.events import Step, subscribe_params
from jobrunner.store.jobs import elsewhere_params
from jobrunner.store.queries import query
from jobrunner.testing.connections import Sync
from jobrunner.version import VERSION
from jobrunner.worker.settler import as_row
from jobrunner.worker.stream import Stream
from jobrunner.worker.subscription import Subscription
from jobrunner.worker.task import Runnable

_REGISTER = query("register")
_SUBSCRIBE = query("testing_subscribe")
_COMPARE = query("subscribe")
_PUMP = query("testing_pump")
_SEQUENCE = query("sequence")
_REPLAY_STEP = query("replay_step")
_PROMOTE = query("testing_promote")
_SEAT = query("testing_seat")
_LOOK = query("testing_look")
_CLAIM = query("claim")
_LOAD_DELIVERIES = query("load_deliveries")
_STREAM_BATCH = query("stream_batch")
_FINISH = query("testing_finish")
_SETTLE = query("testing_settle")
_PUT_ELSEWHERE = query("testing_put_elsewhere")
_DEPART = query("testing_depart")
_PUT_OFF = query("testing_put_off")
_RESTORE = query("testing_restore")
_WRITE_PROGRESS = query("write_progress")

_EVENTS = 1000  # in one step of the sequencer, as in a runner's


@dataclass(frozen=True, slots=True)
class Look:
    """What a drain sees before its next step."""

    at: datetime
    """The server's clock."""
    due_in: timedelta | None
    """How far that is from the next scheduled job of its tasks."""
    last_id: int
    """Of all jobs so far."""
    queues: list[str]
    """Those with a ready job, once for each priority of it, in the order in which they are asked."""
    priorities: list[int]
    """To them."""
    seqs: list[int]
    """Where the first job of each stands in the ready order."""


def register(conn: Sync, app: str) -> int:
    """A runner for one drain, which the settlements are fenced by; it goes with the transaction."""
    runner = secrets.randbits(62)
    about: dict[str, Any] = {
        "runner": runner,
        "ttl": timedelta(days=1),
        "slots": 1,
        "app": app,
        "host": "test",
        "pid": conn.info.backend_pid,
        "version": VERSION,
        "queues": None,
        "tasks": Jsonb([]),  # two tests that write the same row of tasks would wait for each other
        "about": Jsonb({}),
    }
    conn.execute(_REGISTER, about)
    return runner


def subscribe(conn: Sync, one: Subscription[Any, Any]) -> str:
    """Make *one* known in this transaction; returns the name that it has here.

    Raises:
        ConfigError: the database has another declaration of it, committed.
    """
    params = subscribe_params(one.declaration)
    ((name, is_new, is_behind),) = conn.execute(_SUBSCRIBE, params).fetchall()
    if not is_new:
        ((found,),) = conn.execute(_COMPARE, {**params, "name": name}).fetchall()
        if found:
            problem = f"is in this database with another declaration: {differences(found)}; `jobrunner subs apply APP` changes it"
            raise ConfigError(f"subscription {one.name}", problem)
    elif is_behind and isinstance(one, Stream):
        conn.execute(_PUMP, {"name": name})
    return str(name)


def sequence(conn: Sync) -> None:
    """Make every delivery: of walks over the log first, which lie further back, then of everything that waits in the outbox."""
    last = False
    while True:
        step = Step(*conn.execute(_REPLAY_STEP, {"n": _EVENTS, "last": last}).fetchall()[0])
        if step.walk is None and not last:
            break
        last = step.near
    params = {"n": _EVENTS, "floor": 0, "alone": False, "base": 0, "passed": []}
    while conn.execute(_SEQUENCE, params).fetchall()[0][0]:
        pass


def look(conn: Sync, ahead: timedelta, tasks: Iterable[str]) -> Look:
    """Promote what is due by a clock that is *ahead* of the server's, seat what has arrived, and see what there is."""
    conn.execute(_PROMOTE, {"ahead": ahead})
    conn.execute(_SEAT)
    return Look(*conn.execute(_LOOK, {"tasks": list(tasks)}).fetchall()[0])


def claim(conn: Sync, runner: int, seen: Look, tasks: Mapping[str, Runnable]) -> Claimed | None:
    """The next job, with its event or its batch."""
    params = {
        "runner": runner,
        "n": 1,
        "queues": seen.queues,
        "priorities": seen.priorities,
        "floors": [seq - 1 for seq in seen.seqs],  # not over all that this transaction has claimed before
        "tasks": list(tasks),
        "versions": [task.version for task in tasks.values()],
        "plain": False,
    }
    found = conn.execute(_CLAIM, params).fetchone()
    if found is None:
        return None
    job = Claimed(*found)
    task = tasks[job.task]
    if isinstance(task, Stream):
        rows = conn.execute(_STREAM_BATCH, {"name": job.task, "n": task.batch}).fetchall()
        if rows:
            job.batch = Batch(rows[0][0], rows[0][1], [Recorded(*row[2:]) for row in rows if row[2] is not None])
    elif isinstance(task, Subscription):
        for _, *columns in conn.execute(_LOAD_DELIVERIES, {"args": [job.args]}).fetchall():
            job.event = Recorded(*columns)
    return job


def settle(conn: Sync, runner: int, job: Claimed, settlement: Settlement | None, ahead: timedelta) -> None:
    """Write how a run of *job* ended; None: it was finished in place. What waits, waits by a clock that is *ahead*."""
    if settlement is None:
        conn.execute(_DEPART, {"runner": runner, "ids": [job.id]})
    elif settlement.state is State.SUCCEEDED and not settlement.keyed:
        result = None if settlement.result is None else [json.dumps(settlement.result)]
        conn.execute(_FINISH, {"runner": runner, "ids": [job.id], "attempts": [job.attempt], "results": result})
    elif settlement.place is not None and settlement.delay is not None:
        params = elsewhere_params(runner, as_row(settlement), settlement.place)
        conn.execute(_PUT_ELSEWHERE, {**params, "delay": settlement.delay + ahead})
    else:
        row = as_row(settlement)
        if settlement.delay is not None:
            row["delay"] = (settlement.delay + ahead).total_seconds()
        conn.execute(_SETTLE, {"runner": runner, "rows": Jsonb([row])})


def put_off(conn: Sync, after: int, ahead: timedelta) -> None:
    """Let what was enqueued for later, behind the job *after*, count from a clock that is *ahead*."""
    if ahead:
        conn.execute(_PUT_OFF, {"after": after, "ahead": ahead})


def idle_limit(conn: Sync) -> str:
    """How long the session may idle in a transaction, as it is set."""
    return str(conn.execute("select current_setting('idle_in_transaction_session_timeout')").fetchall()[0][0])


def restore(conn: Sync, idle: str) -> None:
    """Take back what a handler's transaction has set for the rest of it."""
    conn.execute(_RESTORE, {"idle": idle})


def write_progress(conn: Sync, progress: Iterable[dict[str, Json]]) -> None:
    """How far jobs said they are."""
    if rows := list(progress):
        conn.execute(_WRITE_PROGRESS, {"rows": Jsonb(rows)})
