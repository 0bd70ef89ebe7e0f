"""One of several processes that share an evaluation: it plays some of the scenarios, and what was answered stays in the cassette."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..agents.books import Entry
from ..agents.worker import Worker
from ..inference.errors import DuologueError


@dataclass(frozen=True)
class Share:
    """What came of some scenarios.

    Attributes:
        books: What was asked and spent since the last share.
        error: What ended it before its time.
    """

    books: Entry = field(default_factory=Entry)
    error: DuologueError | None = None


class MatchWorker(Worker):
    """Plays matches, for their answers alone: who won is read from the cassette, by the evaluation itself.

    Args:
        config: The resolved configuration of the evaluation.
        bundle: The policy's folder.
        trusted: See `load_bundle`.
        workers: See `Worker`.
        folder: See `Worker`.
    """

    def __init__(self, config: Mapping[str, Any], bundle: str, trusted: bool, workers: int, folder: str) -> None:
        super().__init__(config, workers, folder)
        self._bundle, self._trusted = bundle, trusted

    def play(self, first: int, count: int) -> Share:
        """Plays all contestants on these scenarios.

        Args:
            first: Number of the first scenario.
            count: How many.
        """
        from .evaluate import Evaluation, check

        checked = check(self.config, self.client)
        own = checked._replace(scenarios=checked.scenarios[first : first + count])
        try:
            evaluation = Evaluation(self.config, self.client, self._bundle, own, self._trusted)
            with tempfile.TemporaryDirectory() as folder:
                evaluation.matches(Path(folder) / "matches.jsonl")
        except DuologueError as error:
            return Share(self.books.entry(), error)
        return Share(self.books.entry())
