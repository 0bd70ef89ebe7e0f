"""What the run asked for, by role: requests, tokens, money, and how fast."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .completion import Completion


@dataclass
class Usage:
    """Counts of one role. ``prompt_tokens``, ``completion_tokens`` and ``cost_usd`` count paid requests only."""

    paid: int = 0
    reused: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass
class Meter:
    """Counts requests as they end; read from other threads by progress bars.

    Attributes:
        window_s: Seconds over which `tokens_per_s` is taken.
        roles: The counts by role.
        on_change: Called after every change of what was asked for.
    """

    window_s: float = 20.0
    roles: dict[str, Usage] = field(default_factory=dict)
    on_change: Callable[[], None] = lambda: None
    _recent: deque[tuple[float, int]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, roles: Mapping[str, Usage]) -> None:
        """Adds what was asked for before, by role."""
        with self._lock:
            for role, usage in roles.items():
                self.roles[role] = self.roles.get(role, Usage()) + usage

    def count(self, role: str, completion: Completion) -> None:
        """Adds a completion, reused or paid for."""
        if completion.reused:
            self.count_reused(role)
            return
        with self._lock:
            usage = self.roles.setdefault(role, Usage())
            usage.paid += 1
            usage.prompt_tokens += completion.prompt_tokens
            usage.completion_tokens += completion.completion_tokens
            usage.cost_usd += completion.cost_usd
            now = time.monotonic()
            self._recent.append((now, completion.completion_tokens))
            self._forget(now)
        self.on_change()

    def count_paid(self, role: str, prompt_tokens: int, completion_tokens: int, cost_usd: float) -> None:
        """Adds one paid request that is no completion, such as one for embeddings."""
        with self._lock:
            usage = Usage(1, 0, 0, prompt_tokens, completion_tokens, cost_usd)
            self.roles[role] = self.roles.get(role, Usage()) + usage
        self.on_change()

    def count_reused(self, role: str) -> None:
        """Adds one answer that the cassette gave."""
        with self._lock:
            self.roles.setdefault(role, Usage()).reused += 1

    def count_failed(self, role: str) -> None:
        """Adds one call that gave no answer."""
        with self._lock:
            self.roles.setdefault(role, Usage()).failed += 1

    @property
    def total(self) -> Usage:
        """The sum over all roles."""
        with self._lock:
            return sum(self.roles.values(), Usage())

    @property
    def tokens_per_s(self) -> float:
        """Sampled tokens per second over the last ``window_s``; 0 when nothing was sampled."""
        now = time.monotonic()
        with self._lock:
            self._forget(now)
            if not self._recent:
                return 0.0
            span = max(now - self._recent[0][0], 1.0)
            return sum(tokens for _, tokens in self._recent) / span

    def _forget(self, now: float) -> None:
        while self._recent and now - self._recent[0][0] > self.window_s:
            self._recent.popleft()

    def summary(self) -> dict[str, Any]:
        """The counts as `summary.json` holds them."""
        total = self.total
        return {
            "requests": {"paid": total.paid, "reused": total.reused, "failed": total.failed},
            "tokens": {"prompt": total.prompt_tokens, "completion": total.completion_tokens},
            "cost_usd": round(total.cost_usd, 6),
        }
