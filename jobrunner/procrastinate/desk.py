"""Which talk answers which of procrastinate's queries: found by the query's text, as its own in-memory connector does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from procrastinate import exceptions, schema, sql

from jobrunner.errors import InvalidJob
from jobrunner.procrastinate import deferring, ending, reading
from jobrunner.procrastinate.claims import Claims
from jobrunner.procrastinate.talks import Talk
from jobrunner.procrastinate.workers import Workers

SUPPORTED = "3.5.1 to 3.10"
"""The releases whose queries are known here; pyproject.toml has the same range, and the tests run both ends."""

APPLY_SCHEMA = "apply_schema"
"""procrastinate's whole schema, sent as a query: it means ours here."""

NAMES: dict[str, str] = {
    **{text: name for name, text in sql.queries.items()},
    schema.SchemaManager.get_schema().replace("%", "%%"): APPLY_SCHEMA,
}
"""The name of each query of the procrastinate that is installed, by its text."""


class Desk:
    """Which talk answers which query: what the sync and the async connector have in common."""

    def __init__(
        self, dumps: Callable[..., Any] | None, stir: Callable[[], None], listening: Callable[[], bool]
    ) -> None:
        self.claims = Claims()
        self.workers = Workers(self.claims, stir, listening)
        self._talks: dict[str, Callable[..., Talk]] = {
            "defer_jobs": functools.partial(deferring.defer_jobs, dumps),
            "defer_periodic_job": functools.partial(deferring.defer_periodic_job, dumps),
            "fetch_job": self.workers.fetch_job,
            "finish_job": functools.partial(ending.finish_job, self.claims),
            "retry_job": functools.partial(ending.retry_job, self.claims),
            "cancel_job": ending.cancel_job,
            "get_job_status": reading.get_job_status,
            "list_jobs": reading.list_jobs,
            "list_queues": reading.list_queues,
            "list_tasks": reading.list_tasks,
            "list_locks": reading.list_locks,
            "count_jobs_status": reading.count_jobs_status,
            "list_jobs_to_abort": reading.list_jobs_to_abort,
            "select_stalled_jobs_by_started": reading.select_stalled_jobs_by_started,
            "select_stalled_jobs_by_heartbeat": reading.select_stalled_jobs_by_heartbeat,
            "delete_old_jobs": reading.delete_old_jobs,
            "check_connection": reading.check_connection,
            "register_worker": self.workers.register_worker,
            "unregister_worker": self.workers.unregister_worker,
            "update_heartbeat": self.workers.update_heartbeat,
            "prune_stalled_workers": self.workers.prune_stalled_workers,
        }

    def talk(self, text: str, arguments: dict[str, Any]) -> Talk:
        """The talk that answers the query *text*. Raises ConnectorException for one that has no answer here."""
        name = NAMES.get(text)
        if name not in self._talks:
            named = f"the query {name!r} of procrastinate" if name else f"this query: {' '.join(text.split())[:60]!r}"
            raise exceptions.ConnectorException(
                f"jobrunner does not know {named}; it works with procrastinate {SUPPORTED}: "
                "install one of these, or upgrade jobrunner"
            )
        try:
            return self._talks[name](**arguments)
        except InvalidJob as error:
            raise exceptions.ConnectorException(str(error)) from error
