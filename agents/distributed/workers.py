"""Base class of worker processes, and the usage that they report to the coordinator."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError, RunStopped
from ...inference.budget.budget import Amount
from ...inference.budget.usage import Usage
from ...inference.client import InferenceClient

_SHARED_OUT = ("max_concurrency", "requests_per_minute", "tokens_per_minute")
"""Limits of an endpoint that all workers keep together."""


@dataclass(frozen=True)
class UsageDelta:
    """Usage since the last report.

    Attributes:
        asked: What was asked for, by role.
        spent: Amounts spent, by role.
    """

    asked: Mapping[str, Usage] = field(default_factory=dict)
    spent: Mapping[str, Amount] = field(default_factory=dict)

    def add_to(self, client: InferenceClient) -> None:
        """Adds it to what another client asked and spent."""
        client.meter.add(self.asked)
        if client.bounds.budget is not None:
            spent = client.bounds.budget.spent
            for role, amount in self.spent.items():
                spent[role] = spent.get(role, Amount()) + amount
        client.meter.on_change()


class UsageReporter:
    """Reports the usage of a client since the last report.

    Args:
        client: Whose books they are.
    """

    def __init__(self, client: InferenceClient) -> None:
        self._client = client
        self._asked: dict[str, Usage] = {}
        self._spent: dict[str, Amount] = {}

    def delta(self) -> UsageDelta:
        """The usage since the last report."""
        budget = self._client.bounds.budget
        asked, spent = dict(self._client.meter.roles), {} if budget is None else dict(budget.spent)
        new = {role: _less(usage, self._asked.get(role, Usage())) for role, usage in asked.items()}
        paid = {role: amount - self._spent.get(role, Amount()) for role, amount in spent.items()}
        self._asked = {role: Usage(**asdict(usage)) for role, usage in asked.items()}
        self._spent = spent
        return UsageDelta(new, paid)


def _less(usage: Usage, before: Usage) -> Usage:
    return Usage(**{name: value - getattr(before, name) for name, value in asdict(usage).items()})


def divided(config: Mapping[str, Any], workers: int) -> dict[str, Any]:
    """The configuration of one of several workers, with its share of every endpoint's limits."""

    def shared(part: Any) -> Any:
        if not isinstance(part, Mapping):
            return part
        return {
            name: max(1, value // workers) if name in _SHARED_OUT and isinstance(value, int) else shared(value)
            for name, value in part.items()
        }

    parts = {name: shared(config[name]) for name in ("inference", "interface") if name in config}
    return {**config, **parts, "rollouts": {"name": "local"}}


def check_shareable(config: Mapping[str, Any]) -> None:
    """Refuses a budget that several processes cannot keep.

    Args:
        config: The resolved configuration.

    Raises:
        ConfigError: If there is one, and it is not shared.
    """
    budget = config["inference"].get("budget") or {}
    limited = any(budget.get(name) is not None for name in ("requests", "tokens", "usd")) or budget.get("roles")
    if limited and not budget.get("shared"):
        raise ConfigError("with `rollouts=ray` a budget must be common to all: set `inference.budget.shared`")


class Worker:
    """Base class of worker processes.

    Args:
        config: The resolved configuration of the whole.
        workers: Number of workers that share its limits.
        folder: Base of relative paths, if it exists.
    """

    def __init__(self, config: Mapping[str, Any], workers: int, folder: str) -> None:
        if Path(folder).is_dir():
            os.chdir(folder)
            sys.path.append(folder)  # for functions and classes of the user's own
        self.config = divided(config, workers)
        self.client = InferenceClient.from_settings(self.config["inference"])
        self.usage = UsageReporter(self.client)

    def ready(self) -> bool:
        """True, once the worker could be built."""
        return True

    def stop(self, reason: RunStopped) -> None:
        """Finishes the running turns and begins no new ones; called from another thread."""
        self.client.stop(reason)

    def close(self) -> None:
        """Ends the client."""
        self.client.close()
