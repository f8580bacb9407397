"""What caused a job that is deferred here: the job whose code is running, under either kind of worker."""

from __future__ import annotations

from jobrunner.procrastinate import claims
from jobrunner.procrastinate.claims import Claim
from jobrunner.worker import context


def current() -> Claim | None:
    """The claim of the job whose code is running here; None outside of one."""
    ctx = context.current.get()
    if ctx is None or not ctx.job_id:
        return claims.current()
    return claims.current() or Claim(ctx.job_id, ctx.attempt, ctx.runner_id, ctx.correlation_id)
