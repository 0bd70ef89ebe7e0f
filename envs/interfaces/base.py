"""The base of action interfaces: they turn the policy's action into requests to the frozen model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from ...core.errors import ConfigError
from ...inference.completion import Completion, Message
from ...inference.encoders import Encoder
from ...inference.endpoint import Endpoint
from ..episode import DialogueState

Features = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Request:
    """One question to the frozen model.

    Attributes:
        messages: Messages to send.
        index: Number of the request within its turn; keeps equal requests of one turn apart.
        logprobs: Whether token logprobs are needed.
        top_logprobs: Number of alternatives per position.
        sampling: Fields of the endpoint's `Sampling` that this request has otherwise.
        route: Key of the interface's `endpoints`; None for the assistant.
    """

    messages: tuple[Message, ...]
    index: int = 0
    logprobs: bool = False
    top_logprobs: int = 0
    sampling: Mapping[str, Any] = field(default_factory=dict)
    route: str | None = None


class ActionInterface(ABC):
    """Turns actions into requests to the frozen model.

    One turn runs `propose` → observation → action → `compile` → `reply`. A two-phase interface asks in `propose`, so
    that the policy sees what it chooses from; a one-phase interface asks in `compile`.

    Attributes:
        name: Name in configurations and bundles.
        action_space: What the policy emits.
        requests_per_turn: Requests to the assistant's endpoint in one turn.
        proposals_per_turn: Number of these requests made before the action.
        two_phase: Whether any are.
        chooses_reply: Whether the action says which of the proposals is sent, as a judge could.
        exchangeable: Whether the actions choose among samples of one request, so that no constant action is a strategy.
        requires: Capabilities of the API without which it cannot work: ``logprobs``, ``top_logprobs``.
    """

    name: ClassVar[str]
    two_phase: ClassVar[bool] = False
    chooses_reply: ClassVar[bool] = False
    exchangeable: ClassVar[bool] = False
    proposals_per_turn: int = 0
    action_space: spaces.Space[Any]
    requests_per_turn: int

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Name and arguments from which `make_interface` builds the same interface; plain values."""

    @property
    def requires(self) -> frozenset[str]:
        """Capabilities of the API without which it cannot work."""
        return frozenset()

    def endpoints(self, assistant: Endpoint) -> Mapping[str, Endpoint]:
        """Endpoints that requests may name; missing settings are the assistant's."""
        return {}

    def observation_space(self, encoder: Encoder) -> dict[str, spaces.Box]:
        """Boxes that this interface adds to the observation."""
        return {}

    async def features(self, state: DialogueState, encoder: Encoder) -> Features:
        """The values of those boxes."""
        return {}

    def mask(self, observation: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_] | None:
        """The valid actions of a state, one entry per choice of each part of an action; None for all."""
        return None

    def check(self, action: Any) -> None:
        """Refuses an action outside the action space.

        Args:
            action: The action.

        Raises:
            ConfigError: If it is none of the space's.
        """
        space = self.action_space
        sizes = space.n if isinstance(space, spaces.Discrete) else getattr(space, "nvec", None)
        if sizes is None:
            fits = bool(space.contains(action))
        else:
            given, start = np.asarray(action), getattr(space, "start", 0)
            whole = given.dtype.kind in "iu" and given.shape == np.shape(sizes)
            fits = whole and bool(np.all((given >= start) & (given < start + sizes)))
        if not fits:
            raise ConfigError(f"the action {action!r:.80} is not in the action space, {space}")

    def propose(self, state: DialogueState) -> Sequence[Request]:
        """Requests whose answers become ``state.proposals`` before the policy sees the state."""
        return ()

    @abstractmethod
    def compile(self, action: Any, state: DialogueState) -> Sequence[Request]:
        """Requests that carry out the action."""

    @abstractmethod
    def reply(self, action: Any, state: DialogueState, completions: Sequence[Completion]) -> Completion:
        """The assistant's turn, given the completions of `compile`."""

    def describe(self, action: Any) -> str:
        """The action in a word or two, for transcripts."""
        return str(action)
