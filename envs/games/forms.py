"""`forms`: single requests whose wording determines the form of a good answer; with its judge."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...inference.completion import Message
from ...plugins.judge import Abstain, Failure, Score, Turn, TurnJudge, Verdict
from ..interfaces.one_phase import DIRECTIVES
from ..scenarios.scenario import Scenario, Split
from .game import Game

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


class FormJudge(TurnJudge):
    """1 for an answer of the form that the scenario's hidden fact ``form`` names, else 0; an empty answer scores 0.

    ``brief`` has at most 12 words, ``reason`` gives one, ``example`` gives one, ``question`` asks back, ``warm`` has a kind
    word. A turn of a scenario without ``form`` is abstained from.
    """

    name = "form"
    summary = "the form of answer that was wished: brief, a reason, an example, a question, warm"

    def judge(self, turn: Turn) -> Verdict:
        """Judges one turn."""
        form = turn.hidden.get("form")
        if form is None:
            return Abstain("the scenario has no hidden `form`")
        if form not in FORMS:
            return Failure(f"there is no form `{form}`: known: {', '.join(FORMS)}")
        return Score(float(bool(turn.reply.strip()) and FORMS[form](turn.reply)))


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
