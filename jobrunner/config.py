"""Where the database is: the one place that reads the environment."""

from __future__ import annotations

import os


def dsn(explicit: str | None = None) -> str:
    """The connection string: *explicit*, else JOBRUNNER_DSN, else DATABASE_URL, else "", which leaves it to libpq's PG*."""
    return explicit or os.environ.get("JOBRUNNER_DSN") or os.environ.get("DATABASE_URL") or ""


def listen_dsn() -> str | None:
    """Where to LISTEN: JOBRUNNER_LISTEN_DSN, a way around a pooler that swallows notifications; None: where all else goes."""
    return os.environ.get("JOBRUNNER_LISTEN_DSN") or None


def http_token(explicit: str | None = None) -> str | None:
    """What one has to show to be answered over HTTP: *explicit*, else JOBRUNNER_HTTP_TOKEN; None: nothing."""
    return explicit or os.environ.get("JOBRUNNER_HTTP_TOKEN") or None
