"""A stream: a subscription that takes batches from the log, and moves its cursor in the transaction of whoever handles them.

It runs as one job at a time (the key is its name), which the sequencer makes when something was recorded for it. A batch that
fails is retried like any job; one that is dead pauses the stream.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from jobrunner.policy.models import Claimed
from jobrunner.policy.outcomes import Answer, Outcome, Reject
from jobrunner.worker.context import Context
from jobrunner.worker.subscription import Subscription


@dataclass(frozen=True, slots=True, eq=False)
class Stream(Subscription[Any, Any]):
    """A registered handler of batches."""

    batch: int = 100
    """Events at a time, at the most."""
    handler: Callable[..., Any] = field(init=False)
    """What was decorated; `function` also moves the cursor when the handler has not done so."""

    def __post_init__(self) -> None:
        super(Stream, self).__post_init__()
        object.__setattr__(self, "handler", self.function)
        object.__setattr__(self, "function", self._run_async if self.is_async else self._run)

    def __call__(self, ctx: Context, events: Any, /) -> Any:
        """Call the function itself."""
        return self.handler(ctx, events)

    def refuse(self, job: Claimed) -> Outcome | None:
        """As of a subscription: an event that is too new makes the whole batch wait."""
        if job.batch is None:
            return Reject("the stream is no longer subscribed")
        return next((refused for event in job.batch.events if (refused := self.refuse_version(event))), None)

    def read(self, job: Claimed) -> dict[str, Any]:
        """The payloads of the batch. Raises InvalidArguments: `op_skip` lets a stream pass over an event."""
        assert job.batch is not None  # refuse has been asked
        return {self.parameter: [self.payload(event) for event in job.batch.events]}

    async def _run_async(self, ctx: Context, **batch: list[Any]) -> Any:
        answer: Any = None
        if batch[self.parameter]:
            doing: Awaitable[Any] = self.handler(ctx, **batch)
            answer = await doing
        if not ctx.finished and not isinstance(answer, Answer):
            async with ctx.transaction():
                pass
        return answer

    def _run(self, ctx: Context, **batch: list[Any]) -> Any:
        answer = self.handler(ctx, **batch) if batch[self.parameter] else None
        if not ctx.finished and not isinstance(answer, Answer):
            with ctx.transaction():
                pass
        return answer
