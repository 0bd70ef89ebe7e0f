"""Two-phase interfaces: `select` and `propose_select`. The policy sees n candidates and chooses one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from ...core.settings import check_template
from ...inference.completion import Completion, Message
from ...inference.encoders import Encoder, HashingEncoder
from ..episode import DialogueState
from .base import ActionInterface, Features, Request
from .one_phase import directed

FEATURES = (
    "similarity",  # cosine with the user's message
    "echo",  # the same by words and character trigrams instead of meaning
    "agreement",  # mean cosine with the other candidates
    "words",  # log(1 + number of words) / 4, at most 2
    "distinct",  # share of different words
    "finished",  # 1 if the answer ended by itself
    "logprob_mean",  # mean token logprob in nats, at least -5
    "logprob_start",  # the same of the first 6 tokens
    "logprob_min",  # lowest token logprob / 10, at least -2
    "entropy",  # mean entropy of the top alternatives in nats, at most 5
    "has_logprobs",  # 1 if the four before it are known, else they are 0
)
"""What each column of the observation's ``candidates`` holds, in order."""

_LOW = np.array([-1, -1, -1, 0, 0, 0, -5, -5, -2, 0, 0], np.float32)
_HIGH = np.array([1, 1, 1, 2, 1, 1, 0, 0, 0, 5, 1], np.float32)
_START = 6  # tokens


