"""The app of test_storm, for worker processes: its task notes when it starts and how it ends."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import procrastinate
import psycopg
from procrastinate import JobContext, RetryDecision
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy

from jobrunner.procrastinate import JobrunnerConnector

app = procrastinate.App(
    connector=JobrunnerConnector(min_size=1, max_size=6),
    worker_defaults={
        "concurrency": 5,
        "update_heartbeat_interval": 1,
        "fetch_job_polling_interval": 1,
        "abort_job_polling_interval": 1,
    },
)
QUEUES = ("default", "other")
_noted_on: list[psycopg.Connection[Any]] = []


class Moves(BaseRetryStrategy):
    """Twice, soon, somewhere else."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Where and when."""
        if job.attempts >= 2:
            return None
        soon = random.randint(0, 300)
        return RetryDecision(
            retry_in={"milliseconds": soon}, queue=random.choice(QUEUES), priority=random.randint(-3, 3)
        )


def note(job: Job, what: str) -> None:
    """A row of t_run, at once."""
    while True:
        if not _noted_on or _noted_on[0].closed:
            _noted_on[:] = [psycopg.connect(os.environ["JOBRUNNER_DSN"], autocommit=True)]
        try:
            row = [job.id, job.lock, what, os.getpid()]
            _noted_on[0].execute("insert into t_run (job_id, lock, what, pid) values (%s, %s, %s, %s)", row)
            return
        except psycopg.OperationalError:  # it was cut off too
            _noted_on[0].close()


@app.task(name="work", pass_context=True, retry=Moves())
async def work(context: JobContext, ms: int, failures: int) -> None:
    """Takes *ms*, and fails so often."""
    note(context.job, "start")
    try:
        await asyncio.sleep(ms / 1000)
    except asyncio.CancelledError:
        note(context.job, "cancelled")
        raise
    if context.job.attempts < failures:
        note(context.job, "failed")
        raise ValueError("not yet")
    note(context.job, "end")
