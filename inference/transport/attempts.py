"""The attempts of one call: places at the gate, time, budget and number of retries.

The deadline of a call runs while it is on the wire and during the pauses between its attempts. It does not run while the call
waits at the gate.
"""

from __future__ import annotations

import asyncio
import copy
import time

import httpx2

from ...core.errors import CallFailed, DuologueError
from ..answers import Counted, read_usage
from ..budget.budget import Account
from .bounds import Bounds
from .connections import Answer
from .limiter import Limiter, Place
from .retries import pause_s, retry_after

_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.ProxyError,
    httpx2.InvalidURL,
    UnicodeError,
    DuologueError,
)


class Attempts:
    """The attempts of one call.

    Args:
        gate: The limiter.
        role: Role of the call.
        timeout_s: Seconds that one attempt may take.
        deadline_s: Seconds that the call may take.
        tokens: Estimate of what one attempt is counted for; 0 where nobody counts.
        bounds: The client's; by default nothing ends the run, and retries are free.
        account: Where attempts are booked; None where nobody counts.

    Attributes:
        timeout_s: The given limit in seconds.
        retries: Further attempts after a failure so far.
    """

    __slots__ = (
        "_account",
        "_bounds",
        "_deadline_s",
        "_last",
        "_left_s",
        "_limiter",
        "_role",
        "_started",
        "_tokens",
        "retries",
        "timeout_s",
    )

    def __init__(
        self,
        gate: Limiter,
        role: str,
        timeout_s: float,
        deadline_s: float,
        tokens: float = 0.0,
        bounds: Bounds | None = None,
        account: Account | None = None,
    ) -> None:
        self._limiter = gate
        self._role = role
        self.timeout_s = timeout_s
        self._tokens = tokens
        self._left_s = self._deadline_s = deadline_s
        self._started: float | None = None
        self.retries = 0
        self._bounds = bounds
        self._account = account
        self._last = "no answer"

    @property
    def latency_s(self) -> float:
        """Seconds that the call has taken so far, without waiting for the limiter."""
        running = 0.0 if self._started is None else time.monotonic() - self._started
        return self._deadline_s - self._left_s + running

    @property
    def left_s(self) -> float:
        """Seconds that are left of the deadline."""
        return self._deadline_s - self.latency_s

    @property
    def bound_s(self) -> float:
        """Seconds that the attempt which begins now may take."""
        return min(self.timeout_s, self.left_s)

    @property
    def over(self) -> bool:
        """Whether the deadline has passed."""
        return self.left_s <= 0

    async def begin(self) -> Place:
        """Takes a place for an attempt, and sets its cost aside.

        Raises:
            RunStopped: If there is no budget for it, or the run was told to end.
        """
        place = self.try_enter() or await self.enter()
        try:
            if self._account is not None:
                await self._account.open()
            if self._bounds is not None and self._bounds.stopped is not None:
                self._nobody_bills()
                raise copy.copy(self._bounds.stopped)
        except BaseException:
            self._limiter.leave(place)
            raise
        return place

    def cancel(self, place: Place) -> None:
        """Gives the place of an attempt back that is not made."""
        self._nobody_bills()
        self._limiter.leave(place)

    async def retry(self, answer: Answer | None = None) -> bool:
        """Waits before the next attempt.

        Args:
            answer: The refusal, which may say how long to wait.

        Returns:
            Whether there is time for another attempt before the deadline.

        Raises:
            CallFailed: If the run's retries are used up.
        """
        if self._bounds is not None and not self._bounds.retries.take():
            retries = self._bounds.retries
            raise CallFailed(
                f"a call failed ({self._last}) and is not tried again: the run's {retries.taken} retries for "
                f"{retries.calls} calls are all that `inference.retries` allows"
            )
        seconds = pause_s(self.retries, answer)
        if seconds >= self.left_s:
            return False
        self.retries += 1
        await asyncio.sleep(seconds)
        return True

    async def count_refused(self) -> None:
        """Books one request without tokens: it was refused for a parameter, and is sent again without it.

        Raises:
            RunStopped: If there is no budget for it.
        """
        if self._account is not None:
            await self._account.open()
            self._account.refused()

    def unreadable(self, reason: str) -> None:
        """Notes why an answer could not be used, for the message of a call that is given up."""
        self._last = reason

    def _nobody_bills(self) -> None:
        if self._account is not None:
            self._account.free()

    def try_enter(self) -> Place | None:
        """A place if one is free now, else None; the clock runs from the first place on."""
        place = self._limiter.try_enter(self._role, self._tokens)
        if place is not None and self._started is None:
            self._start_clock(place.sent_at)
        return place

    async def enter(self) -> Place:
        """Waits for a place; the clock stands still meanwhile."""
        self._stop_clock()
        place = await self._limiter.enter(self._role, self._tokens)
        self._start_clock(place.sent_at)
        return place

    def _start_clock(self, now: float) -> None:
        self._started = now

    def _stop_clock(self) -> None:
        if self._started is not None:
            self._left_s -= time.monotonic() - self._started
            self._started = None

    def answered(self, place: Place, answer: Answer) -> None:
        """Gives the place back after an answer of any status."""
        if answer.status < 400:
            usage = read_usage(answer.body) if self._tokens or self._account is not None else None
            self._limiter.leave(place, status=answer.status, tokens=None if usage is None else usage.total)
            if self._account is not None:
                self._settle(self._account, usage)
        else:
            self._last = f"status {answer.status}"
            self._nobody_bills()
            self._limiter.leave(place, status=answer.status, retry_after_s=retry_after(answer, time.time()))

    def failed(self, place: Place, error: BaseException) -> None:
        """Gives the place back after an attempt without an answer."""
        self._limiter.leave(place, timed_out=isinstance(error, httpx2.TimeoutException))
        self._last = f"{error}" or type(error).__name__
        if self._account is None:
            return
        if isinstance(error, _NEVER_SENT):
            self._account.free()
        else:
            self._account.unknown()

    @staticmethod
    def _settle(account: Account, usage: Counted | None) -> None:
        """Settles an attempt with the server's usage; without usage the reserved amount counts."""
        billed = None if usage is None else usage.billed
        if billed is None:
            account.unknown()
        else:
            account.billed(*billed)
