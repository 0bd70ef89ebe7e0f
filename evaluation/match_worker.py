"""One of several processes that share an evaluation: it plays some of the scenarios, and what was answered stays in the cassette."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..agents.books import Books, Entry, divided
from ..inference.client import InferenceClient
from ..inference.errors import DuologueError, RunStopped


@dataclass(frozen=True)
class Share:
    """What came of some scenarios.

    Attributes:
        books: What was asked and spent since the last share.
        error: What ended it before its time.
    """

    books: Entry = field(default_factory=Entry)
    error: DuologueError | None = None


class MatchWorker:
    """Plays matches, for their answers alone: who won is read from the cassette, by the evaluation itself.

    Args:
        config: The resolved configuration of the evaluation.
        bundle: The policy's folder.
        trusted: See `load_bundle`.
        workers: How many share its limits.
        folder: Where relative paths begin, if it is there.
    """

    def __init__(self, config: Mapping[str, Any], bundle: str, trusted: bool, workers: int, folder: str) -> None:
        if Path(folder).is_dir():
            os.chdir(folder)
            sys.path.append(folder)  # for functions and classes of the user's own
        self._config, self._bundle, self._trusted = divided(config, workers), bundle, trusted
        self._client = InferenceClient.from_settings(self._config["inference"])
        self._books = Books(self._client)

    def ready(self) -> bool:
        """True, once the worker could be built."""
        return True

    def play(self, first: int, count: int) -> Share:
        """Plays all contestants on these scenarios.

        Args:
            first: Number of the first scenario.
            count: How many.
        """
        from .evaluate import Evaluation, check

        checked = check(self._config, self._client)
        own = checked._replace(scenarios=checked.scenarios[first : first + count])
        try:
            evaluation = Evaluation(self._config, self._client, self._bundle, own, self._trusted)
            with tempfile.TemporaryDirectory() as folder:
                evaluation.matches(Path(folder) / "matches.jsonl")
        except DuologueError as error:
            return Share(self._books.entry(), error)
        return Share(self._books.entry())

    def stop(self, reason: RunStopped) -> None:
        """Lets the calls under way end and begins no other; from another thread."""
        self._client.stop(reason)

    def close(self) -> None:
        """Ends the client."""
        self._client.close()
