"""Who takes part, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench.contenders import bare_sql, graphile_worker, jobrunner, pgqueuer, procrastinate
from tests.bench.rounds import Contender
from tests.bench.starts import Starter

CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        jobrunner.CONTENDER,
        bare_sql.CONTENDER,
        graphile_worker.CONTENDER,
        pgqueuer.CONTENDER,
        procrastinate.CONTENDER,
    )
}
"""Of bin/bench drain."""

ENQUEUERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (jobrunner.ENQUEUE, graphile_worker.ENQUEUE, pgqueuer.ENQUEUE, procrastinate.ENQUEUE)
}
"""Of bin/bench enqueue."""

STARTERS: dict[str, Starter] = {
    starter.name: starter for starter in (jobrunner.START, graphile_worker.START, pgqueuer.START)
}
"""Of bin/bench latency."""

BUSY: dict[str, Callable[[int, int], Contender]] = {
    jobrunner.NAME: jobrunner.busy,
    graphile_worker.NAME: graphile_worker.busy,
    pgqueuer.NAME: pgqueuer.busy,
    procrastinate.NAME: procrastinate.busy,
}
"""Of bin/bench handlers, by slots and milliseconds."""
