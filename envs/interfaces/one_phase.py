"""One-phase interfaces: `plain`, `strategy`, `decode`, `strategy_decode` and `route`. The policy decides before any candidate is sampled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from ...inference.completion import Completion, Message
from ...inference.endpoint import Endpoint
from ..episode import DialogueState
from .base import ActionInterface, Request


class Plain(ActionInterface):
    """One request, nothing to decide: `Discrete(1)`."""

    name: ClassVar[str] = "plain"

    def __init__(self) -> None:
        self.requests_per_turn = 1
        self.action_space = spaces.Discrete(1)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Only the name."""
        return {"name": self.name}

    def compile(self, action: Any, state: DialogueState) -> Sequence[Request]:
        """Sends the dialogue unchanged."""
        return [Request(tuple(state.messages))]

    def reply(self, action: Any, state: DialogueState, completions: Sequence[Completion]) -> Completion:
        """The model's answer."""
        return completions[0]

    def describe(self, action: Any) -> str:
        """``plain``."""
        return "plain"


DIRECTIVES = (
    "",
    "Answer in one short, plain sentence.",
    "Answer fully, with the reason in a second sentence.",
    "Begin by restating what the user needs, then answer.",
    "Give one concrete example.",
    "Ask one short question that would help you to answer.",
    "Be warm and encouraging.",
    "Think of what could be wrong with the obvious answer before you give yours.",
)
"""The default directives; index 0 leaves the model alone."""


class Strategy(ActionInterface):
    """Adds a directive to the system prompt of one request; it never enters the dialogue itself.

    Args:
        directives: One text per action; the first should be empty, which leaves the model alone. `DIRECTIVES` if None.
    """

    name: ClassVar[str] = "strategy"

    def __init__(self, directives: Sequence[str] | None = None) -> None:
        self.directives = DIRECTIVES if directives is None else tuple(directives)
        if len(self.directives) < 2:
            raise ValueError(f"`directives` must hold at least 2 texts, not {len(self.directives)}")
        self.requests_per_turn = 1
        self.action_space = spaces.Discrete(len(self.directives))

    @property
    def settings(self) -> Mapping[str, Any]:
        """Name and directives."""
        return {"name": self.name, "directives": list(self.directives)}

    def compile(self, action: Any, state: DialogueState) -> Sequence[Request]:
        """One request, directed."""
        directive = self.directives[int(action)]
        return [Request(directed(state.messages, directive) if directive else tuple(state.messages))]

    def reply(self, action: Any, state: DialogueState, completions: Sequence[Completion]) -> Completion:
        """The model's answer."""
        return completions[0]

    def describe(self, action: Any) -> str:
        """The directive."""
        return self.directives[int(action)] or "no directive"


def directed(messages: Sequence[Message], directive: str) -> tuple[Message, ...]:
    """The messages with the directive at the end of the system prompt, which is made if there is none."""
    if messages and messages[0]["role"] == "system":
        first: Message = {"role": "system", "content": f"{messages[0]['content']}\n{directive}"}
        return (first, *messages[1:])
    return ({"role": "system", "content": directive}, *messages)


TEMPERATURES = (0.2, 0.7, 1.0, 1.3)
TOP_PS = (0.5, 0.9, 1.0)
MAX_TOKENS = (16, 40, 120)
_RANGES = {"temperature": (0.0, 10.0), "top_p": (1e-6, 1.0), "max_tokens": (1, 1_000_000)}


class Decode(ActionInterface):
    """Chooses one value from each grid; a grid of one value is sent without a choice.

    Args:
        temperatures: At least 0.
        top_ps: In (0, 1].
        max_tokens: At least 1.
    """

    name: ClassVar[str] = "decode"

    def __init__(
        self,
        temperatures: Sequence[float] = TEMPERATURES,
        top_ps: Sequence[float] = TOP_PS,
        max_tokens: Sequence[int] = MAX_TOKENS,
    ) -> None:
        self._grids: dict[str, tuple[float, ...]] = {
            "temperature": tuple(temperatures),
            "top_p": tuple(top_ps),
            "max_tokens": tuple(max_tokens),
        }
        for name, grid in self._grids.items():
            low, high = _RANGES[name]
            if not grid or not all(low <= value <= high for value in grid):
                raise ValueError(f"every value of `{name}` must lie in {low} to {high}, not {list(grid)}")
        if math.prod(len(grid) for grid in self._grids.values()) < 2:
            raise ValueError("every grid holds one value: there is nothing to decide")
        self.requests_per_turn = 1
        self.sizes = [len(grid) for grid in self._grids.values()]
        self.action_space = spaces.MultiDiscrete(self.sizes)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Name and grids."""
        grids = (list(grid) for grid in self._grids.values())
        return {"name": self.name, **dict(zip(("temperatures", "top_ps", "max_tokens"), grids, strict=True))}

    def sampling(self, action: Any) -> dict[str, float]:
        """The chosen values by the name that the API has for them."""
        chosen = zip(self._grids.items(), np.asarray(action), strict=True)
        return {name: grid[int(index)] for (name, grid), index in chosen}

    def compile(self, action: Any, state: DialogueState) -> Sequence[Request]:
        """One request, sampled as chosen."""
        return [Request(tuple(state.messages), sampling=self.sampling(action))]

    def reply(self, action: Any, state: DialogueState, completions: Sequence[Completion]) -> Completion:
        """The model's answer."""
        return completions[0]

    def describe(self, action: Any) -> str:
        """``temperature 0.7, top_p 0.9, max_tokens 40``."""
        return ", ".join(f"{name} {value:g}" for name, value in self.sampling(action).items())


