"""What a run asked for and spent, on disk at every change, so that a run that was killed knows it when it goes on."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from .budget import Amount, Budget
from .errors import ConfigError
from .meter import Meter, Usage
from .parameters import Parameters

_SIZE = 4096
"""Bytes of the file, as long as there are few roles: it is overwritten in place, in one write."""


class _Books(msgspec.Struct):
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
            books = msgspec.json.decode(content, type=_Books) if content else _Books({}, {})
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(
                f"{path}, the run's ledger, cannot be used: {error}. Without it nobody knows what the run spent: "
                "move it away to count from zero"
            ) from error
        meter.add(books.asked)
        for role, amount in books.spent.items():
            budget.spent[role] = budget.spent.get(role, Amount()) + amount
        for identity, changes in books.parameters.items():
            meter.parameters.setdefault(identity, Parameters(changes))
        budget.on_change = meter.on_change = self.write
        self._length = len(content)
        self.write()

    def write(self) -> None:
        """Writes the counts; on the client's loop, or when nothing runs there."""
        parameters = {identity: found.changes for identity, found in self._meter.parameters.items() if found.changes}
        content = msgspec.json.encode(_Books(dict(self._meter.roles), self._budget.spent, parameters))
        self._length = max(self._length, _SIZE, len(content))
        os.pwrite(self._file, content.ljust(self._length - 1) + b"\n", 0)

    def close(self) -> None:
        """Writes a last time, to the disk itself."""
        self._budget.on_change = self._meter.on_change = lambda: None
        self.write()
        os.fsync(self._file)
        os.close(self._file)
