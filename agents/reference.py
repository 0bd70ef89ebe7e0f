"""A policy that another one is held near to: the exact divergence, for spaces of discrete actions."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy
from torch.distributions import kl_divergence

from ..core.errors import ConfigError
from .bundle import bundle_folder, load_network

INITIAL = "initial"
"""Names the policy as it is before it learns."""


class Reference:
    """The reference policy, which does not learn.

    Args:
        policy: The network as it is now; a copy is kept.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self._policy = copy.deepcopy(policy)
        self._policy.set_training_mode(False)

    @classmethod
    def named(cls, name: str, policy: ActorCriticPolicy) -> Reference:
        """Builds the reference policy of a configuration.

        Args:
            name: `INITIAL`, or a bundle's folder.
            policy: The policy to be trained.

        Returns:
            The reference.

        Raises:
            ConfigError: If the folder holds no bundle, or one of another network.
        """
        if name == INITIAL:
            return cls(policy)
        try:
            loaded = load_network(bundle_folder(name), policy.observation_space, policy.action_space)
        except ConfigError as error:
            raise ConfigError(f"`agent.kl_reference={name}` cannot be used: {error}") from error
        same = type(loaded) is type(policy) and _shapes(loaded.state_dict()) == _shapes(policy.state_dict())
        if not same:
            raise ConfigError(f"`agent.kl_reference={name}` has another network than the policy that is trained")
        assert isinstance(loaded, ActorCriticPolicy)
        return cls(loaded.to(policy.device))

    def divergence(self, policy: ActorCriticPolicy, observations: Any) -> th.Tensor:
        """KL(policy || reference) of the distributions over actions, in nats, summed over an action's parts.

        Args:
            policy: The policy in training.
            observations: A batch of B.

        Returns:
            Shape (B,), at least 0.
        """
        own = _parts(policy.get_distribution(observations))
        with th.no_grad():
            other = _parts(self._policy.get_distribution(observations))
        return th.stack([kl_divergence(p, q) for p, q in zip(own, other, strict=True)]).sum(0)

    @contextmanager
    def in_the_loss(self, policy: ActorCriticPolicy, ent_coef: float, kl_coef: float) -> Iterator[list[float]]:
        """While it is open, the policy's entropy is ``ent_coef`` times itself less ``kl_coef`` times the divergence.

        Stable-Baselines3's losses subtract the entropy, so with a coefficient of 1 they hold both terms, and nothing of
        theirs has to be written again.

        Args:
            policy: The policy in training.
            ent_coef: Weight of its entropy.
            kl_coef: Weight of the divergence.

        Yields:
            A list that gets each batch's mean entropy itself.
        """
        entropies: list[float] = []
        evaluate = policy.evaluate_actions

        def evaluate_actions(obs: Any, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor | None]:
            values, log_probs, entropy = evaluate(obs, actions)
            assert entropy is not None  # every distribution over discrete actions has one
            entropies.append(float(entropy.mean().detach()))
            return values, log_probs, ent_coef * entropy - kl_coef * self.divergence(policy, obs)

        policy.evaluate_actions = evaluate_actions  # type: ignore[method-assign]
        try:
            yield entropies
        finally:
            del policy.evaluate_actions


def _parts(distribution: Any) -> list[Any]:
    found = distribution.distribution
    return list(found) if isinstance(found, list) else [found]


def _shapes(state: Mapping[str, th.Tensor]) -> dict[str, th.Size]:
    return {name: values.shape for name, values in state.items()}
