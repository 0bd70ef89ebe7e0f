"""Finished episodes (trajectories) and the rollout buffer that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import DictRolloutBuffer

from ..envs.episode import Episode, Observation, Transition


@dataclass
class Trajectory:
    """A finished episode: observations, actions and transitions.

    Attributes:
        episode: Number, scenario and draw.
        observations: Observations, one per step.
        actions: What it did.
        log_probs: The log-probability that the acting policy gave each action.
        rollouts: The rollout, counted from 1, in which each action was chosen: between two of them lies an update.
        transitions: Results of the actions.
    """

    episode: Episode
    observations: list[Observation] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    rollouts: list[int] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)

    def end_before_last_action(self) -> bool:
        """Truncates the episode in the state in which its last action was chosen, whose outcome never came.

        Returns:
            Whether anything is left of it.
        """
        for entries in (self.actions, self.log_probs, self.rollouts):
            del entries[len(self.transitions) :]
        if self.transitions:
            seen = self.observations[len(self.transitions)]
            self.transitions[-1] = replace(self.transitions[-1], observation=seen, truncated=True)
        del self.observations[len(self.transitions) :]
        return bool(self.transitions)

    @property
    def episode_return(self) -> float:
        """The undiscounted sum of rewards."""
        return sum(transition.reward for transition in self.transitions)


class EpisodeBuffer(DictRolloutBuffer):
    """Rollout buffer of whole episodes, concatenated in one column of variable length."""

    def load(
        self, played: Sequence[Trajectory], rewards: np.ndarray, values: np.ndarray, log_probs: np.ndarray
    ) -> None:
        """Fills the buffer and computes advantages and returns.

        Args:
            played: The episodes, in order.
            rewards: Shape (T,), bootstrapped where an episode was truncated.
            values: Shape (T,).
            log_probs: Shape (T,).
        """
        self.buffer_size, self.n_envs = len(rewards), 1
        self.reset()
        observations = stacked([obs for episode in played for obs in episode.observations])
        for name, rows in observations.items():
            self.observations[name][:, 0] = rows
        actions = np.array([action for episode in played for action in episode.actions])
        self.actions[:, 0] = actions.reshape(self.buffer_size, self.action_dim)
        self.rewards[:, 0], self.values[:, 0], self.log_probs[:, 0] = rewards, values, log_probs
        starts = [float(step == 0) for episode in played for step in range(len(episode.actions))]
        self.episode_starts[:, 0] = starts
        self.pos, self.full = self.buffer_size, True
        self.compute_returns_and_advantage(last_values=th.zeros(1), dones=np.ones(1))


def stacked(observations: Sequence[Observation]) -> dict[str, np.ndarray]:
    """Observations as one batch: arrays (B, …) by name."""
    return {name: np.stack([observation[name] for observation in observations]) for name in observations[0]}
