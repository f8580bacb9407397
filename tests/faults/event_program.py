"""What the runners of the event storm run: three ways to subscribe, each with its effect in its own fenced transaction."""

from __future__ import annotations

import os
import random

from jobrunner import App, Backoff, Context, Event

SOON = Backoff(attempts=1000, base="5ms", cap="50ms")
GOT = "insert into t_got (subscription, n, who, pid) values (%s, %s, %s, %s)"

app = App("facts")


class Fact(Event, name="fact.noted", key="who"):
    who: str
    n: int


def _row(ctx: Context, fact: Fact) -> list[object]:
    return [ctx.task, fact.n, fact.who, os.getpid()]


@app.on(Fact, ordered=True, retry=SOON, on_lease_uncertain="continue", start="beginning")
async def ordered(ctx: Context, event: Fact) -> None:
    async with ctx.transaction() as tx:
        await tx.execute(GOT, _row(ctx, event))
        if random.random() < 0.05:
            raise RuntimeError("now and then")


@app.on("fact.*", retry=SOON, on_lease_uncertain="continue", start="beginning")
def unordered(ctx: Context, event: Fact) -> None:
    with ctx.transaction() as tx:
        tx.execute(GOT, _row(ctx, event))


@app.stream(Fact, batch=20, retry=SOON, on_lease_uncertain="continue", start="beginning")
async def stream(ctx: Context, events: list[Fact]) -> None:
    async with ctx.transaction() as tx:
        for fact in events:
            await tx.execute(GOT, _row(ctx, fact))
