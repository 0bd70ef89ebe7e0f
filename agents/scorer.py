"""The policy of two-phase interfaces: one scorer shared by all candidates, a softmax over its scores.

Equivariant under permutations of the candidates: reordering them reorders the probabilities and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn

SPREAD = (0.15, 0.1, 0.1, 0.1, 0.1, 0.3, 0.3, 0.4, 0.1, 0.3, 1.0)
"""Round figures for how far each of `envs.interfaces.select.FEATURES` varies among the candidates of one prompt.
Dividing by them puts all features on one scale; what matters is the order of magnitude."""


class CandidateScorer(nn.Module):
    """Scores every candidate by its difference from the mean candidate, and values the set by its mean.

    Args:
        space: The observation space; ``candidates`` (n, d) and optionally ``candidate_embeddings`` (n, e).
        hidden: Widths of the scorer's hidden layers; none makes it linear.
        value_hidden: Widths of the value network's hidden layers.
        embeddings: Whether the scorer also sees each candidate's embedding times the message's, elementwise.
    """

    def __init__(self, space: spaces.Dict, hidden: list[int], value_hidden: list[int], embeddings: bool) -> None:
        super().__init__()
        self.embeddings = embeddings
        shape = space["candidates"].shape or ()
        width = int(shape[1])
        scale = th.tensor(SPREAD) if width == len(SPREAD) else th.ones(width)
        self.scale: th.Tensor
        self.register_buffer("scale", scale)
        message = int((space["message"].shape or (0,))[0])
        scalars = int((space["scalars"].shape or (0,))[0])
        self.score = nn.Sequential(*create_mlp(width + (message if embeddings else 0), 1, hidden, nn.Tanh))
        self.value = nn.Sequential(*create_mlp(width + message + scalars, 1, value_hidden, nn.Tanh))
        last = [layer for layer in self.score if isinstance(layer, nn.Linear)][-1]
        nn.init.zeros_(last.weight)  # starts as the uniform policy
        nn.init.zeros_(last.bias)
        last.bias.requires_grad_(False)  # one number added to every score changes no probability

    def forward(self, observation: Mapping[str, th.Tensor]) -> tuple[th.Tensor, th.Tensor]:
        """Logits (B, n) and values (B, 1)."""
        candidates = observation["candidates"]  # (B, n, d)
        mean = candidates.mean(dim=1, keepdim=True)  # (B, 1, d)
        rows = (candidates - mean) / self.scale  # (B, n, d)
        message = observation["message"]  # (B, e)
        if self.embeddings:
            products = observation["candidate_embeddings"] * message.unsqueeze(1)  # (B, n, e)
            rows = th.cat([rows, products - products.mean(dim=1, keepdim=True)], dim=-1)
        state = th.cat([mean.squeeze(1), message, observation["scalars"]], dim=-1)  # (B, d + e + s)
        return self.score(rows).squeeze(-1), self.value(state)


class CandidatePolicy(ActorCriticPolicy):
    """`CandidateScorer` as a policy of Stable-Baselines3.

    Args:
        observation_space: Must hold ``candidates``.
        action_space: `Discrete(n)`.
        lr_schedule: Learning rate by the share of training that remains.
        hidden: See `CandidateScorer`.
        value_hidden: See `CandidateScorer`.
        embeddings: See `CandidateScorer`.
        **options: Stable-Baselines3's own.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        hidden: tuple[int, ...] = (),
        value_hidden: tuple[int, ...] = (64,),
        embeddings: bool = False,
        **options: Any,
    ) -> None:
        self._scorer_arguments = (list(hidden), list(value_hidden), embeddings)
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            features_extractor_class=CombinedExtractor,
            **options,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        assert isinstance(self.observation_space, spaces.Dict)
        self.scorer = CandidateScorer(self.observation_space, *self._scorer_arguments)
        trained = [p for p in self.parameters() if p.requires_grad]
        options = {"lr": lr_schedule(1), **self.optimizer_kwargs}
        self.optimizer = self.optimizer_class(trained, **options)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        hidden, value_hidden, embeddings = self._scorer_arguments
        data = super()._get_constructor_parameters()
        for name in ("net_arch", "features_extractor_class", "features_extractor_kwargs"):
            data.pop(name, None)
        return data | {"hidden": hidden, "value_hidden": value_hidden, "embeddings": embeddings}

    def _outcome(self, obs: PyTorchObs) -> tuple[Any, th.Tensor]:
        logits, values = self.scorer(obs)
        return self.action_dist.proba_distribution(action_logits=logits), values

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Actions (B,), values (B, 1) and log-probabilities (B,)."""
        distribution, values = self._outcome(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, values, distribution.log_prob(actions)

    def evaluate_actions(self, obs: PyTorchObs, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor | None]:
        """Values (B, 1), log-probabilities (B,) and entropies (B,)."""
        distribution, values = self._outcome(obs)
        return values, distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: PyTorchObs) -> Any:
        """The distribution over candidates."""
        return self._outcome(obs)[0]

    def predict_values(self, obs: PyTorchObs) -> th.Tensor:
        """Values (B, 1)."""
        values: th.Tensor = self.scorer(obs)[1]
        return values
