"""Chooses actions in batches; an action does not depend on the other observations of its batch.

The last bits of a matrix product depend on its shape, and with them, once in a long while, an action. All forward
passes therefore have one shape, whatever the number of dialogues: `ROWS` rows, of which as many count as are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy

from ..envs.episode import Observation

ROWS = 32
"""Rows of a forward pass: enough for what comes in during one, few enough that a single row is cheap."""


class Actor:
    """Runs a network on few observations at a time.

    Args:
        policy: The network, which goes on being trained: actions are always those of its present parameters.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        assert isinstance(policy.observation_space, spaces.Dict)
        self.policy = policy
        self._rows = {  # rows that do not count hold what they held last; those that count do not see them
            name: np.zeros((ROWS, *(box.shape or ())), box.dtype) for name, box in policy.observation_space.items()
        }
        self._batch = {name: th.from_numpy(rows) for name, rows in self._rows.items()}

    def act(
        self, observations: Sequence[Observation], noise: npt.NDArray[np.float64]
    ) -> tuple[list[Any], npt.NDArray[np.float64]]:
        """Draws actions by inverting the distribution function, so that equal noise gives equal actions.

        Args:
            observations: Any number of them.
            noise: Uniform in [0, 1), shape (len(observations), k), k the number of discrete choices in one action.

        Returns:
            One action per observation, scalars for `Discrete`, arrays (k,) for `MultiDiscrete`, and their
            log-probabilities, shape (len(observations),).
        """
        actions: list[Any] = []
        log_probs = np.zeros(len(observations))
        for first in range(0, len(observations), ROWS):
            rows = observations[first : first + ROWS]
            parts = self.log_probabilities(rows)
            columns = []
            for k, part in enumerate(parts):
                choice = draw(part, noise[first : first + ROWS, k])
                log_probs[first : first + ROWS] += part[np.arange(len(rows)), choice]
                columns.append(choice)
            single = isinstance(self.policy.action_space, spaces.Discrete)
            actions.extend(columns[0] if single else np.stack(columns, axis=-1))
        return actions, log_probs

    def log_probabilities(self, observations: Sequence[Observation]) -> list[npt.NDArray[np.float64]]:
        """Computes the log-probabilities of all choices.

        Args:
            observations: At most `ROWS` of them.

        Returns:
            One array (len(observations), n) per discrete choice of an action.
        """
        for name, rows in self._rows.items():
            for i, observation in enumerate(observations):
                rows[i] = observation[name]
        device = self.policy.device
        batch = self._batch if device.type == "cpu" else {k: v.to(device) for k, v in self._batch.items()}
        with th.inference_mode():
            parts: Any = self.policy.get_distribution(batch).distribution
            logits = [part.logits.cpu().numpy() for part in (parts if isinstance(parts, list) else [parts])]
        return [table[: len(observations)].astype(np.float64) for table in logits]


def draw(log_probs: npt.NDArray[np.float64], u: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The smallest choice whose cumulative probability exceeds u, by row.

    Args:
        log_probs: Normalised, shape (B, n).
        u: Uniform in [0, 1), shape (B,).

    Returns:
        Choices, shape (B,).
    """
    cumulative = np.exp(log_probs).cumsum(-1)  # (B, n)
    below = cumulative <= u[:, None] * cumulative[:, -1:]
    choices: npt.NDArray[np.int64] = below.sum(-1).clip(max=log_probs.shape[-1] - 1)
    return choices
