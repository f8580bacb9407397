"""A gate that is open while nobody holds it shut, and knows who does."""

from __future__ import annotations

import asyncio


class Gate:
    """Shut while at least one reason holds it."""

    def __init__(self) -> None:
        self._reasons: set[str] = set()
        self.opened = asyncio.Event()
        """Set while it is open."""
        self.opened.set()

    @property
    def is_open(self) -> bool:
        """Whether nothing holds it."""
        return not self._reasons

    @property
    def reasons(self) -> frozenset[str]:
        """What holds it."""
        return frozenset(self._reasons)

    def hold(self, reason: str) -> None:
        """Shut it for *reason*."""
        self._reasons.add(reason)
        self.opened.clear()

    def release(self, reason: str) -> None:
        """*reason* no longer holds it."""
        self._reasons.discard(reason)
        if not self._reasons:
            self.opened.set()

    async def wait(self) -> None:
        """Return when it is open."""
        await self.opened.wait()
