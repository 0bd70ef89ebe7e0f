"""`strategy`: the policy picks a directive that steers the frozen model for one turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gymnasium import spaces

from ...inference.completion import Completion, Message
from ..state import DialogueState
from .base import ActionInterface, Request

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
