"""How long the slots of a rollout were occupied."""

from __future__ import annotations

import asyncio
import time


class Occupancy:
    """Σ seconds in which slots were occupied: the integral of their number over time.

    Attributes:
        count: How many are occupied now.
    """

    def __init__(self) -> None:
        self.count, self._seconds, self._since = 0, 0.0, time.perf_counter()
        self._nobody: asyncio.Event | None = None

    def restart(self) -> None:
        """Counts from zero; slots that are occupied stay so."""
        self._seconds, self._since = 0.0, time.perf_counter()

    def seconds(self) -> float:
        """The sum up to now."""
        self.change(0)
        return self._seconds

    def change(self, by: int) -> None:
        """So many slots more, or less, are occupied from now on."""
        now = time.perf_counter()
        self._seconds += self.count * (now - self._since)
        self._since = now
        self.count += by
        if self.count == 0 and self._nobody is not None:
            self._nobody.set()

    async def nobody(self) -> None:
        """Waits until no slot is occupied."""
        self._nobody = asyncio.Event()
        if self.count:
            await self._nobody.wait()
