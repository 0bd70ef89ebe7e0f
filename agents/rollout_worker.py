"""One of several processes that share a rollout: it plays some of the episodes with a client of its own.

It knows nothing of how it was started; `agents.ray_rollouts` does. Episodes are bound to their scenarios and their noise by
number, so it does not matter which worker plays which.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..inference.budget import Amount
from ..inference.client import InferenceClient
from ..inference.errors import DuologueError, RunStopped
from ..inference.meter import Usage
from .actor import Actor
from .played import Played
from .rollouts import Collector, Timing

_SHARED_OUT = ("max_concurrency", "requests_per_minute", "tokens_per_minute")
"""Limits of an endpoint that all workers keep together."""


@dataclass(frozen=True)
class Shard:
    """What came of some episodes of a rollout.

    Attributes:
        played: The finished ones, in order.
        failures: Failed attempts, by cause.
        cut: Complete turns of those that a deadline cut.
        timing: Where the time went.
        asked: What was asked for since the last shard, by role.
        spent: What that cost, by role.
        error: What ended it before its time; the other fields but the last two are empty then.
    """

    played: list[Played] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    cut: list[int] = field(default_factory=list)
    timing: Timing = field(default_factory=Timing)
    asked: Mapping[str, Usage] = field(default_factory=dict)
    spent: Mapping[str, Amount] = field(default_factory=dict)
    error: DuologueError | None = None


class RolloutWorker:
    """Plays episodes by number, with the weights it is given.

    Args:
        config: The resolved configuration of the training.
        workers: How many share its limits and its dialogues.
        folder: Where relative paths begin, if it is there.
    """

    def __init__(self, config: Mapping[str, Any], workers: int, folder: str) -> None:
        from .agent import build_agent
        from .ppo import DialoguePPO
        from .train import build_task

        if Path(folder).is_dir():
            os.chdir(folder)
            sys.path.append(folder)  # for functions and classes of the user's own
        settings = divided(config, workers)
        self._client = InferenceClient.from_settings(settings["inference"])
        self._task = build_task(settings, self._client)
        agent, _ = build_agent(settings, self._task)
        assert isinstance(agent, DialoguePPO)
        self._policy = agent.policy
        self._collector = agent.new_collector(max(1, agent.n_envs // workers))
        self._asked: dict[str, Usage] = {}
        self._spent: dict[str, Amount] = {}

    def ready(self) -> bool:
        """True, once the worker could be built."""
        return True

    def play(
        self, rollout: int, first: int, count: int, weights: Mapping[str, Any], statistics: Mapping[str, Any]
    ) -> Shard:
        """Plays episodes to their ends.

        Args:
            rollout: Number of the rollout.
            first: Number of the first episode.
            count: How many.
            weights: Of the policy, the same for all of a rollout.
            statistics: Of the reward, likewise.
        """
        self._policy.load_state_dict(weights)
        self._policy.set_training_mode(False)
        if self._task.reward is not None:
            self._task.reward.restore(dict(statistics))
        collector: Collector = self._collector
        collector.close()  # so that it may go back, to the episodes of a worker that was lost
        collector.next_episode, collector.rollout = first, rollout - 1
        try:
            played, failures = collector.collect(count, Actor(self._policy).act)
        except DuologueError as error:
            return Shard(error=error, **self._books())
        return Shard(played, failures, collector.cut, collector.timing, **self._books())

    def stop(self, reason: RunStopped) -> None:
        """Lets the turns under way end and begins no other; from another thread."""
        self._client.stop(reason)

    def close(self) -> None:
        """Ends the client."""
        self._client.close()

    def _books(self) -> dict[str, Any]:
        """What is new since the last time."""
        budget = self._client.bounds.budget
        asked, spent = dict(self._client.meter.roles), {} if budget is None else dict(budget.spent)
        new = {role: _less(usage, self._asked.get(role, Usage())) for role, usage in asked.items()}
        paid = {role: amount - self._spent.get(role, Amount()) for role, amount in spent.items()}
        self._asked = {role: Usage(**asdict(usage)) for role, usage in asked.items()}
        self._spent = spent
        return {"asked": new, "spent": paid}


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
