"""When a failed request is sent again: the `openai` package's rules, and one budget of retries for a whole run."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # brings aiohttp, which the budget of retries does without
    from .connections import Answer

_PASSING = (408, 409, 429)
_LONGEST_WAIT_S = 120.0
"""A server that asks for more is not waited for."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _JITTER = 0.5, 8.0, 0.25


def may_pass(answer: Answer) -> bool:
    """Whether a refusal may pass on another attempt, by its status and headers."""
    wait_s = retry_after(answer, time.time())
    if wait_s is not None and wait_s > _LONGEST_WAIT_S:
        return False
    should = answer.header(b"x-should-retry")
    if should in ("true", "false"):
        return should == "true"
    return answer.status in _PASSING or answer.status >= 500


def pause_s(retries: int, answer: Answer | None) -> float:
    """Computes the pause before the next attempt: as the server asks, otherwise doubling, with jitter.

    Args:
        retries: Further attempts so far.
        answer: The refusal; None where there was no answer.

    Returns:
        Seconds.
    """
    wait_s = None if answer is None else retry_after(answer, time.time())
    if wait_s is not None and 0 < wait_s <= _LONGEST_WAIT_S:
        return wait_s
    return min(_FIRST_PAUSE_S * 2.0 ** min(retries, 10), _LONGEST_PAUSE_S) * (1 - _JITTER * random.random())


def retry_after(answer: Answer, now: float) -> float | None:
    """Reads ``retry-after-ms`` or ``retry-after`` (seconds or a date).

    Args:
        answer: The refusal.
        now: Seconds since the epoch.

    Returns:
        Seconds to wait; None if the header is missing or unreadable.
    """
    for name, scale in ((b"retry-after-ms", 1e-3), (b"retry-after", 1.0)):
        value = answer.header(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
            return seconds if math.isfinite(seconds) else None
        except ValueError:
            if scale == 1.0:
                return _until(value, now)
    return None


def _until(date: str, now: float) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None


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
