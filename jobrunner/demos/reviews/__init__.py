"""The bulk review import of a hotel-reviews service: `jobrunner demo reviews`, described in docs/demo-reviews.md.

    source ─► submit ─► import_file ─► 8 × import_chunk ─► reviews.reviews, reviews.import_errors
    examine   one tx    split, watch   read, check, store  100 lines a transaction

`jobrunner run jobrunner.demos.reviews:app` on another machine that sees the file helps an import along.
"""

from __future__ import annotations

from jobrunner.demos.reviews.command import command
from jobrunner.demos.reviews.tasks import app, submit

__all__ = ["app", "command", "submit"]
