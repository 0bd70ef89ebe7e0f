"""`text`: the action is the assistant's turn itself, and the frozen model is not asked at all."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gymnasium import spaces

from ...core.errors import ConfigError
from ...inference.completion import Completion
from ..episode import DialogueState
from .base import ActionInterface, Request

NOT_FOR_SB3 = (
    "`interface=text`: the action is a text, and no agent of Stable-Baselines3 writes texts: train a local model by "
    "`agent=grpo` or `agent=dpo`, or choose another interface, such as `interface=strategy`"
)


class AnyText(spaces.Text):
    """Texts of any characters up to a length; those that `sample` draws are printable ASCII.

    Args:
        max_length: Characters, at most.
    """

    def __init__(self, max_length: int) -> None:
        super().__init__(
            max_length, min_length=0, charset=string.ascii_letters + string.digits + string.punctuation + " "
        )

    def __repr__(self) -> str:
        return f"Text({self.max_length})"

    def contains(self, x: Any) -> bool:
        """Whether it is a text within the length limit."""
        return isinstance(x, str) and len(x) <= self.max_length


class Text(ActionInterface):
    """The action is the turn itself, written by a local model, a person or a script.

    An action may also be a `Completion`, which says besides whether the text was cut (``finish_reason``). What there is to
    answer is in ``info["messages"]`` of `reset` and `step`.

    Args:
        max_length: Characters of a turn; longer turns are refused.
    """

    name: ClassVar[str] = "text"

    def __init__(self, max_length: int = 20_000) -> None:
        if max_length < 1:
            raise ValueError(f"`max_length` must be at least 1, not {max_length}")
        self.requests_per_turn = 0
        self.action_space: AnyText = AnyText(max_length)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Name and ``max_length``."""
        return {"name": self.name, "max_length": self.action_space.max_length}

    def check(self, action: Any) -> None:
        """Refuses actions that are not texts, or too long."""
        text = action.text if isinstance(action, Completion) else action
        if not self.action_space.contains(text):
            kind = f"{len(text):,} characters" if isinstance(text, str) else repr(text)
            raise ConfigError(
                f"an action of `text` must be a text of at most {self.action_space.max_length:,} characters, not {kind}"
            )

    def compile(self, action: Any, state: DialogueState) -> Sequence[Request]:
        """Nothing: the turn is written already."""
        return ()

    def reply(self, action: Any, state: DialogueState, completions: Sequence[Completion]) -> Completion:
        """The action."""
        return action if isinstance(action, Completion) else Completion(action)

    def describe(self, action: Any) -> str:
        """``written``."""
        return "written"