class StrategyDecode(ActionInterface):
    """A directive, as in `strategy`, and a choice from each grid, as in `decode`.

    Args:
        directives: One text per value of the action's first part; the first should be empty. `DIRECTIVES` if None.
        temperatures: At least 0.
        top_ps: In (0, 1].
        max_tokens: At least 1.
    """

    name: ClassVar[str] = "strategy_decode"

    def __init__(
        self,
        directives: Sequence[str] | None = None,
        temperatures: Sequence[float] = TEMPERATURES,
        top_ps: Sequence[float] = TOP_PS,
        max_tokens: Sequence[int] = MAX_TOKENS,
    ) -> None:
        self._decode = Decode(temperatures, top_ps, max_tokens)
        self.directives = DIRECTIVES if directives is None else tuple(directives)
        if len(self.directives) < 2:
            raise ValueError(f"`directives` must hold at least 2 texts, not {len(self.directives)}: else take `decode`")
        self.requests_per_turn = 1
        self.action_space = spaces.MultiDiscrete([len(self.directives), *self._decode.sizes])

    @property
    def settings(self) -> Mapping[str, Any]:
        """Name, directives and grids."""
        return {**self._decode.settings, "name": self.name, "directives": list(self.directives)}

    def compile(self, action: Any, state: DialogueState) -> Sequence[Request]:
        """One request, directed and sampled as chosen."""
        directive = self.directives[int(action[0])]
        messages = directed(state.messages, directive) if directive else tuple(state.messages)
        return [Request(messages, sampling=self._decode.sampling(action[1:]))]

    def reply(self, action: Any, state: DialogueState, completions: Sequence[Completion]) -> Completion:
        """The model's answer."""
        return completions[0]

    def describe(self, action: Any) -> str:
        """The directive and the chosen values."""
        return f"{self.directives[int(action[0])] or 'no directive'} ({self._decode.describe(action[1:])})"


class Route(ActionInterface):
    """One request, to the model of the action's index.

    Args:
        models: Name to what its endpoint has otherwise than the assistant's: ``{}`` for the assistant itself, ``{model: large,
            price: {…}}`` for another model at the same address, ``{base_url: …, model: …, api_key_env: …}`` for another
            server. At least two, in the order of the actions.
    """

    name: ClassVar[str] = "route"

    def __init__(self, models: Mapping[str, Mapping[str, Any] | None] | None = None) -> None:
        self.models = {str(name): dict(settings or {}) for name, settings in (models or {}).items()}
        if len(self.models) < 2:
            raise ValueError(f"`models` must name at least 2 models, not {len(self.models)}")
        self._names = list(self.models)
        self.requests_per_turn = 1
        self.action_space = spaces.Discrete(len(self.models))

    @property
    def settings(self) -> Mapping[str, Any]:
        """Name and models."""
        return {"name": self.name, "models": self.models}

    def endpoints(self, assistant: Endpoint) -> dict[str, Endpoint]:
        """Builds every model's endpoint.

        Args:
            assistant: The assistant's endpoint, whose settings hold where a model has none of its own.

        Returns:
            Name to endpoint.

        Raises:
            ConfigError: If a setting is unknown or refused.
        """
        made = {}
        for name, own in self.models.items():
            settings = assistant.to_settings()
            for key, value in own.items():
                both = isinstance(value, Mapping) and isinstance(settings.get(key), Mapping)
                settings[key] = {**settings[key], **value} if both else value
            made[name] = Endpoint.from_settings(settings, f"interface.models.{name}")
        return made

    def compile(self, action: Any, state: DialogueState) -> Sequence[Request]:
        """One request, to the chosen model."""
        return [Request(tuple(state.messages), route=self._names[int(action)])]

    def reply(self, action: Any, state: DialogueState, completions: Sequence[Completion]) -> Completion:
        """The chosen model's answer."""
        return completions[0]

    def describe(self, action: Any) -> str:
        """The model's name."""
        return self._names[int(action)]
