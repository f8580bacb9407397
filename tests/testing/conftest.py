"""The fixtures of the plugin, on the database that tests share and roll back: so these also show that nothing is left."""

from __future__ import annotations

import pytest


@pytest.fixture
def jobrunner_dsn(_shared_dsn: str) -> str:
    """The migrated database of the run."""
    return _shared_dsn
