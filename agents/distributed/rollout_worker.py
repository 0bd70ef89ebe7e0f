"""A worker process that plays some episodes of a rollout with a client of its own.

It knows nothing of how it was started; `agents.distributed.ray_collector` does. Episodes are bound to their scenarios and their noise by
number, so it does not matter which worker plays which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import DuologueError
from ..actor import Actor
from ..buffer import Trajectory
from ..rollouts import Collector, Timing
from .workers import UsageDelta, Worker


@dataclass(frozen=True)
class Shard:
    """The outcome of some episodes of a rollout.

    Attributes:
        played: The finished ones, in order.
        failures: Failed attempts, by cause.
        cut: Complete turns of those that a deadline cut.
        timing: Times of the rollout.
        usage: Usage since the last shard.
        error: Error that ended it early; the fields before ``usage`` are then empty.
    """

    played: list[Trajectory] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    cut: list[int] = field(default_factory=list)
    timing: Timing = field(default_factory=Timing)
    usage: UsageDelta = field(default_factory=UsageDelta)
    error: DuologueError | None = None


class RolloutWorker(Worker):
    """Plays episodes by number, with the weights it is given.

    Args:
        config: The resolved configuration of the training.
        workers: Number of workers that share its limits and dialogues.
        folder: See `Worker`.
    """

    def __init__(self, config: Mapping[str, Any], workers: int, folder: str) -> None:
        from ..agent import build_agent, build_task
        from ..ppo import DialoguePPO

        super().__init__(config, workers, folder)
        self._task = build_task(self.config, self.client)
        agent, _ = build_agent(self.config, self._task)
        assert isinstance(agent, DialoguePPO)
        self._policy = agent.policy
        self._collector = agent.new_collector(max(1, agent.n_envs // workers))

    def play(
        self, rollout: int, first: int, count: int, weights: Mapping[str, Any], statistics: Mapping[str, Any]
    ) -> Shard:
        """Plays episodes to their ends.

        Args:
            rollout: Number of the rollout.
            first: Number of the first episode.
            count: Number of items.
            weights: Weights of the policy, fixed during a rollout.
            statistics: Statistics of the reward, fixed during a rollout.

        Returns:
            Trajectories, failures and usage; or usage and the error.
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
            return Shard(usage=self.usage.delta(), error=error)
        return Shard(played, failures, collector.cut, collector.timing, self.usage.delta())
