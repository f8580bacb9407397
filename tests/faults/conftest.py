"""The rig on the run's server, and on a server of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner.embedded import EmbeddedServer
from tests.faults.rig import Rig


@pytest.fixture
def rig(dsn: str, tmp_path: Path) -> Iterator[Rig]:
    """Runners and oracle on a fresh database."""
    with Rig(dsn, tmp_path) as made:
        yield made


@pytest.fixture
def lone(server: EmbeddedServer, tmp_path: Path) -> Iterator[Rig]:
    """Runners and oracle on a server that the test may break."""
    with Rig(server.dsn, tmp_path) as made:
        yield made
