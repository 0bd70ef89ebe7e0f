"""The networks that a bundle may name, and those of other agents than PPO as policies with probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import BasePolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.dqn.policies import MultiInputPolicy

from ..envs.interfaces import ActionInterface
from .linear import LinearPolicy
from .scorer import CandidatePolicy


class QNetworkPolicy(MultiInputPolicy):
    """DQN's network; as a policy the softmax of the actions' values, whose mode is the greedy action."""

    def get_distribution(self, obs: PyTorchObs) -> Any:
        """The softmax of the actions' values."""
        values = self.q_net(obs)
        return CategoricalDistribution(values.shape[-1]).proba_distribution(values)


NETWORKS: Mapping[str, type[BasePolicy]] = {
    "candidate_scorer": CandidatePolicy,
    "linear": LinearPolicy,
    "maskable": MaskableMultiInputActorCriticPolicy,
    "multi_input": MultiInputActorCriticPolicy,
    "q_network": QNetworkPolicy,
}
"""Every one has `get_distribution`."""

PPO_NETWORKS = ("candidate_scorer", "multi_input")
"""Those that `agent=ppo` can train."""


def network_name(interface: ActionInterface) -> str:
    """The network for an interface: the shared scorer where there are candidates, else an MLP on all boxes."""
    return "candidate_scorer" if interface.two_phase else "multi_input"
