"""Evaluations with the processes of a Ray cluster: workers ask for the answers, which the cassette keeps."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..agents.distributed.ray_pool import RaySettings, RayWorkers
from ..agents.distributed.workers import UsageDelta, Worker, check_shareable
from ..core.errors import ConfigError, DuologueError
from ..core.settings import construct
from ..inference.client import InferenceClient


@dataclass(frozen=True)
class Share:
    """The outcome of some scenarios.

    Attributes:
        usage: Usage since the last share.
        error: Error that ended it early.
    """

    usage: UsageDelta = field(default_factory=UsageDelta)
    error: DuologueError | None = None


class MatchWorker(Worker):
    """Plays matches to fill the cassette; the evaluation itself computes the results.

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
            count: Number of items.

        Returns:
            The usage, and the error if one ended it.
        """
        from .evaluation import Evaluation, check

        checked = check(self.config, self.client)
        own = checked._replace(scenarios=checked.scenarios[first : first + count])
        try:
            evaluation = Evaluation(self.config, self.client, self._bundle, own, self._trusted)
            with tempfile.TemporaryDirectory() as folder:
                evaluation.matches(Path(folder) / "matches.jsonl")
        except DuologueError as error:
            return Share(self.usage.delta(), error)
        return Share(self.usage.delta())


def ask_ahead(config: Mapping[str, Any], client: InferenceClient, bundle: str, trusted: bool, scenarios: int) -> int:
    """Has everything asked that an evaluation will need.

    Args:
        config: The resolved configuration.
        client: Of the evaluation; what the workers asked and spent is added to its books.
        bundle: The policy's folder.
        trusted: See `load_bundle`.
        scenarios: Number of scenarios.

    Returns:
        Workers that were lost on the way.

    Raises:
        ConfigError: If there is no Ray or no such cluster, or if the configuration asks for what several processes cannot
            keep.
        DuologueError: What no retry can mend.
    """
    check_ray(config, client)
    workers = RayWorkers(construct(RaySettings, config["rollouts"], "rollouts"), MatchWorker, config, bundle, trusted)
    try:
        shares = workers.distribute(
            (0, scenarios),
            lambda worker, part: worker.play.remote(*part),
            lambda: client.bounds.stopped,
            lambda share: share.usage.add_to(client),
        )
        with closing(shares):
            for _ in shares:
                pass
        return workers.lost
    finally:
        workers.close()


def check_ray(config: Mapping[str, Any], client: InferenceClient) -> None:
    """Refuses an evaluation that several processes cannot share, before anything is paid.

    Args:
        config: The resolved configuration.
        client: The evaluation's client.

    Raises:
        ConfigError: If there is no cassette by which they share answers, or a budget that each would spend by itself.
    """
    check_shareable(config)
    if client.cassette.mode == "off":
        raise ConfigError("an evaluation with `rollouts=ray` needs a cassette: set `inference.cassette.mode=record`")
