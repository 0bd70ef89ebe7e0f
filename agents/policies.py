"""The trained network as a policy. The same object acts in evaluation and in serving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy

from ..envs.observation import Observation

Mask = Callable[[Observation], npt.NDArray[np.bool_] | None]
"""From what is seen to which actions make sense; None for all."""


class TorchPolicy:
    """The most probable action of a trained network, among those that make sense.

    Args:
        network: A Stable-Baselines3 policy.
        mask: See `ActionInterface.mask`; heeded for a single discrete choice.
    """

    def __init__(self, network: BasePolicy, mask: Mask = lambda observation: None) -> None:
        self.network = network
        self._mask = mask
        self.network.set_training_mode(False)

    def act(self, observation: Observation, key: tuple[int, ...] = ()) -> Any:
        """The mode of the distribution; ``key`` does not matter."""
        mask = self._mask(observation)
        if mask is not None and isinstance(self.network.action_space, spaces.Discrete):
            return np.where(mask, self.probabilities(observation)[0], -1.0).argmax()
        with th.no_grad():
            action = self._distribution(observation).mode()
        return action.cpu().numpy()[0]

    def probabilities(self, observation: Observation) -> list[npt.NDArray[np.float32]]:
        """What the network thinks of every action.

        Returns:
            One array of probabilities that sum to 1 for each discrete choice in an action; a single one for `Discrete`.
        """
        with th.no_grad():
            distribution = self._distribution(observation)
        found = getattr(distribution, "distributions", None) or distribution.distribution
        parts = found if isinstance(found, list) else [found]
        return [part.probs[0].cpu().numpy() for part in parts]

    def _distribution(self, observation: Observation) -> Any:
        device = self.network.device  # it looks through all parameters
        batch = {name: th.as_tensor(rows[None], device=device) for name, rows in observation.items()}
        return self.network.get_distribution(batch)  # type: ignore[operator]  # every class in `NETWORKS` has it
