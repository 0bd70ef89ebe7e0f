"""Limits requests to an endpoint: rate limits, an adaptive number of concurrent requests, a queue."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass


class TokenBucket:
    """A quota that refills steadily; amounts may be corrected afterwards.

    It may go below zero, which later takers wait out: so an amount larger than the bucket is possible, and the mean rate
    holds.

    Args:
        per_minute: Amount that is refilled per minute.
        burst_s: Seconds of inflow that the bucket holds; providers that bill by the minute enforce by the second.
    """

    def __init__(self, per_minute: float, burst_s: float = 1.0) -> None:
        self._per_s = per_minute / 60.0
        self._size = max(1.0, self._per_s * burst_s)
        self._level = self._size
        self._filled_at: float | None = None

    def delay_s(self, now: float) -> float:
        """Seconds until the next taker may take; 0 if at once."""
        self._fill(now)
        return max(0.0, (min(1.0, self._size) - self._level) / self._per_s)

    def take(self, amount: float) -> None:
        """Takes an amount; a negative amount puts it back."""
        self._level = min(self._size, self._level - amount)

    def _fill(self, now: float) -> None:
        if self._filled_at is not None:
            self._level = min(self._size, self._level + (now - self._filled_at) * self._per_s)
        self._filled_at = now


CUT = 0.5
"""What remains of the limit after a refusal (429, 503)."""

COLLAPSE_CUT = 0.7
"""What remains of it after a collapse of latency: gentler, because a longer prompt may be the cause."""

SLOWER, FEWER = 3.0, 0.7
"""A collapse: answers take `SLOWER` times as long as in the best window, and fewer than `FEWER` times as many arrive."""

WINDOW = 64
"""Answers that are compared at a time, at least."""


@dataclass
class _Window:
    """Counts of answers that came while all places were taken."""

    start: float
    answers: int = 0
    latency_s: float = 0.0


class AdaptiveLimit:
    """The adaptive limit of concurrent requests.

    It starts at what the user allows and never exceeds it.

    Args:
        most: The user's limit.

    Attributes:
        value: The limit now, in [1, most].
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.value = float(most)
        self._cut_at = float("-inf")
        self._window: _Window | None = None
        self._best: tuple[float, float] | None = None  # seconds an answer takes, answers a second

    def answered(self, now: float, latency_s: float, *, full: bool) -> None:
        """A good answer came.

        Args:
            now: Monotonic seconds.
            latency_s: Seconds that the request took.
            full: Whether all places were taken; an idle endpoint tells nothing about what it would bear.
        """
        if not full:
            self._window = None
            return
        self.value = min(float(self.most), self.value + 1.0 / self.value)
        window = self._window = self._window or _Window(now)
        window.answers += 1
        window.latency_s += latency_s
        if window.answers >= max(WINDOW, 2 * self.value) and now > window.start:
            self._compare(now, window.latency_s / window.answers, window.answers / (now - window.start))

    def refused(self, now: float, sent_at: float) -> bool:
        """The endpoint had too much to do.

        Refusals of requests that were sent before the last cut say nothing new, so a round of them cuts once.

        Args:
            now: Monotonic seconds.
            sent_at: When the refused request was sent.

        Returns:
            Whether this was the first of its round.
        """
        if sent_at < self._cut_at:
            return False
        self._cut(now, CUT)
        return True

    def _compare(self, now: float, latency_s: float, rate: float) -> None:
        self._window = None
        if self._best is None or rate > self._best[1]:
            self._best = latency_s, rate
        elif latency_s > SLOWER * self._best[0] and rate < FEWER * self._best[1]:
            self._cut(now, COLLAPSE_CUT)

    def _cut(self, now: float, factor: float) -> None:
        self.value = max(1.0, self.value * factor)
        self._cut_at = now
        self._window = self._best = None  # what was normal is learnt anew: the work may have changed


log = logging.getLogger(__name__)

LONGEST_PAUSE_S = 60.0
"""A server that asks for more is asked again after this long; single calls follow Retry-After in full."""

FIRST_PAUSE_S, LONGEST_BACKOFF_S = 0.25, 8.0
"""Where the server names no time: the pause after the first round of refusals, doubled by each further one up to this."""

OVERLOADED = frozenset((429, 503, 529))
"""Statuses that mean too many requests, whoever sent them."""


@dataclass(slots=True)
class Place:
    """A running request: role, start time and reserved tokens."""

    role: str
    sent_at: float
    tokens: float = 0.0


