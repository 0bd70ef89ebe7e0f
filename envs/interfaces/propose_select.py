"""`propose_select`: the frozen model proposes n moves, and the policy decides which one it is directed with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ...inference.completion import Completion, Message
from ...inference.settings import check_template
from ..state import DialogueState
from .base import Request
from .select import Select
from .strategy import directed

ASK = "Do not answer yet. Say in one short sentence, as an instruction, how the assistant should answer next."
DIRECT = "For this answer: {move}"


class ProposeSelect(Select):
    """Samples n moves before the observation is built; the action is the index of the one that directs the answer.

    Args:
        n: Number of moves, at least 2.
        ask: What the model is asked for a move, as one more user turn.
        direct: How a move enters the system prompt; must hold ``{move}``.
        max_tokens: Of a move.
        logprobs: Whether the endpoint is asked for the moves' logprobs.
        top_logprobs: See `Select`.
    """

    name: ClassVar[str] = "propose_select"
    chooses_reply: ClassVar[bool] = False

    def __init__(
        self,
        n: int = 4,
        ask: str = ASK,
        direct: str = DIRECT,
        max_tokens: int = 40,
        logprobs: bool = True,
        top_logprobs: int = 0,
    ) -> None:
        super().__init__(n, logprobs, top_logprobs)
        check_template("direct", direct, ("move",), needed=("move",))
        if max_tokens < 1:
            raise ValueError(f"`max_tokens` must be at least 1, not {max_tokens}")
        self._ask, self._direct, self._max_tokens = ask, direct, max_tokens
        self.requests_per_turn = n + 1

    @property
    def settings(self) -> Mapping[str, Any]:
        """Name, n, the two wordings, and what is asked for."""
        own = {"ask": self._ask, "direct": self._direct, "max_tokens": self._max_tokens}
        return {**super().settings, **own}

    def propose(self, state: DialogueState) -> Sequence[Request]:
        """The dialogue with one more user turn, which asks for a move."""
        asked: Message = {"role": "user", "content": self._ask}
        sampling = {"max_tokens": self._max_tokens}
        return [
            Request((*state.messages, asked), index, self._logprobs, self._top_logprobs, sampling)
            for index in range(self.n)
        ]

    def compile(self, action: Any, state: DialogueState) -> Sequence[Request]:
        """One request, directed by the chosen move."""
        move = state.proposals[int(action)].text
        return [Request(directed(state.messages, self._direct.format(move=move)), self.n)]

    def reply(self, action: Any, state: DialogueState, completions: Sequence[Completion]) -> Completion:
        """The directed answer."""
        return completions[0]

    def describe(self, action: Any) -> str:
        """``move i``."""
        return f"move {int(action)}"
