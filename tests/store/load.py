"""Load: threads that do the same things again and again, each on a session of its own, until a test has seen enough."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from tests.conftest import Connect
from tests.store.calls import Connection

Work: TypeAlias = Callable[[Connection, random.Random, int], None]
"""One round: takes a session, dice, and the number of its thread, from 1 on."""


class Load:
    """What the rounds share: when to publish no more, when it is over, and what went wrong."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self.quiet, self.over = threading.Event(), threading.Event()
        self.errors: list[BaseException] = []

    @contextmanager
    def running(self, *works: Work) -> Iterator[None]:
        """A thread for each of *works*, till the end of the block; fails the test if one of them failed."""
        threads = [threading.Thread(target=self._rounds, args=args) for args in enumerate(works, 1)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join()
        assert self.errors == []

    def _rounds(self, number: int, work: Work) -> None:
        dice = random.Random(number)
        try:
            own = self._connect()
            while not self.over.is_set():
                work(own, dice, number)
        except BaseException as error:
            self.errors.append(error)
