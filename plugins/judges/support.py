"""How much of what a case needs a support agent collected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..verdict import Abstain, Score, Turn


class SupportJudge:
    """The share of a case's details that the customer gave, less a cost of further turns, in [0, 1].

    ``given / needed``, with ``bonus`` of it only for a case whose details are complete, less ``turn_cost`` for every turn of the
    agent after the first. Scenarios hold the details as ``slots`` among their hidden facts, a mapping of name to value;
    a turn of others is abstained from. It is meant for the end of a dialogue.

    Args:
        bonus: The part of the score that only a complete case earns, in [0, 1].
        turn_cost: What a further turn costs, in [0, 1].
    """

    def __init__(self, bonus: float = 0.5, turn_cost: float = 0.02) -> None:
        for name, value in (("bonus", bonus), ("turn_cost", turn_cost)):
            if not 0 <= value <= 1:
                raise ValueError(f"`{name}` must lie in 0 to 1, not {value}")
        self._bonus, self._turn_cost = bonus, turn_cost

    async def score(self, batch: Sequence[Turn]) -> list[Score | Abstain]:
        """One verdict per turn."""
        return [self._one(turn) for turn in batch]

    async def aclose(self) -> None:
        """Nothing to free."""

    def _one(self, turn: Turn) -> Score | Abstain:
        slots = turn.hidden.get("slots")
        if not isinstance(slots, Mapping) or not slots:
            return Abstain("the scenario has no hidden `slots`")
        customer = " ".join(m["content"] for m in turn.messages if m["role"] == "user")
        collected = sum(str(value) in customer for value in slots.values()) / len(slots)
        score = (1 - self._bonus) * collected + self._bonus * float(collected == 1)
        return Score(
            max(0.0, score - self._turn_cost * turn.index), {"collected": collected, "complete": float(collected == 1)}
        )
