"""`support`: an agent collects the facts of a customer's case in a tone that suits the customer; with its judge."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from ...inference.completion import Message
from ...plugins.judge import Abstain, Score, Turn, TurnJudge, Verdict
from ..scenarios.scenario import Scenario, Split
from .game import Game


class SupportJudge(TurnJudge):
    """The share of a case's details that the customer gave, less a cost of further turns, in [0, 1].

    ``given / needed``, with ``bonus`` of it only for a case whose details are complete, less ``turn_cost`` for every turn of the
    agent after the first. Scenarios hold the details as ``slots`` among their hidden facts, a mapping of name to value;
    a turn of others is abstained from. It is meant for the end of a dialogue.

    Args:
        bonus: The part of the score that only a complete case earns, in [0, 1].
        turn_cost: Cost of every further turn, in [0, 1].
    """

    name = "support"
    summary = "the share of a case's details that were collected"

    def __init__(self, bonus: float = 0.5, turn_cost: float = 0.02) -> None:
        for name, value in (("bonus", bonus), ("turn_cost", turn_cost)):
            if not 0 <= value <= 1:
                raise ValueError(f"`{name}` must lie in 0 to 1, not {value}")
        self._bonus, self._turn_cost = bonus, turn_cost

    def judge(self, turn: Turn) -> Verdict:
        """Judges one turn."""
        slots = turn.hidden.get("slots")
        if not isinstance(slots, Mapping) or not slots:
            return Abstain("the scenario has no hidden `slots`")
        customer = " ".join(m["content"] for m in turn.messages if m["role"] == "user")
        collected = sum(str(value) in customer for value in slots.values()) / len(slots)
        score = (1 - self._bonus) * collected + self._bonus * float(collected == 1)
        return Score(
            max(0.0, score - self._turn_cost * turn.index), {"collected": collected, "complete": float(collected == 1)}
        )


_SLOTS = {
    "order": "the order number",
    "address": "the delivery address",
    "model": "the model",
    "date": "the date of purchase",
}
DIRECTIVES = (
    "",
    *(f"Ask for {words}, in one plain sentence." for words in _SLOTS.values()),
    "Say that you are sorry and ask what happened.",
    "Ask for everything at once: order number, address, model and date.",
    "Say that you are sorry, and ask for everything at once: order number, address, model and date.",
)

_NEEDED = {
    "late": ("order", "address"),
    "broken": ("model", "date"),
    "wrong": ("order", "model"),
    "refund": ("order", "date"),
}
_ABOUT = {
    "late": ("My parcel has not arrived.", "I am still waiting for what I bought.", "The delivery is a week late."),
    "broken": ("The thing stopped working.", "It broke after a few days.", "It does not switch on any more."),
    "wrong": ("You sent me something else.", "This is not what I chose.", "There was the wrong thing in the box."),
    "refund": ("I want my money back.", "I sent it back and nobody paid me.", "Please return what I paid."),
}  # fmt: skip
_GREETINGS = ("", "Hello.", "Good morning.", "Hi there.")
_THINGS = tuple(
    f"It is about {thing}."
    for thing in (
        "a kettle",
        "a lamp",
        "a fan",
        "a radio",
        "a heater",
        "a mixer",
        "a clock",
        "a drill",
        "a scale",
        "a torch",
    )
)
_TONE = {
    "calm": ("Could you look into it?", "Thank you for your help.", "What do you need from me?"),
    "upset": ("I am really angry about it!", "This is a disgrace!", "I have had enough of this!"),
    "hurried": ("I have one minute.", "Please be quick.", "Keep it short, I am on my way."),
}
_PATIENCE = {"calm": 2, "upset": 1, "hurried": 1}  # turns that lead nowhere before the customer leaves
_SYSTEM = (
    "You work in customer service. Collect what the case needs, and nothing else: a late parcel needs the order number and the "
    "address; a broken thing the model and the date; a wrong one the order number and the model; a refund the order number "
    "and the date. Answer in one or two short sentences."
)


def _scenario(rng: random.Random, id: str, split: Split) -> Scenario:
    case, tone = rng.choice(list(_NEEDED)), rng.choice(list(_TONE))
    values = {
        "order": f"{rng.choice('ABCDEFGH')}{rng.randrange(10_000, 100_000)}",
        "address": f"{rng.randrange(1, 200)} {rng.choice(('Mill', 'Station', 'Garden', 'Bridge', 'Church'))} Street",
        "model": f"{rng.choice(('Luna', 'Vento', 'Orbis', 'Tarn', 'Kelo'))} {rng.randrange(100, 1000)}",
        "date": f"{rng.randrange(1, 29)} {rng.choice(('January', 'March', 'May', 'July', 'October'))}",
    }
    slots = {name: values[name] for name in _NEEDED[case]}
    return Scenario(
        id,
        split,
        (
            f"{rng.choice(_GREETINGS)} {rng.choice(_ABOUT[case])} {rng.choice(_THINGS)} {rng.choice(_TONE[tone])}".strip(),
        ),
        system=_SYSTEM,
        tags=("support", case, tone),
        persona=f"You are a customer, {tone}. {_ABOUT[case][0]}",
        goal="Give a detail only when you are asked for it: "
        + ", ".join(f"{_SLOTS[name]} is {value}" for name, value in slots.items())
        + ". You have no other.",
        hidden={"slots": slots, "tone": tone},
    )


def _reply(hidden: Mapping[str, Any], messages: Sequence[Message]) -> str | None:
    """The customer's reply: reacts to the names of details, to an apology when upset, to brevity when hurried."""
    slots, tone = hidden["slots"], hidden["tone"]
    patience, calmed, given, said = _PATIENCE[tone], tone != "upset", set[str](), ""
    for message in messages:
        if message["role"] != "assistant":
            continue
        if len(given) == len(slots):
            return None
        text = message["content"].lower()
        sorry = "sorry" in text
        asked = [name for name in _SLOTS if name in text]
        new = [name for name in asked if name in slots and name not in given]
        calmed = calmed or sorry
        if not calmed:
            patience, said = patience - 1, "Is that all that you have to say?"
        elif (tone == "hurried" and len(asked) > 2) or (tone == "upset" and len(asked) > 2 and not sorry):
            patience, said = patience - 1, "I will not fill in a form. One thing, please."
        elif new:
            given |= set(new)
            said = " ".join(f"{_SLOTS[name].capitalize()} is {slots[name]}." for name in new)
        elif sorry and not asked:
            said = "All right. What do you need to know?"
            patience -= tone != "upset"
        else:
            patience -= 1
            said = "And now?" if not asked else "I said that." if given & set(asked) else "That is of no use here."
        if patience < 0:
            return None
    return said


def _answer(messages: Sequence[Message], move: int) -> str:
    """The agent."""
    if 1 <= move <= 4:
        return f"What is {list(_SLOTS.values())[move - 1]}?"
    every = "What are the order number, the address, the model and the date?"
    return {
        0: "I will see what can be done.",
        5: "I am sorry to hear that. What happened?",
        6: every,
        7: f"I am sorry. {every}",
    }[move]


GAME = Game(_scenario, _reply, _answer, DIRECTIVES, {"outcome": {"name": "support", "when": "end"}})
