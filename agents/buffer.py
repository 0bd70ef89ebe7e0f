"""The rollout buffer of whole episodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch as th
from stable_baselines3.common.buffers import DictRolloutBuffer

from ..envs.observation import Observation
from .played import Played


class EpisodeBuffer(DictRolloutBuffer):
    """Whole episodes end to end in one column of variable length."""

    def load(self, played: Sequence[Played], rewards: np.ndarray, values: np.ndarray, log_probs: np.ndarray) -> None:
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
