"""One budget for the retries of a whole run, so that a broken endpoint is not asked over and over for everybody."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RetryBudget:
    """Allows ``reserve`` retries, and ``share`` further ones for every call.

    A single failure is always tried again; where most calls fail, retries stop being a multiple of the calls.

    Args:
        share: Retries for each call, on average.
        reserve: Retries that need no calls.

    Attributes:
        calls: Calls so far.
        taken: Retries so far.
        refused: Retries that were refused.
    """

    share: float = 0.5
    reserve: int = 100
    calls: int = 0
    taken: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        if self.share < 0 or self.reserve < 0:
            raise ValueError(f"`share` and `reserve` must be at least 0, not {self.share} and {self.reserve}")

    def take(self) -> bool:
        """Takes one retry; false if there is none left."""
        if self.taken >= self.reserve + self.share * self.calls:
            self.refused += 1
            return False
        self.taken += 1
        return True
