"""`plain`: the frozen model as it is; the baseline of every comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gymnasium import spaces

from ...inference.completion import Completion
from ..state import DialogueState
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
        """The dialogue as it stands."""
        return [Request(tuple(state.messages))]

    def reply(self, action: Any, state: DialogueState, completions: Sequence[Completion]) -> Completion:
        """The model's answer."""
        return completions[0]

    def describe(self, action: Any) -> str:
        """``plain``."""
        return "plain"
