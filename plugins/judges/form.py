"""Whether an answer has the form that was asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from ..verdict import Abstain, Failure, Score, Turn

_BRIEF = 12  # words
_WARM = re.compile(r"\b(sorry|glad|good for you|well done|you can do|take care|understand)\b", re.IGNORECASE)

FORMS: Mapping[str, Callable[[str], bool]] = {
    "brief": lambda text: len(text.split()) <= _BRIEF,
    "reason": lambda text: bool(re.search(r"\b(because|the reason is|since)\b", text, re.IGNORECASE)),
    "example": lambda text: bool(re.search(r"\b(for example|for instance|such as)\b", text, re.IGNORECASE)),
    "question": lambda text: text.rstrip().endswith("?"),
    "warm": lambda text: bool(_WARM.search(text)),
}
"""What each form is recognised by."""


class FormJudge:
    """1 for an answer of the form that the scenario's hidden fact ``form`` names, else 0; an empty answer scores 0.

    ``brief`` has at most 12 words, ``reason`` gives one, ``example`` gives one, ``question`` asks back, ``warm`` has a kind
    word. A turn of a scenario without ``form`` is abstained from.
    """

    async def score(self, batch: Sequence[Turn]) -> list[Score | Abstain | Failure]:
        """One verdict per turn."""
        return [_one(turn) for turn in batch]

    async def aclose(self) -> None:
        """Nothing to free."""


def _one(turn: Turn) -> Score | Abstain | Failure:
    form = turn.hidden.get("form")
    if form is None:
        return Abstain("the scenario has no hidden `form`")
    if form not in FORMS:
        return Failure(f"there is no form `{form}`: known: {', '.join(FORMS)}")
    return Score(float(bool(turn.reply.strip()) and FORMS[form](turn.reply)))
