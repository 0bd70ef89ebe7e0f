"""The state of one dialogue, as far as the assistant's side may know it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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

    @classmethod
    def of(cls, messages: Sequence[Mapping[str, Any]], draw: int = 0) -> DialogueState:
        """The state that a request's messages leave: what a deployed policy knows, and all that it knows.

        Args:
            messages: As the API takes them. Of content in parts the texts count, of no content nothing.
            draw: Which of several independent answers is to be given.
        """
        roles = ["system" if m["role"] == "developer" else str(m["role"]) for m in messages]
        plain: list[Message] = [
            {"role": role, "content": _text(m.get("content"))} for role, m in zip(roles, messages, strict=True)
        ]
        return cls(plain, roles.count("assistant"), draw)

    @property
    def user_message(self) -> str:
        """The latest user turn."""
        return next((m["content"] for m in reversed(self.messages) if m["role"] == "user"), "")

    @property
    def last_reply(self) -> str:
        """The latest assistant turn; empty before the first."""
        return next((m["content"] for m in reversed(self.messages) if m["role"] == "assistant"), "")


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part["text"]) for part in parts if isinstance(part, Mapping) and "text" in part)
