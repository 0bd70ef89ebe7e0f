"""The policy protocol, and baselines that a trained policy must beat. Trained networks are in `agents`."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from .episode import Observation
from .interfaces import ActionInterface

PLAIN_SAMPLE = "plain sample"
"""Name of the one constant policy of an interface whose actions are exchangeable."""


class Policy(Protocol):
    """Chooses an action from an observation; keeps no state."""

    def act(self, observation: Observation, key: tuple[int, ...]) -> Any:
        """Chooses an action.

        Args:
            observation: One observation, not batched.
            key: Names the moment (seed, scenario, repeat, turn); equal keys give equal actions.

        Returns:
            The action.
        """
        ...


class ConstantPolicy:
    """Always the same action.

    Args:
        action: Which.
    """

    def __init__(self, action: Any) -> None:
        self.action = action

    def act(self, observation: Observation, key: tuple[int, ...] = ()) -> Any:
        """Returns the constant action."""
        return self.action


class RandomPolicy:
    """A uniformly random action.

    Args:
        space: `Discrete` or `MultiDiscrete`.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        self._space = space

    def act(self, observation: Observation, key: tuple[int, ...] = ()) -> Any:
        """A random action, the same for the same key."""
        sizes = self._space.n if isinstance(self._space, spaces.Discrete) else self._space.nvec  # type: ignore[attr-defined]
        return np.random.default_rng(key).integers(sizes)


MOST_CONSTANTS = 64
"""Actions above which constant policies say nothing: there would be more of them than anybody compares."""


def constant_policies(interface: ActionInterface) -> dict[str, ConstantPolicy]:
    """Lists the constant policies of an interface.

    Where actions choose among samples of one request, the constants do not differ but by chance: `PLAIN_SAMPLE` is there alone.

    Args:
        interface: The action interface.

    Returns:
        Action in words to policy; empty with more than `MOST_CONSTANTS` actions.
    """
    if interface.exchangeable:
        return {PLAIN_SAMPLE: ConstantPolicy(0)}
    space = interface.action_space
    sizes = [int(space.n)] if isinstance(space, spaces.Discrete) else getattr(space, "nvec", [])
    if len(sizes) == 0 or np.prod(sizes) > MOST_CONSTANTS:
        return {}
    actions: list[Any] = [np.array(action) for action in np.ndindex(*sizes)]
    if isinstance(space, spaces.Discrete):
        actions = [int(action[0]) for action in actions]
    return {interface.describe(action): ConstantPolicy(action) for action in actions}


def action_mask(interface: ActionInterface, observation: Observation) -> npt.NDArray[np.bool_]:
    """Marks the actions that make sense in a state.

    Args:
        interface: The action interface.
        observation: Observation of the state.

    Returns:
        One entry for each choice of each part of an action: (n,) for `Discrete`, (sum of sizes,) for `MultiDiscrete`.
    """
    mask = interface.mask(observation)
    if mask is not None:
        return mask
    space = interface.action_space
    return np.ones(int(space.n if isinstance(space, spaces.Discrete) else np.sum(getattr(space, "nvec", 0))), bool)
