"""One call's attempts: each takes a place at the gate, and the time spent waiting there is not the endpoint's.

The deadline of a call runs while it is on the wire and during the pauses between its attempts, and stands still at the gate.
"""

from __future__ import annotations

import asyncio
import time
from email.utils import parsedate_to_datetime

import httpx2
import msgspec

from .gate import Gate, Place
from .wire import Answer


class Attempts:
    """The attempts of one call.

    Args:
        gate: Whose places are used.
        role: Whose call it is.
        timeout_s: Seconds that one attempt may take.
        deadline_s: Seconds that the call may take.
        tokens: Estimate of what one attempt is counted for; 0 where nobody counts.

    Attributes:
        timeout_s: As given.
    """

    __slots__ = ("_deadline_s", "_gate", "_left_s", "_role", "_started", "_timer", "_tokens", "timeout_s")

    def __init__(self, gate: Gate, role: str, timeout_s: float, deadline_s: float, tokens: float = 0.0) -> None:
        self._gate = gate
        self._role = role
        self.timeout_s = timeout_s
        self._tokens = tokens
        self._left_s = self._deadline_s = deadline_s
        self._started: float | None = None
        self._timer: asyncio.Timeout | None = None

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
            tokens = total_tokens(answer.body) if self._tokens else None
            self._gate.leave(place, status=answer.status, tokens=tokens)
        else:
            self._gate.leave(place, status=answer.status, retry_after_s=retry_after(answer, time.time()))

    def failed(self, place: Place, error: BaseException) -> None:
        """Gives the place back after an attempt without an answer."""
        self._gate.leave(place, timed_out=isinstance(error, httpx2.TimeoutException))


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


class _Usage(msgspec.Struct, gc=False):
    total_tokens: int | None = None


class _Billed(msgspec.Struct, gc=False):
    usage: _Usage | None = None


_BILLED = msgspec.json.Decoder(_Billed)


def total_tokens(body: bytes) -> float | None:
    """The tokens that a server says it counted; None if it does not say."""
    try:
        usage = _BILLED.decode(body).usage
    except msgspec.MsgspecError:
        return None
    return None if usage is None else usage.total_tokens


def _until(date: str, now: float) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
