"""Linear rewards by action, with what is uncertain about them: the network of the bandits."""

from __future__ import annotations

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import CombinedExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule

from .scorer import SPREAD

_TEMPERATURE = 0.1
"""Of the softmax over expected returns; the mode, which counts, is the same at any."""


class LinearPolicy(ActorCriticPolicy):
    """Ridge regressions of the return on what is seen; as a policy the softmax of what they expect.

    Of a one-phase interface every action has a regression of its own on the message's embedding and the scalars. Of a
    two-phase interface all candidates share one, on the differences of their features from the mean candidate's.

    Args:
        observation_space: With ``candidates`` for two-phase interfaces.
        action_space: `Discrete`.
        lr_schedule: Not used; Stable-Baselines3's policies have one.
        ridge: Weight of the penalty, above 0.
        **options: Stable-Baselines3's own.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        ridge: float = 1.0,
        **options: Any,
    ) -> None:
        self._ridge = ridge
        super().__init__(
            observation_space, action_space, lr_schedule, features_extractor_class=CombinedExtractor, **options
        )

    def _build(self, lr_schedule: Schedule) -> None:
        assert isinstance(self.observation_space, spaces.Dict)
        boxes = {name: box.shape or () for name, box in self.observation_space.items()}
        self._shared = "candidates" in boxes
        width = boxes["candidates"][1] if self._shared else boxes["message"][0] + boxes["scalars"][0] + 1
        arms = 1 if self._shared else int(self.action_space.n)  # type: ignore[attr-defined]
        self.moments: th.Tensor
        self.sums: th.Tensor
        self.weights: th.Tensor
        self.inverse: th.Tensor
        eye = th.eye(width, dtype=th.float64)
        self.register_buffer("moments", (self._ridge * eye).repeat(arms, 1, 1))  # (arms, d, d): ridge I + Σ x xᵀ
        self.register_buffer("sums", th.zeros(arms, width, dtype=th.float64))  # (arms, d): Σ x y
        self.register_buffer("inverse", (eye / self._ridge).repeat(arms, 1, 1))
        self.register_buffer("weights", th.zeros(arms, width, dtype=th.float64))

    def features(self, observation: PyTorchObs) -> th.Tensor:
        """What each action is judged by: (B, n, d)."""
        assert isinstance(observation, dict)
        if self._shared:
            candidates = observation["candidates"].double()  # (B, n, d)
            spread = th.tensor(SPREAD) if candidates.shape[-1] == len(SPREAD) else th.ones(candidates.shape[-1])
            return (candidates - candidates.mean(dim=1, keepdim=True)) / spread.to(candidates)
        one = th.ones_like(observation["scalars"][:, :1])
        rows = th.cat([one, observation["message"], observation["scalars"]], dim=-1).double()  # (B, d)
        return rows.unsqueeze(1).expand(-1, int(self.action_space.n), -1)  # type: ignore[attr-defined]

    def expected(self, observation: PyTorchObs) -> tuple[th.Tensor, th.Tensor]:
        """The expected returns of all actions less the mean, and their standard deviations: both (B, n)."""
        rows = self.features(observation)
        if self._shared:
            means = rows @ self.weights[0]
            spread = th.einsum("bnd,de,bne->bn", rows, self.inverse[0], rows)
        else:
            means = th.einsum("bnd,nd->bn", rows, self.weights)
            spread = th.einsum("bnd,nde,bne->bn", rows, self.inverse, rows)
        return means, spread.clamp(min=0).sqrt()

    def drawn(self, observation: PyTorchObs, normal: th.Tensor, alpha: float) -> th.Tensor:
        """The returns that one draw of the parameters expects (Agrawal and Goyal 2013, algorithm 1): (B, n).

        Candidates share their parameters, so their returns are drawn together, with the covariance that one parameter vector
        gives them; actions with parameters of their own are drawn apart.

        Args:
            observation: Rows (B, …).
            normal: Standard normal numbers (B, n).
            alpha: Scale of the parameters' standard deviation.
        """
        means, spread = self.expected(observation)
        if not self._shared:
            return means + alpha * spread * normal
        rows = self.features(observation)
        values, vectors = th.linalg.eigh(rows @ self.inverse[0] @ rows.transpose(1, 2))  # of the covariance (B, n, n)
        return means + alpha * th.einsum("bnm,bm->bn", vectors * values.clamp(min=0).sqrt().unsqueeze(1), normal)

    def observe(self, observation: PyTorchObs, actions: th.Tensor, returns: th.Tensor) -> None:
        """Learns from what actions led to.

        Args:
            observation: Rows (B, …).
            actions: (B,).
            returns: (B,), less a mean that is always the same.
        """
        rows = self.features(observation)[th.arange(len(actions)), actions]  # (B, d)
        arms = th.zeros_like(actions) if self._shared else actions
        for arm in range(len(self.sums)):
            own = rows[arms == arm]
            self.moments[arm] += own.T @ own
            self.sums[arm] += own.T @ returns[arms == arm].double()
        self.inverse.copy_(th.linalg.inv(self.moments))
        self.weights.copy_(th.einsum("nde,ne->nd", self.inverse, self.sums))

    def get_distribution(self, obs: PyTorchObs) -> Any:
        """The softmax of the expected returns; what counts is its mode."""
        means, _ = self.expected(obs)
        return self.action_dist.proba_distribution(action_logits=(means / _TEMPERATURE).float())

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        for name in ("net_arch", "features_extractor_class", "features_extractor_kwargs"):
            data.pop(name, None)
        return data | {"ridge": self._ridge}
