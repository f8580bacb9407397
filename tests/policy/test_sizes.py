"""Sizes read what people write, and refuse the rest with a sentence."""

from __future__ import annotations

import pytest

from jobrunner.errors import ConfigError
from jobrunner.policy.sizes import size, told


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("500MB", 500_000_000),
        ("1.5GB", 1_500_000_000),
        (" 512 MiB ", 512 * 2**20),
        ("2gib", 2 * 2**30),
        ("800kB", 800_000),
        ("1KiB", 1024),
        ("70b", 70),
    ],
)
def test_a_number_and_a_unit_are_bytes(written: str, meant: int) -> None:
    assert size(written) == meant


@pytest.mark.parametrize(
    "written", ["", "500", "MB", "-1MB", "1e9MB", "5 TB", "1,5GB", "0MB", "٣MB", "9999999GB", "1MB 2kB"]
)
def test_anything_else_is_refused_by_name(written: str) -> None:
    with pytest.raises(ConfigError, match="--max-rss"):
        size(written, what="--max-rss")


def test_a_size_is_told_in_whole_megabytes() -> None:
    assert told(83_400_000) == "83MB"