class Select(ActionInterface):
    """Samples n candidates before the observation is built; the action is the index of the one to send.

    Args:
        n: Number of candidates, at least 2.
        logprobs: Whether the endpoint is asked for token logprobs; set it to false where it gives none.
        top_logprobs: Alternatives per position for the ``entropy`` feature; 0 leaves it at 0.
    """

    name: ClassVar[str] = "select"
    two_phase: ClassVar[bool] = True
    chooses_reply: ClassVar[bool] = True
    exchangeable: ClassVar[bool] = True

    def __init__(self, n: int = 4, logprobs: bool = True, top_logprobs: int = 0) -> None:
        if n < 2:
            raise ValueError(f"`n` must be at least 2, not {n}")
        if top_logprobs and not logprobs:
            raise ValueError("`top_logprobs` needs `logprobs=true`")
        self.n = self.requests_per_turn = self.proposals_per_turn = n
        self._logprobs = logprobs
        self._top_logprobs = top_logprobs
        self._lexical = HashingEncoder(2048)
        self.action_space = spaces.Discrete(n)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Name, n and which logprobs are asked for."""
        return {"name": self.name, "n": self.n, "logprobs": self._logprobs, "top_logprobs": self._top_logprobs}

    @property
    def requires(self) -> frozenset[str]:
        """Logprobs, if they are asked for."""
        wanted = {"logprobs": self._logprobs, "top_logprobs": bool(self._top_logprobs)}
        return frozenset(name for name, needed in wanted.items() if needed)

    def observation_space(self, encoder: Encoder) -> dict[str, spaces.Box]:
        """``candidates`` (n, 11) by `FEATURES`, and ``candidate_embeddings`` (n, dim)."""
        return {
            "candidates": spaces.Box(np.tile(_LOW, (self.n, 1)), np.tile(_HIGH, (self.n, 1)), dtype=np.float32),
            "candidate_embeddings": spaces.Box(-1.0, 1.0, (self.n, encoder.dim), np.float32),
        }

    def mask(self, observation: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_] | None:
        """Candidates that say something; None where all do, or none."""
        says = observation["candidates"][:, FEATURES.index("words")] > 0
        return says if says.any() and not says.all() else None

    def propose(self, state: DialogueState) -> Sequence[Request]:
        """Equal requests with different sample indices."""
        messages = tuple(state.messages)
        return [Request(messages, index, self._logprobs, self._top_logprobs) for index in range(self.n)]

    async def features(self, state: DialogueState, encoder: Encoder) -> Features:
        """Embeds the candidates and describes each of them."""
        texts = [completion.text for completion in state.proposals]
        vectors = await encoder.encode([*texts, state.user_message])  # (n + 1, dim)
        candidates = vectors[:-1]
        cosines = candidates @ candidates.T  # (n, n)
        agreement = (cosines.sum(1) - cosines.diagonal()) / (self.n - 1)
        rows = np.array([_describe(c, entropy=bool(self._top_logprobs)) for c in state.proposals], np.float32)
        lexical = await self._lexical.encode([*texts, state.user_message])
        table = np.column_stack([candidates @ vectors[-1], lexical[:-1] @ lexical[-1], agreement, rows]).astype(
            np.float32
        )
        return {"candidates": table.clip(_LOW, _HIGH), "candidate_embeddings": candidates.clip(-1, 1)}

    def compile(self, action: Any, state: DialogueState) -> Sequence[Request]:
        """Nothing is left to ask."""
        return ()

    def reply(self, action: Any, state: DialogueState, completions: Sequence[Completion]) -> Completion:
        """The chosen candidate."""
        return state.proposals[int(action)]

    def describe(self, action: Any) -> str:
        """``candidate i``."""
        return f"candidate {int(action)}"


def _describe(completion: Completion, *, entropy: bool) -> list[float]:
    """The columns of `FEATURES` from ``words`` on."""
    words = re.findall(r"\w+", completion.text.lower())
    shape = [
        math.log1p(len(words)) / 4,
        len(set(words)) / max(len(words), 1),
        float(completion.finish_reason == "stop"),
    ]
    if not completion.logprobs:
        return [*shape, 0.0, 0.0, 0.0, 0.0, 0.0]
    logprobs = np.array([token.logprob for token in completion.logprobs])
    spread = 0.0
    if entropy:  # some servers send alternatives unasked
        spread = float(
            np.mean([_entropy([top.logprob for top in token.top_logprobs]) for token in completion.logprobs])
        )
    start = float(logprobs[:_START].mean())
    return [*shape, float(logprobs.mean()), start, float(logprobs.min()) / 10, spread, 1.0]


def _entropy(logprobs: Sequence[float]) -> float:
    """Entropy in nats of the listed alternatives; the remaining probability counts as one alternative."""
    probabilities = np.exp(np.array(logprobs, np.float64))
    rest = 1 - probabilities.sum()
    if not logprobs:
        return 0.0
    every = np.append(probabilities, rest) if rest > 0 else probabilities
    every = every[every > 0]
    return float(-(every * np.log(every)).sum())


ASK = "Do not answer yet. Say in one short sentence, as an instruction, how the assistant should answer next."
DIRECT = "For this answer: {move}"


class ProposeSelect(Select):
    """Samples n moves before the observation is built; the action is the index of the one that directs the answer.

    Args:
        n: Number of moves, at least 2.
        ask: What the model is asked for a move, after what the user said last.
        direct: Template of a move in the system prompt; must contain ``{move}``.
        max_tokens: Tokens of a move.
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
        """Name, n, both prompts and the requested logprobs."""
        own = {"ask": self._ask, "direct": self._direct, "max_tokens": self._max_tokens}
        return {**super().settings, **own}

    def propose(self, state: DialogueState) -> Sequence[Request]:
        """Appends the request for a move to the user's last message.

        It is no message of its own, because some chat templates refuse two user messages in a row.

        Args:
            state: The dialogue so far.

        Returns:
            One request per candidate.
        """
        before, ask = tuple(state.messages), self._ask
        if before and before[-1]["role"] == "user" and isinstance(before[-1]["content"], str):
            ask = f"{before[-1]['content']}\n\n{ask}"
            before = before[:-1]
        asked: Message = {"role": "user", "content": ask}
        sampling = {"max_tokens": self._max_tokens}
        return [
            Request((*before, asked), index, self._logprobs, self._top_logprobs, sampling) for index in range(self.n)
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
