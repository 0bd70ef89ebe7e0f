"""Rollouts over the processes of a Ray cluster: `rollouts=ray`.

Every worker gets a part of a rollout's episodes and the same weights; the episodes of a worker that is lost are played by
the others. What is collected is what one process collects, since everything hangs on the episode's number.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..inference.budget import Amount
from ..inference.errors import ConfigError, RunStopped, TooManyFailures
from .played import Played
from .rollout_worker import RolloutWorker, Shard
from .rollouts import OnStep, Timing
from .stage import Act

if TYPE_CHECKING:
    from ..envs.task import Task
    from .ppo import DialoguePPO

_LOOK_S = 0.5
"""Between two looks whether the run was told to end."""

_Part = tuple[int, int]
"""Number of the first episode, and how many."""


@dataclass(frozen=True)
class RaySettings:
    """The configuration's part ``rollouts`` with ``rollouts=ray``.

    Attributes:
        name: ``ray``.
        workers: Processes that share a rollout.
        address: Of the cluster, such as ``auto`` on one of its machines; None for a Ray of this machine's own.
        cpus: Cores that Ray sets aside for one of them.
    """

    name: str = "ray"
    workers: int = 2
    address: str | None = None
    cpus: float = 1

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"`workers` must be at least 1, not {self.workers}")


class RayCollector:
    """What `Collector` is to the agent, over Ray's actors.

    Args:
        agent: Whose policy acts.
        task: What is played.
        config: The resolved configuration, from which each worker builds its own.
        settings: How many workers, and where.

    Raises:
        ConfigError: If Ray is not installed or there is no such cluster, or if the configuration asks for what several
            processes cannot keep.

    Attributes:
        next_episode: See `Collector`, as the others.
        lost: Workers that were lost so far.
    """

    def __init__(self, agent: DialoguePPO, task: Task, config: Mapping[str, Any], settings: RaySettings) -> None:
        budget = config["inference"].get("budget") or {}
        limited = any(budget.get(name) is not None for name in ("requests", "tokens", "usd")) or budget.get("roles")
        if limited and not budget.get("shared"):
            raise ConfigError("with `rollouts=ray` a budget must be common to all: set `inference.budget.shared`")
        if agent.max_ahead_episodes:
            raise ConfigError("with `rollouts=ray` a rollout has one policy: set `agent.max_ahead_episodes=0`")
        self.task, self.next_episode, self.rollout, self.lost = task, 0, 0, 0
        self.timing, self.cut = Timing(), list[int]()
        self._agent, self._config, self._settings = agent, config, settings
        self._ray = started(settings.address)
        self._workers: list[Any] = []

    def collect(
        self,
        n_episodes: int,
        act: Act,
        on_step: OnStep = lambda played, transition: True,
        *,
        max_ahead_episodes: int = 0,
    ) -> tuple[list[Played], Counter[str]]:
        """Plays a fixed number of episodes to their ends, as `Collector.collect`; ``act`` is the agent's own policy."""
        first, began = self.next_episode, time.perf_counter()
        self.rollout += 1
        self.timing, self.cut = Timing(), []
        finished: list[Played] = []
        failures: Counter[str] = Counter()
        complete = False
        try:
            for shard in self._shards(first, n_episodes):
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

    def _shards(self, first: int, n_episodes: int) -> Any:
        """Yields the parts of a rollout as they come."""
        workers = self._ready_workers()
        weights = {name: value.detach().cpu() for name, value in self._agent.policy.state_dict().items()}
        reward = self.task.reward
        given = self._ray.put(weights), {} if reward is None else reward.state()
        waiting = deque(parts(first, n_episodes, len(workers)))
        idle, playing = list(workers), dict[Any, tuple[Any, _Part]]()
        while waiting or playing:
            if not idle and not playing:
                raise TooManyFailures("every worker of `rollouts=ray` was lost")
            while waiting and idle:
                worker, part = idle.pop(), waiting.popleft()
                playing[worker.play.remote(self.rollout, *part, *given)] = worker, part
            done, _ = self._ray.wait(list(playing), num_returns=1, timeout=_LOOK_S)
            if (reason := self.task.client.bounds.stopped) is not None:
                self._stop(reason, playing)
            for reference in done:
                worker, part = playing.pop(reference)
                shard = self._received(reference)
                if shard is None:  # what it had paid for is in the cassette
                    self.lost += 1
                    self._workers.remove(worker)
                    waiting.extend(parts(*part, max(1, len(self._workers))))
                    continue
                idle.append(worker)
                if shard.error is not None:
                    self._add(shard)
                    self._stop(shard.error if isinstance(shard.error, RunStopped) else None, playing)
                    raise shard.error
                yield shard

    def _ready_workers(self) -> list[Any]:
        """The workers that are left, or new ones if there are none."""
        if not self._workers:
            make = self._ray.remote(num_cpus=self._settings.cpus, max_concurrency=2)(RolloutWorker)
            n = self._settings.workers
            self._workers = [make.remote(self._config, n, str(Path.cwd())) for _ in range(n)]
            try:
                self._ray.get([worker.ready.remote() for worker in self._workers])
            except self._ray.exceptions.RayError as error:
                self.close()
                cause = str(error).strip().splitlines()[-1]
                raise ConfigError(f"a worker of `rollouts=ray` could not be started: {cause}") from error
        return self._workers

    def _received(self, reference: Any) -> Shard | None:
        """What a worker sent; None if it was lost."""
        errors = self._ray.exceptions
        try:
            shard: Shard = self._ray.get(reference)
        except (errors.RayActorError, errors.ObjectLostError, errors.NodeDiedError):
            return None
        return shard

    def _stop(self, reason: RunStopped | None, playing: Mapping[Any, tuple[Any, _Part]]) -> None:
        """Lets the turns under way end, so that what was paid for is in the cassette."""
        for worker, _ in playing.values():
            worker.stop.remote(reason or RunStopped("another worker's rollout ended"))

    def _add(self, shard: Shard) -> None:
        """Adds a worker's books to the run's own."""
        client = self.task.client
        client.meter.add(shard.asked)
        if client.bounds.budget is not None:
            spent = client.bounds.budget.spent
            for role, amount in shard.spent.items():
                spent[role] = spent.get(role, Amount()) + amount
        client.meter.on_change()
        self.cut += shard.cut
        self.timing.busy_s += shard.timing.busy_s
        self.timing.wait_s = max(self.timing.wait_s, shard.timing.wait_s)
        self.timing.forward_s += shard.timing.forward_s

    def close(self) -> None:
        """Ends the workers; the next rollout starts new ones."""
        for worker in self._workers:
            self._ray.kill(worker)
        self._workers = []


def parts(first: int, count: int, workers: int) -> list[_Part]:
    """Consecutive episodes dealt out evenly; nothing to those for whom there is none."""
    ends = [first + count * k // workers for k in range(workers + 1)]
    return [(a, b - a) for a, b in pairwise(ends) if b > a]


def started(address: str | None) -> Any:
    """Ray, connected.

    Raises:
        ConfigError: If it is not installed, or there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # what it reports of its use to its makers
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError("`rollouts=ray` needs the package `ray`: run `pip install 'duologue[ray]'`") from error
    if not ray.is_initialized():
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"`rollouts.address={address}`: {error}") from error
    return ray
