"""`forms`: single requests whose wording says what form a good answer has.

It is brief, has a reason, an example or a question, or is warm.

The rule-played side of the task `assistant`: what a policy can learn there is to hear how somebody wants to be answered.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from ...inference.completion import Message
from ..interfaces.strategy import DIRECTIVES
from ..scenarios import Scenario, Split
from .game import Game

_TOPICS = (
    "growing tomatoes", "learning the violin", "sleeping well", "baking bread", "saving money", "running a first race",
    "speaking in public", "keeping bees", "painting a wall", "reading more", "a small garden", "moving house", "a first job",
    "cooking for many", "training a puppy", "writing letters", "cold winters", "old clocks", "a long flight", "two small children",
)  # fmt: skip
_ASKS: Mapping[str, tuple[str, ...]] = {
    "brief": ("In a word, what matters about {}?", "Quickly: what do I need for {}?", "Just the gist of {}, please.",
              "Only the main thing about {}, I have no time."),
    "reason": ("Why do people care about {}?", "What lies behind all the advice on {}?", "How come that {} is said to be hard?"),
    "example": ("What does {} look like in practice?", "Can you show me a case of {}?", "I cannot picture {} at all."),
    "question": ("I want something to do with {}.", "Help me choose about {}.", "I need a plan for {}."),
    "warm": ("I feel hopeless about {}.", "I failed again at {} and could cry.", "I am afraid of {}."),
}  # fmt: skip
_SHARES = {"brief": 0.34, "reason": 0.16, "example": 0.16, "question": 0.17, "warm": 0.17}
_ANSWERS = (
    "There is much to say about it, and it mostly comes down to beginning early, going on with patience, and asking others.",
    "Begin early and go on with patience.",
    "Begin early and go on with patience, because what is learnt slowly and with care is what stays with you in the end.",
    "You would like to know about it; the main thing is to begin early, to go on with patience and to ask those who know.",
    "Begin early and go on with patience; for example, set a quarter of an hour aside every morning and keep to it for a month.",
    "There is more than one way to go about it, and it depends on you: what have you tried so far, and how long did it last?",
    "I am sorry that it weighs on you; begin early, go on with patience, and be as kind to yourself as you would be to others.",
    "One could say that beginning early is enough, but that is wrong as often as it is right, so look at what others did.",
)  # fmt: skip


_GREETINGS = ("", "Hello.", "Good evening.", "Hi there.")
_ASIDES = (
    "",
    "A friend sent me here.",
    "I am new to this.",
    "It is for my sister.",
    "I read about it today.",
    "Thank you!",
)


def _scenario(rng: random.Random, id: str, split: Split) -> Scenario:
    form = rng.choices(list(_SHARES), list(_SHARES.values()))[0]
    text = (
        f"{rng.choice(_GREETINGS)} {rng.choice(_ASKS[form]).format(rng.choice(_TOPICS))} {rng.choice(_ASIDES)}".strip()
    )
    return Scenario(id, split, (text,), tags=("forms", form), hidden={"form": form})


def _reply(hidden: Mapping[str, Any], messages: Sequence[Message]) -> str | None:
    return None  # one question, one answer


def _answer(messages: Sequence[Message], move: int) -> str:
    return _ANSWERS[move]


GAME = Game(_scenario, _reply, _answer, DIRECTIVES, {"outcome": {"name": "form", "when": "turn"}}, max_turns=1)
