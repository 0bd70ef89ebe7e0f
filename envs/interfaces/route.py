"""`route`: the policy picks which model answers; what each costs can enter the reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gymnasium import spaces

from ...inference.completion import Completion
from ...inference.endpoint import Endpoint
from ..state import DialogueState
from .base import ActionInterface, Request


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
        """Every model's endpoint.

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
        """That model's answer."""
        return completions[0]

    def describe(self, action: Any) -> str:
        """The model's name."""
        return self._names[int(action)]
