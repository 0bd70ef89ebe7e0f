"""Contextual bandits: the sober rivals that look at one turn and know nothing of the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces

from ..core.errors import ConfigError, TooManyFailures
from ..envs.episode import Observation, Transition
from ..envs.task import Task
from .buffer import Trajectory, stacked
from .policies import LinearPolicy
from .rollouts import Collector, episodes_to_play, expected_turns, most_training_turns, next_expected

Rule = Literal["linucb", "thompson"]
BANDITS: tuple[Rule, ...] = get_args(Rule)

Tell = Callable[[int, float], None]
"""Told after every rollout: the turns so far, and the mean return of its episodes."""


@dataclass(frozen=True)
class BanditSettings:
    """Settings of a bandit.

    Attributes:
        total_timesteps: Turns to learn from.
        n_envs: Dialogues under way at once.
        n_steps: It learns after every ``n_envs * n_steps`` turns or so.
        alpha: How much uncertainty attracts: LinUCB's width of the bound in standard deviations, or the scale of the
            spread that Thompson sampling draws from.
        gamma: Discount of what comes later in the episode, in [0, 1]; at 0 only the turn's own reward counts.
        ridge: Weight of the regressions' penalty.
        max_failure_fraction: See `Collector`.
    """

    total_timesteps: int
    n_envs: int = 32
    n_steps: int = 16
    alpha: float = 0.5
    gamma: float = 1.0
    ridge: float = 1.0
    max_failure_fraction: float = 0.2

    def __post_init__(self) -> None:
        for name in ("total_timesteps", "n_envs", "n_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"`gamma` must lie in 0 to 1, not {self.gamma}")
        if self.alpha < 0:
            raise ValueError(f"`alpha` must be at least 0, not {self.alpha}")
        if not self.ridge > 0:
            raise ValueError(f"`ridge` must be above 0, not {self.ridge}")


class Bandit:
    """LinUCB (Li et al. 2010) or Thompson sampling on linear returns (Agrawal and Goyal 2013).

    Every turn is a context by itself and is credited with the return of the rest of its episode, which of single-turn tasks
    is the reward. Returns are taken less the mean of the first rollout.

    Args:
        task: The task.
        settings: See there.
        rule: ``linucb`` or ``thompson``.
        seed: Decides scenarios and draws.

    Raises:
        ConfigError: If the action space is not `Discrete`.
    """

    def __init__(self, task: Task, settings: BanditSettings, rule: Rule, seed: int) -> None:
        space = task.interface.action_space
        if not isinstance(space, spaces.Discrete):
            raise ConfigError(f"`agent.name={rule}` needs one discrete choice, and this interface has {space}")
        self._settings, self._rule, self.steps = settings, rule, settings.total_timesteps
        self.policy = LinearPolicy(task.observer.space, space, lambda _: 0.0, ridge=settings.ridge)
        self.policy_kwargs = {"ridge": settings.ridge}
        self.turns = 0
        self.failures: Counter[str] = Counter()
        self._collector = Collector(
            task, settings.n_envs, seed, int(space.n), max_failure_fraction=settings.max_failure_fraction
        )
        self._mean: float | None = None

    def learn(self, tell: Tell, on_step: Callable[[], None]) -> None:
        """Plays and learns until ``total_timesteps`` turns were played.

        Args:
            tell: Told after every rollout.
            on_step: Called after every turn.

        Raises:
            TooManyFailures: If too large a share of the episodes failed.
        """
        target, mean_length = self._settings.n_envs * self._settings.n_steps, 0.0
        most = most_training_turns(self._collector.task, self._settings.total_timesteps, target)

        def step(played: Trajectory, transition: Transition) -> bool:
            on_step()
            return True

        while self.turns < self._settings.total_timesteps:
            left = min(target, self._settings.total_timesteps - self.turns)
            task = self._collector.task
            number = episodes_to_play(task, left, mean_length or expected_turns(task), most - self.turns)
            played, failures = self._collector.collect(number, self._act, step)
            self.failures += failures
            if not played:
                raise TooManyFailures(f"every episode of a rollout failed: {dict(failures)}")
            turns = sum(len(episode.actions) for episode in played)
            self.turns += turns
            mean_length = next_expected(mean_length, turns, len(played), first=not mean_length)
            self._observe(played)
            tell(self.turns, float(np.mean([episode.episode_return for episode in played])))

    def _act(
        self, observations: Sequence[Observation], noise: npt.NDArray[np.float64]
    ) -> tuple[list[int], npt.NDArray[np.float64]]:
        """Optimism or a draw, with ties by chance; the log-probabilities are not used, and zero."""
        seen = _tensors(observations)
        if self._rule == "linucb":
            means, spread = self.policy.expected(seen)
            scores = means + self._settings.alpha * spread + 1e-9 * th.from_numpy(noise)
        else:
            normal = th.special.ndtri(th.from_numpy(noise).clamp(1e-12, 1 - 1e-12))
            scores = self.policy.drawn(seen, normal, self._settings.alpha)
        return scores.argmax(-1).tolist(), np.zeros(len(observations))

    def _observe(self, played: Sequence[Trajectory]) -> None:
        observations = _tensors([seen for episode in played for seen in episode.observations])
        actions = th.tensor([int(action) for episode in played for action in episode.actions])
        rewards = [np.array([t.reward for t in episode.transitions]) for episode in played]
        returns = np.concatenate([discounted(each, self._settings.gamma) for each in rewards])
        if self._mean is None:  # once and for all: the sums hold differences from it
            self._mean = float(returns.mean())
        self.policy.observe(observations, actions, th.from_numpy(returns - self._mean))


def discounted(rewards: npt.NDArray[np.float64], gamma: float) -> npt.NDArray[np.float64]:
    """The return from every step on: (T,) of rewards (T,)."""
    returns = rewards.astype(np.float64)
    for step in range(len(returns) - 2, -1, -1):
        returns[step] += gamma * returns[step + 1]
    return returns


def _tensors(observations: Sequence[Observation]) -> dict[str, th.Tensor]:
    return {name: th.from_numpy(rows) for name, rows in stacked(observations).items()}
