"""A target band for the reply's length."""

from __future__ import annotations

from collections.abc import Sequence

from ..judge import Score, Turn


class LengthJudge:
    """1 inside the band; below it the share of ``low`` reached; above it falling to 0 at twice ``high``.

    Args:
        low: Words from which on a reply is long enough.
        high: Words up to which a reply is short enough.
    """

    def __init__(self, low: int = 8, high: int = 40) -> None:
        if not 1 <= low <= high:
            raise ValueError(f"`low` and `high` must satisfy 1 <= low <= high, not {low} and {high}")
        self.low = low
        self.high = high

    async def score(self, batch: Sequence[Turn]) -> list[Score]:
        """One score per turn, in [0, 1]."""
        return [self._one(len(turn.reply.split())) for turn in batch]

    def _one(self, words: int) -> Score:
        value = words / self.low if words < self.low else min(1.0, max(0.0, 2 - words / self.high))
        return Score(value, {"words": float(words)})

    async def aclose(self) -> None:
        """Nothing to free."""
