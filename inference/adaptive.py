"""How many requests an endpoint bears at once, learnt from how it answers: arithmetic only, no waiting and no clock.

Additive increase and multiplicative decrease (Chiu and Jain 1989, doi 10.1016/0169-7552(89)90019-6), as in TCP: one more for
every round of good answers, half of it at a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """Answers that came while every place was taken."""

    start: float
    answers: int = 0
    latency_s: float = 0.0


class AdaptiveLimit:
    """The number of requests that may be under way at once.

    It starts at what the user allows and never exceeds it.

    Args:
        most: What the user allows.

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
            latency_s: How long it took.
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
