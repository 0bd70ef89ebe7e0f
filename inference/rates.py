"""Limits on how much may be sent a minute: arithmetic only, no waiting and no clock."""

from __future__ import annotations


class TokenBucket:
    """A quota that refills steadily; what is taken may be corrected when the true amount is known.

    It may go below zero, which later takers wait out: so an amount larger than the bucket is possible, and the mean rate
    holds.

    Args:
        per_minute: How much flows in.
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
        """Takes an amount; give a negative one to put back what was not used."""
        self._level = min(self._size, self._level - amount)

    def _fill(self, now: float) -> None:
        if self._filled_at is not None:
            self._level = min(self._size, self._level + (now - self._filled_at) * self._per_s)
        self._filled_at = now