class Limiter:
    """Hands out places.

    Args:
        max_concurrency: Requests under way at once, at most.
        requests_per_minute: Quota; None for none.
        tokens_per_minute: Quota of prompt and completion tokens; None for none.
        adaptive: Whether fewer are let through when the endpoint refuses or slows down.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        max_concurrency: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        adaptive: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = AdaptiveLimit(max_concurrency)
        self.under_way: Counter[str] = Counter()
        self._total = 0
        self._adaptive = adaptive
        self._clock = clock
        self._requests = None if requests_per_minute is None else TokenBucket(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else TokenBucket(tokens_per_minute)
        self._quotas = [quota for quota in (self._requests, self._tokens) if quota is not None]
        self._closed_until = float("-inf")
        self._rounds = 0  # of refusals without a good answer between them
        self._waiting: dict[str, deque[tuple[asyncio.Future[Place], float]]] = {}
        self._alarm: asyncio.TimerHandle | None = None

    def try_enter(self, role: str, tokens: float = 0.0) -> Place | None:
        """Takes a free place without waiting; None if there is none or others wait."""
        now = self._clock()
        if self._waiting or self._full or now < self._closed_until or (self._quotas and self._delay_s(now) > 0):
            return None
        return self._grant(role, tokens, now)

    @property
    def _full(self) -> bool:
        return self._total + 1 > self.limit.value

    async def enter(self, role: str, tokens: float = 0.0) -> Place:
        """Waits until one more request may be sent.

        Args:
            role: Role of the request.
            tokens: Estimate of the tokens that the request will be counted for.

        Returns:
            The place, to be released when the answer has come.
        """
        if (place := self.try_enter(role, tokens)) is not None:
            return place
        future: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(role, deque()).append((future, tokens))
        self._admit()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # granted in the moment of the cancellation
                self.leave(future.result())
            raise

    def leave(
        self,
        place: Place,
        *,
        status: int | None = None,
        timed_out: bool = False,
        retry_after_s: float | None = None,
        tokens: float | None = None,
    ) -> None:
        """Gives a place back.

        Args:
            place: The place that `enter` returned.
            status: The HTTP status of the answer; None if there was none.
            timed_out: Whether there was none in time.
            retry_after_s: Seconds that the server asks to wait.
            tokens: Counted tokens; None if unknown.
        """
        now = self._clock()
        full = self._full
        self._total -= 1
        self.under_way[place.role] -= 1
        if self._tokens is not None and tokens is not None:
            self._tokens.take(tokens - place.tokens)
        if status in OVERLOADED:
            self._pause(now, retry_after_s, first=self._refused(now, place))
        elif timed_out:
            self._refused(now, place)
        elif status is not None and status < 400:
            self._rounds = 0
            if self._adaptive:
                self.limit.answered(now, now - place.sent_at, full=full)
        if self._waiting:
            self._admit()

    def _refused(self, now: float, place: Place) -> bool:
        """Lowers the limit; true if this refusal is the first of its round."""
        if not self._adaptive:
            return False
        before = int(self.limit.value)
        first = self.limit.refused(now, place.sent_at)
        if int(self.limit.value) < before:
            log.info("overloaded: from %d to %d requests at once", before, int(self.limit.value))
        return first

    def _pause(self, now: float, retry_after_s: float | None, *, first: bool) -> None:
        """Pauses all requests after a refusal, as long as the server asks, otherwise longer each time."""
        if retry_after_s is not None and retry_after_s > 0:
            pause_s = min(retry_after_s, LONGEST_PAUSE_S)
        elif first:
            pause_s = min(FIRST_PAUSE_S * 2.0**self._rounds, LONGEST_BACKOFF_S) * random.uniform(0.5, 1.0)
            self._rounds = min(self._rounds + 1, 16)
        else:
            return
        self._closed_until = max(self._closed_until, now + pause_s)

    def _admit(self) -> None:
        """Grants what can be granted now, and sets an alarm for what time alone will free."""
        while self._waiting and not self._full:
            now = self._clock()
            if (delay_s := self._delay_s(now)) > 0:
                self._wake_in(delay_s)
                return
            role = min(self._waiting, key=lambda name: self.under_way[name])
            queue = self._waiting[role]
            future, tokens = queue.popleft()
            del self._waiting[role]
            if queue:
                self._waiting[role] = queue  # behind the others, so that equal roles take turns
            if not future.done():
                future.set_result(self._grant(role, tokens, now))

    def _grant(self, role: str, tokens: float, now: float) -> Place:
        if self._requests is not None:
            self._requests.take(1.0)
        if self._tokens is not None:
            self._tokens.take(tokens)
        self._total += 1
        self.under_way[role] += 1
        return Place(role, now, tokens)

    def _delay_s(self, now: float) -> float:
        delay_s = self._closed_until - now
        for quota in self._quotas:
            delay_s = max(delay_s, quota.delay_s(now))
        return delay_s

    def _wake_in(self, delay_s: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(delay_s, self._admit)
