"""Networks, and the trained network as a policy that acts in training, evaluation and serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.dqn.policies import MultiInputPolicy
from torch import nn

from ..envs.episode import Observation
from ..envs.interfaces import ActionInterface

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
        """Computes the probability of every action.

        Args:
            observation: One observation, not batched.

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


_TEMPERATURE = 0.1
"""Of the softmax over expected returns; the mode, which counts, is the same at any."""


class LinearPolicy(ActorCriticPolicy):
    """Ridge regressions of the return on the observation; as a policy, a softmax over the expected returns.

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
        """Features of each action: (B, n, d)."""
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
        """Draws the parameters once and computes the expected returns (Agrawal and Goyal 2013, algorithm 1).

        Candidates share their parameters, so their returns are drawn together, with the covariance that one parameter vector
        gives them; actions with parameters of their own are drawn apart.

        Args:
            observation: Rows (B, …).
            normal: Standard normal numbers (B, n).
            alpha: Scale of the parameters' standard deviation.

        Returns:
            Expected returns (B, n).
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
