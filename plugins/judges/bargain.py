"""How well a buyer bargained: the share of what could be won."""

from __future__ import annotations

from collections.abc import Sequence

from ..verdict import Abstain, Failure, Score, Turn
from .prices import closed_at, prices


class BargainJudge:
    """The share of the gap between the seller's lowest price and the buyer's value that the buyer keeps, in [-1, 1].

    ``(value - price) / (value - reserve)`` of a deal, at most 1 and at least -1; 0 without a deal. A deal is mutual:
    the buyer writes ``Deal at $N``, and N is at least the last price that the seller named. Scenarios hold ``value`` and
    ``reserve`` among their hidden facts; a turn of others is abstained from. It is meant for the end of a dialogue
    (``when: end``); earlier turns score what a dialogue that stopped there would.
    """

    async def score(self, batch: Sequence[Turn]) -> list[Score | Abstain | Failure]:
        """One verdict per turn."""
        return [_one(turn) for turn in batch]

    async def aclose(self) -> None:
        """Nothing to free."""


def _one(turn: Turn) -> Score | Abstain | Failure:
    if not {"value", "reserve"} <= turn.hidden.keys():
        return Abstain("the scenario has no hidden `value` and `reserve`")
    value, reserve = float(turn.hidden["value"]), float(turn.hidden["reserve"])
    if value <= reserve:
        return Failure(f"nothing can be won: the buyer's value {value:g} is not above the reserve {reserve:g}")
    asked = [price for m in turn.messages if m["role"] == "user" for price in prices(m["content"])[-1:]]
    price = closed_at(turn.reply)
    if price is None or not asked or price < asked[-1]:
        return Score(0.0, {"deal": 0.0}, rationale="no deal" if price is None else "the seller did not agree")
    share = (value - price) / (value - reserve)
    return Score(max(-1.0, min(1.0, share)), {"deal": 1.0}, rationale=f"deal at ${price:g}")
