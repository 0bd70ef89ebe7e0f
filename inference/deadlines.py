"""Time limits for thousands of requests at once, kept by one timer.

Most requests end in time, and most have the same limit: a timer each, as `asyncio.timeout` and aiohttp set it, is a
noticeable part of what a request costs.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Deadlines:
    """The limits of what is under way on one event loop."""

    def __init__(self) -> None:
        self._running: set[Limit] = set()
        self._timer: asyncio.TimerHandle | None = None

    def limit(self, seconds: float) -> Limit:
        """A context that raises TimeoutError after so many seconds, as `asyncio.timeout` does."""
        return Limit(self, seconds)

    def _begin(self, limit: Limit) -> None:
        self._running.add(limit)
        if self._timer is None or limit.at < self._timer.when():
            self._set(limit.at)

    def _end(self, limit: Limit) -> None:
        self._running.discard(limit)

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at, self._look)

    def _look(self) -> None:
        """Ends what is over, and sets the timer for what will be over first."""
        self._timer, now = None, asyncio.get_running_loop().time()
        for limit in [limit for limit in self._running if limit.at <= now]:
            self._running.discard(limit)
            limit.expire()
        if self._running:
            self._set(min(limit.at for limit in self._running))


class Limit:
    """The time limit of the task that enters it; see `Deadlines.limit`."""

    __slots__ = ("_cancelling", "_deadlines", "_expired", "_seconds", "_task", "at")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self._expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task that it can end")
        self._task, self._cancelling = task, task.cancelling()
        self.at = asyncio.get_running_loop().time() + self._seconds
        self._deadlines._begin(self)
        return self

    def expire(self) -> None:
        """Ends the task's wait."""
        self._expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines._end(self)
        # cancelled by us alone, not by somebody else at the same time
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
