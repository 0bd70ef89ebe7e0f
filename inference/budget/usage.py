"""Requests, tokens and money that a run used: counted by role, and kept on disk at every change."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec

from ...core.errors import ConfigError
from ..completion import Completion
from ..transport.parameters import Parameters
from .budget import Amount, Budget


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
        parameters: Request parameters that endpoints were found not to take, by `Endpoint.identity`.
        drawn: Prompts for which several candidates were sampled.
        identical: Number of turns with identical candidates.
    """

    window_s: float = 20.0
    roles: dict[str, Usage] = field(default_factory=dict)
    on_change: Callable[[], None] = lambda: None
    parameters: dict[str, Parameters] = field(default_factory=dict)
    drawn: int = 0
    identical: int = 0
    _recent: deque[tuple[float, int]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, roles: Mapping[str, Usage]) -> None:
        """Adds earlier usage, by role."""
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
        """Counts one paid request other than a completion, for example one for embeddings."""
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

    def count_candidates(self, texts: Sequence[str]) -> None:
        """Adds one prompt with its candidates."""
        with self._lock:
            self.drawn += 1
            self.identical += len(set(texts)) == 1

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
        changed = {name: found.summary() for name, found in self.parameters.items() if found.changes}
        return {
            "requests": {"paid": total.paid, "reused": total.reused, "failed": total.failed},
            "tokens": {"prompt": total.prompt_tokens, "completion": total.completion_tokens},
            "cost_usd": round(total.cost_usd, 6),
            **({"parameters": changed} if changed else {}),
            **({"identical_candidates": self.identical / self.drawn} if self.identical else {}),
        }


_SIZE = 4096
"""Bytes of the file, as long as there are few roles: it is overwritten in place, in one write."""


class _Record(msgspec.Struct):
    asked: dict[str, Usage]
    spent: dict[str, Amount]
    parameters: dict[str, dict[str, str | None]] = msgspec.field(default_factory=dict)


class Ledger:
    """The file behind a meter and a budget.

    It is written before a request is sent and after it was answered. A killed process loses nothing of it; requests that
    were under way count as what was set aside for them, since the provider may bill them.

    Args:
        path: The file; what it says is added to the meter and the budget.
        meter: Counts requests.
        budget: Counts what they cost.

    Raises:
        ConfigError: If the file cannot be read or written.
    """

    def __init__(self, path: Path, meter: Meter, budget: Budget) -> None:
        self._meter, self._budget = meter, budget
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            content = os.read(self._file, 2**24)
            record = msgspec.json.decode(content, type=_Record) if content else _Record({}, {})
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(
                f"{path}, the run's ledger, cannot be used: {error}. Without it nobody knows what the run spent: "
                "move it away to count from zero"
            ) from error
        meter.add(record.asked)
        for role, amount in record.spent.items():
            budget.spent[role] = budget.spent.get(role, Amount()) + amount
        for identity, changes in record.parameters.items():
            meter.parameters.setdefault(identity, Parameters(changes))
        budget.on_change = meter.on_change = self.write
        self._length = len(content)
        self.write()

    def write(self) -> None:
        """Writes the counts; on the client's loop, or when nothing runs there."""
        parameters = {identity: found.changes for identity, found in self._meter.parameters.items() if found.changes}
        content = msgspec.json.encode(_Record(dict(self._meter.roles), self._budget.spent, parameters))
        self._length = max(self._length, _SIZE, len(content))
        os.pwrite(self._file, content.ljust(self._length - 1) + b"\n", 0)

    def close(self) -> None:
        """Writes a last time, to the disk itself."""
        self._budget.on_change = self._meter.on_change = lambda: None
        self.write()
        os.fsync(self._file)
        os.close(self._file)
