"""The state of one dialogue, as far as the assistant's side may know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..inference.completion import Completion, Message


@dataclass
class DialogueState:
    """What observations are built from: nothing here is hidden, so that serving can rebuild it from a request.

    Attributes:
        messages: The dialogue so far, system prompt first if there is one; ends with a user turn while the assistant
            is to act.
        turn: Number of assistant turns so far.
        draw: Which independent repetition of the scenario this is; decides the sample indices.
        proposals: Candidates for the turn that is being decided, for two-phase interfaces.
    """

    messages: list[Message]
    turn: int = 0
    draw: int = 0
    proposals: Sequence[Completion] = field(default_factory=tuple)

    @property
    def user_message(self) -> str:
        """The latest user turn."""
        return next((m["content"] for m in reversed(self.messages) if m["role"] == "user"), "")

    @property
    def last_reply(self) -> str:
        """The latest assistant turn; empty before the first."""
        return next((m["content"] for m in reversed(self.messages) if m["role"] == "assistant"), "")
