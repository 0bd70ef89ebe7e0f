"""Evaluations over the processes of a Ray cluster: `rollouts=ray`.

The workers ask, each for some of the scenarios, and keep what was answered in the common cassette. The evaluation is then
played as ever and finds every answer there: so its results are those of one process, and a lost worker costs only time.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from ..agents.books import check_shareable
from ..agents.ray_workers import RaySettings, RayWorkers
from ..inference.client import InferenceClient
from ..inference.errors import ConfigError
from ..inference.settings import construct
from .match_worker import MatchWorker


def ask_ahead(config: Mapping[str, Any], client: InferenceClient, bundle: str, trusted: bool, scenarios: int) -> int:
    """Has everything asked that an evaluation will need.

    Args:
        config: The resolved configuration.
        client: Of the evaluation; what the workers asked and spent is added to its books.
        bundle: The policy's folder.
        trusted: See `load_bundle`.
        scenarios: How many there are.

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
        shares = workers.deal(
            (0, scenarios),
            lambda worker, part: worker.play.remote(*part),
            lambda: client.bounds.stopped,
            lambda share: share.books.add_to(client),
        )
        with closing(shares):
            for _ in shares:
                pass
        return workers.lost
    finally:
        workers.close()


def check_ray(config: Mapping[str, Any], client: InferenceClient) -> None:
    """Refuses, before anything is paid, an evaluation that several processes cannot share.

    Raises:
        ConfigError: If there is no cassette by which they share answers, or a budget that each would spend by itself.
    """
    check_shareable(config)
    if client.cassette.mode == "off":
        raise ConfigError("an evaluation with `rollouts=ray` needs a cassette: set `inference.cassette.mode=record`")
