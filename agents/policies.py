"""The trained network as a policy. The same object acts in evaluation and in serving."""

from __future__ import annotations

from typing import Any

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
        batch = {name: th.as_tensor(rows[None], device=self.network.device) for name, rows in observation.items()}
        with th.no_grad():
            action = self.network.get_distribution(batch).mode()
        return action.cpu().numpy()[0]
