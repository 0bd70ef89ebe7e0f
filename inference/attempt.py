"""One call's attempts: each takes a place at the gate, and the time spent waiting there is not the endpoint's.

The deadline of a call runs while it is on the wire and during the pauses between its attempts, and stands still at the gate.
"""

from __future__ import annotations

import asyncio
import time
from email.utils import parsedate_to_datetime

import httpx2

from .bounds import Bounds, Halt
from .budget import Account
from .counted import Counted, read_usage
from .errors import BudgetSpent, CallFailed
from .gate import Gate, Place
from .wire import Answer

_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)


class Attempts:
    """The attempts of one call.

    Args:
        gate: Whose places are used.
        role: Whose call it is.
        timeout_s: Seconds that one attempt may take.
        deadline_s: Seconds that the call may take.
        tokens: Estimate of what one attempt is counted for; 0 where nobody counts.
        bounds: The client's; by default nothing ends the run, and retries are free.
        account: Where attempts are booked; None where nobody counts.

    Attributes:
        timeout_s: As given.
    """

    __slots__ = (
        "_account",
        "_bounds",
        "_deadline_s",
        "_gate",
        "_last",
        "_left_s",
        "_role",
        "_started",
        "_timer",
        "_tokens",
        "timeout_s",
    )

    def __init__(
        self,
        gate: Gate,
        role: str,
        timeout_s: float,
        deadline_s: float,
        tokens: float = 0.0,
        bounds: Bounds | None = None,
        account: Account | None = None,
    ) -> None:
        self._gate = gate
        self._role = role
        self.timeout_s = timeout_s
        self._tokens = tokens
        self._left_s = self._deadline_s = deadline_s
        self._started: float | None = None
        self._timer: asyncio.Timeout | None = None
        self._bounds = bounds
        self._account = account
        self._last = "no answer"

    @property
    def latency_s(self) -> float:
        """Seconds that the call has taken so far, waiting at the gate left out."""
        running = 0.0 if self._started is None else time.monotonic() - self._started
        return self._deadline_s - self._left_s + running

    @property
    def bound_s(self) -> float:
        """Seconds that the next attempt may take; outside `deadline` it holds the deadline, too."""
        return self.timeout_s if self._timer is not None else min(self.timeout_s, self._left_s)

    @property
    def over(self) -> bool:
        """Whether the deadline has passed."""
        return self.latency_s >= self._deadline_s

    def deadline(self) -> asyncio.Timeout:
        """A context that raises TimeoutError when the deadline is over."""
        left_s = self._deadline_s - self.latency_s
        now = asyncio.get_running_loop().time()
        self._timer = asyncio.timeout_at(None if self._started is None else now + left_s)
        return self._timer

    async def begin(self) -> Place:
        """Takes a place for an attempt and books it: what waits for a place is not set aside.

        Raises:
            Halt: If there is no budget for it, or the run was told to end.
        """
        place = self.try_enter() or await self.enter()
        try:
            if self._account is not None:
                await self._account.open()
            if self._bounds is not None and self._bounds.stopped is not None:
                self._nobody_bills()
                raise Halt(self._bounds.stopped)
        except BudgetSpent as error:
            self._gate.leave(place)
            raise Halt(error) from None
        except BaseException:
            self._gate.leave(place)
            raise
        return place

    def check_retry(self) -> None:
        """Takes one retry from the run's budget.

        Raises:
            Halt: If there is none left.
        """
        if self._bounds is not None and not self._bounds.retries.take():
            retries = self._bounds.retries
            raise Halt(
                CallFailed(
                    f"a call failed ({self._last}) and is not tried again: the run's {retries.taken} retries for "
                    f"{retries.calls} calls are all that `inference.retries` allows"
                )
            )

    def _nobody_bills(self) -> None:
        if self._account is not None:
            self._account.free()

    def try_enter(self) -> Place | None:
        """A place if one is free now, else None; the clock runs from the first place on."""
        place = self._gate.try_enter(self._role, self._tokens)
        if place is not None and self._started is None:
            self._start_clock(place.sent_at)
        return place

    async def enter(self) -> Place:
        """Waits for a place; the clock stands still meanwhile."""
        self._stop_clock()
        place = await self._gate.enter(self._role, self._tokens)
        self._start_clock(place.sent_at)
        return place

    def _start_clock(self, now: float) -> None:
        self._started = now
        if self._timer is not None:
            self._timer.reschedule(asyncio.get_running_loop().time() + self._left_s)

    def _stop_clock(self) -> None:
        if self._started is not None:
            self._left_s -= time.monotonic() - self._started
            self._started = None
            if self._timer is not None:
                self._timer.reschedule(None)

    def answered(self, place: Place, answer: Answer) -> None:
        """Gives the place back after an answer of any status."""
        if answer.status < 400:
            usage = read_usage(answer.body) if self._tokens or self._account is not None else None
            self._gate.leave(place, status=answer.status, tokens=None if usage is None else usage.total)
            if self._account is not None:
                self._settle(self._account, usage)
        else:
            self._last = f"status {answer.status}"
            self._nobody_bills()
            self._gate.leave(place, status=answer.status, retry_after_s=retry_after(answer, time.time()))

    def failed(self, place: Place, error: BaseException) -> None:
        """Gives the place back after an attempt without an answer."""
        self._gate.leave(place, timed_out=isinstance(error, httpx2.TimeoutException))
        self._last = f"{error}" or type(error).__name__
        if self._account is None:
            return
        if isinstance(error, _NEVER_SENT):
            self._account.free()
        else:
            self._account.unknown()

    @staticmethod
    def _settle(account: Account, usage: Counted | None) -> None:
        """Books what the server says it counted; a redirect and a server that does not count are booked as set aside."""
        billed = None if usage is None else usage.billed
        if billed is None:
            account.unknown()
        else:
            account.billed(*billed)


def retry_after(answer: Answer, now: float) -> float | None:
    """The seconds that a server asks to wait, by ``retry-after-ms``, else ``retry-after`` as seconds or as a date.

    Args:
        answer: The refusal.
        now: Seconds since the epoch.
    """
    for name, scale in ((b"retry-after-ms", 1e-3), (b"retry-after", 1.0)):
        value = answer.header(name)
        if value is None:
            continue
        try:
            return float(value) * scale
        except ValueError:
            if scale == 1.0:
                return _until(value, now)
    return None


def _until(date: str, now: float) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
