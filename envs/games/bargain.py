"""`bargain`: a buyer, directed by the policy, and a seller with a hidden lowest price; with its judge."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...inference.completion import Message
from ...plugins.judge import Abstain, Failure, Score, Turn, TurnJudge, Verdict
from ..scenarios.scenario import Scenario, Split
from .game import Game

_PRICE = re.compile(r"\$\s?(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d{1,2}))?(?!\d|,\d)")
_DEAL = re.compile(r"\bdeal\s+at\s+(?=\$)", re.IGNORECASE)


def prices(text: str) -> list[float]:
    """The sums in dollars that a text names, in order: ``$85``, ``$1,200``, ``$9.50``."""
    return [float(f"{whole.replace(',', '')}.{cents or 0}") for whole, cents in _PRICE.findall(text)]


def closed_at(text: str) -> float | None:
    """The price of a ``Deal at $N``, which closes the bargain; None if the text closes nothing."""
    found = _DEAL.search(text)
    return next(iter(prices(text[found.end() :])), None) if found else None


class BargainJudge(TurnJudge):
    """The share of the gap between the seller's lowest price and the buyer's value that the buyer keeps, in [-1, 1].

    ``(value - price) / (value - reserve)`` of a deal, at most 1 and at least -1; 0 without a deal. A deal is mutual:
    the buyer writes ``Deal at $N``, and N is at least the last price that the seller named. Scenarios hold ``value`` and
    ``reserve`` among their hidden facts; a turn of others is abstained from. It is meant for the end of a dialogue
    (``when: end``); earlier turns score what a dialogue that stopped there would.
    """

    name = "bargain"
    summary = "the share of the gap that a buyer won in a deal"

    def judge(self, turn: Turn) -> Verdict:
        """Judges one turn."""
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


DIRECTIVES = (
    "",
    "Offer half of the price that was asked first.",
    "Offer a fifth less than the seller's last price.",
    "Name the same price as in your last offer.",
    "Offer the middle between your last offer and the seller's last price.",
    "Accept the seller's last price.",
    "Ask about its condition, and name no price.",
)

_ITEMS = {  # to a usual price in dollars
    "a road bike": 240,
    "a kitchen table": 120,
    "an acoustic guitar": 180,
    "a film camera": 90,
    "a two-person tent": 75,
    "a sewing machine": 110,
    "an office chair": 85,
    "a record player": 130,
    "a pair of skis": 160,
    "a bookcase": 60,
    "a child's bed": 95,
    "a lawn mower": 150,
    "a coffee machine": 140,
    "a telescope": 210,
    "a rowing boat": 480,
    "an armchair": 100,
}
_MOODS: Mapping[str, tuple[str, ...]] = {
    "eager": (
        "I am moving on Friday, so it has to go.",
        "I need the room soon.",
        "I would like to be rid of it today.",
    ),
    "calm": ("It is in good shape.", "I have looked after it well.", "It was hardly used."),
    "firm": ("Several people have asked already.", "I am in no hurry to sell.", "I know what it is worth."),
}
_CONCEDES = {"eager": 0.5, "calm": 0.35, "firm": 0.2}  # share of the distance to the buyer's offer, per turn
_PATIENCE = {"eager": 3, "calm": 2, "firm": 1}  # turns that lead nowhere before the seller leaves
_TOO_LOW = {"eager": 0.45, "calm": 0.55, "firm": 0.7}  # of the seller's last price: below it an offer is no offer
_SYSTEM = (
    "You are buying {item} for yourself. It is worth ${value} to you: pay less if you can, and never more. Name a price as "
    "$N. To close at the seller's last price, say: Deal at $N. Answer in one short sentence."
)


def _scenario(rng: random.Random, id: str, split: Split) -> Scenario:
    item = rng.choice(list(_ITEMS))
    mood = rng.choice(list(_MOODS))
    asked = round(_ITEMS[item] * rng.uniform(0.7, 1.4))
    reserve = round(asked * rng.uniform(0.55, 0.8))
    value = round(max(asked * rng.uniform(0.85, 1.15), reserve * 1.15 + 1))
    opening = f"Hello, I am selling {item} for ${asked}. {rng.choice(_MOODS[mood])}"
    return Scenario(
        id,
        split,
        (opening,),
        system=_SYSTEM.format(item=item, value=value),
        tags=("bargain", mood),
        persona=f"You are selling {item} on a flea market and asked ${asked}. {_MOODS[mood][0]}",
        goal=f"Sell for as much as you can, and never for less than ${reserve}. Name every price as $N. "
        "The sale is done when the buyer says: Deal at $N, with your last price.",
        hidden={"value": value, "reserve": reserve, "asked": asked, "mood": mood},
    )


def _reply(hidden: Mapping[str, Any], messages: Sequence[Message]) -> str | None:
    """The seller; the whole bargain is gone through again at every turn, so that nothing needs to be remembered."""
    reserve, mood = float(hidden["reserve"]), hidden["mood"]
    price, patience, said = float(hidden["asked"]), _PATIENCE[mood], ""
    for message in messages:
        if message["role"] != "assistant":
            continue
        closing, offers = closed_at(message["content"]), prices(message["content"])
        if closing is not None and closing >= price:
            return None
        if not offers:
            patience -= 1
            said = "It is as good as I said. What would you pay?"
        elif offers[-1] >= max(reserve, 0.93 * price):
            price, said = min(price, offers[-1]), f"${min(price, offers[-1]):g} is fine with me."
            continue
        elif offers[-1] < _TOO_LOW[mood] * price or price <= reserve:
            patience -= 1
            said = f"That is too little. {_last_word(price) if price <= reserve else f'I stay at ${price:g}.'}"
        else:
            price = max(reserve, float(round(price - _CONCEDES[mood] * (price - offers[-1]))))
            said = _last_word(price) if price <= reserve else f"I could go down to ${price:g}."
        if patience < 0:
            return None
    return said


def _last_word(price: float) -> str:
    return f"${price:g} is my last word."


def _answer(messages: Sequence[Message], move: int) -> str:
    """The buyer's reply; an offer that the seller accepted is closed under any directive."""
    sellers = [m["content"] for m in messages if m["role"] == "user"]
    offers = [prices(m["content"])[-1] for m in messages if m["role"] == "assistant" and prices(m["content"])]
    named = [price for text in sellers for price in prices(text)[-1:]]
    if not named:
        return "What would you take for it?"
    asked, last = named[0], named[-1]
    if move == 5 or re.search(r"is fine with me", sellers[-1]):
        return f"Deal at ${last:g}."
    if move == 6:
        return "What condition is it in?"
    mine = offers[-1] if offers else 0.5 * asked
    offer = {0: 0.95 * last, 1: 0.5 * asked, 2: 0.8 * last, 3: mine, 4: (mine + last) / 2}[move]
    return f"I can offer ${max(1, round(offer))}."


GAME = Game(_scenario, _reply, _answer, DIRECTIVES, {"outcome": {"name": "bargain", "when": "end"}})
