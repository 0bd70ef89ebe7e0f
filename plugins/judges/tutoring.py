"""Whether a student was led to an answer, rather than told it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..verdict import Abstain, Score, Turn

_LEAST = 0.3
"""The score of a lesson that was long, but in which the student got there."""


class TutoringJudge:
    """What a lesson was worth, in [0, 1].

    1 less ``turn_cost`` for every turn of the tutor after the second, and never below 0.3, if the student says the hidden
    ``answer`` before the tutor does; ``told`` if the student says it after the tutor has; 0 if the student never does. Scenarios
    hold ``answer`` among their hidden facts; a turn of others is abstained from. It is meant for the end of a dialogue.

    Args:
        turn_cost: What a further turn costs, in [0, 1].
        told: The score of an answer that was given away, in [0, 0.3].
    """

    def __init__(self, turn_cost: float = 0.1, told: float = 0.1) -> None:
        if not 0 <= turn_cost <= 1:
            raise ValueError(f"`turn_cost` must lie in 0 to 1, not {turn_cost}")
        if not 0 <= told <= _LEAST:
            raise ValueError(f"`told` must lie in 0 to {_LEAST}, not {told}: else giving the answer away pays")
        self._turn_cost, self._told = turn_cost, told

    async def score(self, batch: Sequence[Turn]) -> list[Score | Abstain]:
        """One verdict per turn."""
        return [self._one(turn) for turn in batch]

    async def aclose(self) -> None:
        """Nothing to free."""

    def _one(self, turn: Turn) -> Score | Abstain:
        if "answer" not in turn.hidden:
            return Abstain("the scenario has no hidden `answer`")
        answer = str(turn.hidden["answer"])
        told = False
        for number, message in enumerate(m for m in turn.messages if m["role"] != "system"):
            if not says(message["content"], answer) or number == 0:
                continue
            if message["role"] == "assistant":
                told = True
                continue
            if told:
                return Score(self._told, {"solved": 0.0}, rationale="the tutor said the answer first")
            turns = (number + 1) // 2 + 1  # with the one that confirms the answer
            return Score(max(_LEAST, 1 - self._turn_cost * max(0, turns - 2)), {"solved": 1.0})
        return Score(0.0, {"solved": 0.0}, rationale="the student did not get there")


def says(text: str, answer: str) -> bool:
    """Whether an answer stands in a text as words or a number of its own."""
    return bool(re.search(rf"(?<![\w.,]){re.escape(answer)}(?![\w]|[.,]\d)", text, re.IGNORECASE))
