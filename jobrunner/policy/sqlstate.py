"""What to do about an error of the database: takes its SQLSTATE, returns one of six answers."""

from __future__ import annotations

from enum import StrEnum

LOST_RUNNER = "JR001"
"""Raised by claim_v1: this runner was declared lost."""

NEEDS_READ_COMMITTED = "JR002"
"""Raised by functions whose locking needs it, before they do anything."""


class Trouble(StrEnum):
    """The answers, each for every loop of the runner."""

    RETRY = "retry"
    """Again at once, with jitter: a conflict with another session."""
    SHRINK = "shrink"
    """Again with half the batch: it took too long."""
    RECONNECT = "reconnect"
    """The connection is of no use any more."""
    WAIT = "wait"
    """The server is out of something: back off up to 30 s, stop claiming, keep what is buffered."""
    REFUSED = "refused"
    """The data cannot be stored: write less of it."""
    STOP = "stop"
    """The set-up is wrong: say so and end; trying again cannot help."""


_BY_STATE = {
    "40001": Trouble.RETRY,
    "40P01": Trouble.RETRY,
    "55P03": Trouble.RETRY,
    "57014": Trouble.SHRINK,
    "57P01": Trouble.RECONNECT,
    "57P02": Trouble.RECONNECT,
    "57P03": Trouble.WAIT,  # the server starts or stops
    "25006": Trouble.RECONNECT,  # read-only: after a failover this is the old primary
    "25P03": Trouble.RECONNECT,
    "26000": Trouble.RECONNECT,  # a pooler lost the prepared statement
    "42P05": Trouble.RECONNECT,
    "0A000": Trouble.RECONNECT,  # cached plan must not change result type
    "42501": Trouble.STOP,
    "3F000": Trouble.STOP,
    "42P01": Trouble.STOP,
    "42703": Trouble.STOP,
    "42883": Trouble.STOP,
    "28P01": Trouble.STOP,
    "28000": Trouble.STOP,
    "3D000": Trouble.STOP,
    NEEDS_READ_COMMITTED: Trouble.STOP,
}
_BY_CLASS = {"08": Trouble.RECONNECT, "53": Trouble.WAIT, "22": Trouble.REFUSED, "23": Trouble.REFUSED}


def classify(sqlstate: str | None) -> Trouble:
    """The answer to an error with *sqlstate*; None is an error of the connection itself."""
    if sqlstate is None:
        return Trouble.RECONNECT
    return _BY_STATE.get(sqlstate) or _BY_CLASS.get(sqlstate[:2]) or Trouble.RETRY
