"""The trained network as a policy. The same object acts in evaluation and in serving."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy

from ..envs.observation import Observation


class TorchPolicy:
    """The most probable action of a trained network.

    Args:
        network: A Stable-Baselines3 policy.
    """

    def __init__(self, network: ActorCriticPolicy) -> None:
        self.network = network
        self.network.set_training_mode(False)

    def act(self, observation: Observation, key: tuple[int, ...] = ()) -> Any:
        """The mode of the distribution; ``key`` does not matter."""
        with th.no_grad():
            action = self._distribution(observation).mode()
        return action.cpu().numpy()[0]

    def probabilities(self, observation: Observation) -> list[npt.NDArray[np.float32]]:
        """What the network thinks of every action.

        Returns:
            One array of probabilities that sum to 1 for each discrete choice in an action; a single one for `Discrete`.
        """
        with th.no_grad():
            found = self._distribution(observation).distribution
        parts = found if isinstance(found, list) else [found]
        return [part.probs[0].cpu().numpy() for part in parts]

    def _distribution(self, observation: Observation) -> Any:
        device = self.network.device  # it looks through all parameters
        batch = {name: th.as_tensor(rows[None], device=device) for name, rows in observation.items()}
        return self.network.get_distribution(batch)
