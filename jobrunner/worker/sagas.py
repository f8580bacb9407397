"""The part of an app that declares sagas: processes over several events, whose state lives in the database."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TypeVar, cast

import pydantic

from jobrunner.policy.backoff import Backoff
from jobrunner.policy.models import Json
from jobrunner.policy.subscriptions import Declaration, OnDead, OnLag, Start
from jobrunner.worker.registry import Registry
from jobrunner.worker.saga import DeclaredSaga, SagaSubscription, Sender

S = TypeVar("S", bound=pydantic.BaseModel)


class Sagas(Registry):
    """What an app can declare about processes."""

    def saga(
        self,
        name: str,
        *,
        state: type[S],
        queue: str = "events",
        priority: int = 0,
        retry: Backoff | None = None,
        on_dead: OnDead = "block_key",
        start: Start = "now",
        match: Mapping[str, Json] | None = None,
        on_lag: OnLag = "hold",
    ) -> DeclaredSaga[S]:
        """A kind of saga, `app.name`: an ordered subscription fed by every event that one of its handlers takes.

        A saga is found by the key of an event, and its events come one at a time, in the order of the log. Each step is one
        transaction: its row, what it enqueues and publishes, and the end of the delivery. *state*: a pydantic model of what it
        remembers; a start may leave required fields to the handler. *on_dead*: a step that dies keeps its key, and what
        comes later waits for a person. It takes no replays. The rest is as in `on`; the handlers are declared by what
        this returns, and those that start a saga come first.
        """
        full = f"{self.name}.{name}"
        declare = partial(
            Declaration,
            name=full,
            app=self.name,
            mode="queue",
            match=match,
            queue=queue,
            priority=priority,
            retry=retry or Backoff(),
            ordered=True,
            on_dead=on_dead,
            replay=False,
            on_lag=on_lag,
            start=start,
        )
        return DeclaredSaga(
            full,
            state,
            lambda types: declare(types=types),
            self._register_saga,
            self._upcasters,
            cast("Sender", self),  # every App is one; this floor of it does not know what the others can
        )

    def _register_saga(self, made: SagaSubscription) -> None:
        """Its first handler registers it; each further one puts a new value in its place, with one more event."""
        before = self.tasks.get(made.name)
        if isinstance(before, SagaSubscription) and before.function == made.function:
            self.tasks[made.name] = made
        else:
            self._add(made)
