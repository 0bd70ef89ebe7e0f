"""Collects rollouts with the processes of a Ray cluster.

Every worker gets a part of a rollout's episodes and the same weights; the episodes of a worker that is lost are played by
the others. What is collected is what one process collects, since everything hangs on the episode's number.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ..buffer import Trajectory
from ..rollouts import OnStep, Timing
from ..scheduler import ActFunction
from .ray_pool import RaySettings, RayWorkers
from .rollout_worker import RolloutWorker, Shard

if TYPE_CHECKING:
    from ...envs.task import Task
    from ..ppo import DialoguePPO


class RayCollector:
    """Collects rollouts with Ray actors; the interface is that of `Collector`.

    Args:
        agent: Whose policy acts.
        task: The task.
        config: The resolved configuration, from which each worker builds its own.
        settings: Number of workers, and the cluster.

    Raises:
        ConfigError: If Ray is not installed, there is no such cluster, or it is too small.

    Attributes:
        next_episode: See `Collector`, as the others.
    """

    def __init__(self, agent: DialoguePPO, task: Task, config: Mapping[str, Any], settings: RaySettings) -> None:
        self.task, self.next_episode, self.rollout = task, 0, 0
        self.timing, self.cut = Timing(), list[int]()
        self._agent = agent
        self._workers = RayWorkers(settings, RolloutWorker, config)

    @property
    def lost(self) -> int:
        """Workers that were lost so far."""
        return self._workers.lost

    def collect(
        self,
        n_episodes: int,
        act: ActFunction,
        on_step: OnStep = lambda played, transition: True,
        *,
        max_ahead_episodes: int = 0,
    ) -> tuple[list[Trajectory], Counter[str]]:
        """Plays a fixed number of episodes to their ends, as `Collector.collect`; ``act`` is the agent's own policy."""
        first, began = self.next_episode, time.perf_counter()
        self.rollout += 1
        self.timing, self.cut = Timing(), []
        finished: list[Trajectory] = []
        failures: Counter[str] = Counter()
        complete = False
        try:
            with closing(self._shards(first, n_episodes)) as shards:
                for shard in shards:
                    finished += shard.played
                    failures += shard.failures
                    self._add(shard)
                    steps = ((played, transition) for played in shard.played for transition in played.transitions)
                    if not all(on_step(played, transition) for played, transition in steps):
                        return finished, failures
            self.next_episode, complete = first + n_episodes, True
        finally:
            self.timing.wall_s = time.perf_counter() - began
            if not complete:
                self.close()
        return sorted(finished, key=lambda played: played.episode.number), failures

    def _shards(self, first: int, n_episodes: int) -> Generator[Any]:
        """Yields the parts of a rollout as they come."""
        weights = {name: value.detach().cpu() for name, value in self._agent.policy.state_dict().items()}
        reward = self.task.reward
        given = self._workers.put(weights), {} if reward is None else reward.state()
        return self._workers.distribute(
            (first, n_episodes),
            lambda worker, part: worker.play.remote(self.rollout, *part, *given),
            lambda: self.task.client.bounds.stopped,
            lambda shard: shard.usage.add_to(self.task.client),
        )

    def _add(self, shard: Shard) -> None:
        self.cut += shard.cut
        self.timing.busy_s += shard.timing.busy_s
        self.timing.wait_s = max(self.timing.wait_s, shard.timing.wait_s)
        self.timing.forward_s += shard.timing.forward_s

    def close(self) -> None:
        """Ends the workers; the next rollout starts new ones."""
        self._workers.close()
