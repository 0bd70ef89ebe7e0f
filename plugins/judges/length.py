"""A target band for the reply's length."""

from __future__ import annotations

from ..judge import Score, Turn, TurnJudge


class LengthJudge(TurnJudge):
    """1 inside the band; below it the share of ``low`` reached; above it falling to 0 at twice ``high``.

    Args:
        low: Words from which on a reply is long enough.
        high: Words up to which a reply is short enough.
    """

    name = "length"
    summary = "the reply's words inside a band"

    def __init__(self, low: int = 8, high: int = 40) -> None:
        if not 1 <= low <= high:
            raise ValueError(f"`low` and `high` must satisfy 1 <= low <= high, not {low} and {high}")
        self.low = low
        self.high = high

    def judge(self, turn: Turn) -> Score:
        """Scores the number of words, in [0, 1]."""
        words = len(turn.reply.split())
        value = words / self.low if words < self.low else min(1.0, max(0.0, 2 - words / self.high))
        return Score(value, {"words": float(words)})
