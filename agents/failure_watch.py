"""Stops a run in which too large a share of the dialogues fails."""

from __future__ import annotations

import math
from collections import deque

from ..envs.transition import EpisodeFailed
from ..inference.errors import TooManyFailures

WINDOW = 50
"""Dialogues over which failures are counted."""


class FailureWatch:
    """Counts failures among the latest dialogues.

    Args:
        most: Share of failed ones above which the run stops.
        what: What is counted, in the plural, for the message.
    """

    def __init__(self, most: float, what: str) -> None:
        self._most, self._what = most, what
        self._recent: deque[bool] = deque(maxlen=WINDOW)

    def add(self, failed: EpisodeFailed | None) -> None:
        """Counts one that is over, or an attempt at one that failed.

        Raises:
            TooManyFailures: If too many of the latest failed, and they are enough to tell.
        """
        self._recent.append(failed is not None)
        share = sum(self._recent) / len(self._recent)
        enough = len(self._recent) >= min(WINDOW, max(10, math.ceil(1 / max(self._most, 1e-9))))
        if failed is not None and enough and share > self._most:
            raise TooManyFailures(
                f"{share:.0%} of the last {len(self._recent)} {self._what} failed, more than "
                f"`agent.max_failure_fraction={self._most:g}` allows; the latest: {failed}"
            )
