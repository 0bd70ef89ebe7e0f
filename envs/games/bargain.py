"""`bargain`: a buyer, whom the policy directs, against a seller with a hidden lowest price.

The seller's mood shows in the words of the first turn. It decides how fast the price falls, and how many offers far below
it the seller hears before walking away.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...inference.completion import Message
from ...plugins.judges.prices import closed_at, prices
from ..scenarios import Scenario, Split
from .game import Game

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
    """The buyer. An offer that the seller took is closed, whatever the directive says."""
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
