"""What a step of the sequencer that fails leaves to the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import psycopg
import pytest
from psycopg import errors

from jobrunner.policy.floor import Floors, Horizon
from jobrunner.telemetry import Telemetry
from jobrunner.worker.sequencer import BATCH, Sequencer

if TYPE_CHECKING:
    from jobrunner.worker.link import Link


class TooSlow:
    """A link on which every step takes longer than it may; it remembers how many events, and from where."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []

    async def run(self, do: object, most: int, floor: int, *rest: object) -> object:
        self.steps.append((most, floor))
        raise errors.QueryCanceled("canceling statement due to statement timeout")


async def _steps(outbox: int, many: int) -> list[tuple[int, int]]:
    link, floors = TooSlow(), Floors()
    floors.outbox = outbox
    sequencer = Sequencer(cast("Link", link), floors, Horizon(), Telemetry(), lambda: None)
    for _ in range(many):
        with pytest.raises(psycopg.Error):
            await sequencer._step()
    return link.steps


async def test_a_wide_step_that_takes_too_long_is_followed_by_a_narrow_one_of_the_same_size() -> None:
    assert await _steps(7, 3) == [(BATCH, 0), (BATCH, 7), (BATCH // 2, 7)]


async def test_a_runner_that_has_no_floor_yet_makes_its_steps_smaller_all_the_same() -> None:
    assert await _steps(0, 3) == [(BATCH, 0), (BATCH // 2, 0), (BATCH // 4, 0)]
