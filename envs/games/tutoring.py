"""`tutoring`: a student who lacks one of three facts is led to an answer without being told it; with its judge."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ...inference.completion import Message
from ...plugins.judge import Abstain, Score, Turn, TurnJudge, Verdict
from ..scenarios.scenario import Scenario, Split
from .game import Game

_LEAST = 0.3
"""The score of a lesson that was long, but in which the student got there."""


class TutoringJudge(TurnJudge):
    """Scores a lesson, in [0, 1].

    1 less ``turn_cost`` for every turn of the tutor after the second, and never below 0.3, if the student says the hidden
    ``answer`` before the tutor does; ``told`` if the student says it after the tutor has; 0 if the student never does. Scenarios
    hold ``answer`` among their hidden facts; a turn of others is abstained from. It is meant for the end of a dialogue.

    Args:
        turn_cost: Cost of every further turn, in [0, 1].
        told: The score of an answer that was given away, in [0, 0.3].
    """

    name = "tutoring"
    summary = "whether a student was led to the answer, not told it"

    def __init__(self, turn_cost: float = 0.1, told: float = 0.1) -> None:
        if not 0 <= turn_cost <= 1:
            raise ValueError(f"`turn_cost` must lie in 0 to 1, not {turn_cost}")
        if not 0 <= told <= _LEAST:
            raise ValueError(f"`told` must lie in 0 to {_LEAST}, not {told}: else giving the answer away pays")
        self._turn_cost, self._told = turn_cost, told

    def judge(self, turn: Turn) -> Verdict:
        """Judges one turn."""
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
    """Whether a text contains an answer as separate words or a separate number."""
    return bool(re.search(rf"(?<![\w.,]){re.escape(answer)}(?![\w]|[.,]\d)", text, re.IGNORECASE))


DIRECTIVES = (
    "",
    "Ask which part is unclear, and explain nothing yet.",
    "Explain the first fact, and nothing else.",
    "Explain the second fact, and nothing else.",
    "Explain the third fact, and nothing else.",
    "Explain all three facts at once.",
    "Tell the answer.",
)

_ORDINALS = ("first", "second", "third")
_PATIENCE = 1  # explanations that do not help before the student gives up


class _Problem(NamedTuple):
    question: str
    facts: tuple[str, str, str]
    answer: int


def _discount(rng: random.Random) -> _Problem:
    price, percent, shipping = rng.randrange(40, 400, 20), rng.choice([10, 20, 25, 50]), rng.randrange(3, 12)
    cut = price * percent // 100
    return _Problem(
        f"A coat costs {price} dollars, is reduced by {percent} percent, and is sent for {shipping} dollars. What is paid?",
        (
            f"{percent} percent of a sum is that sum times {percent} divided by a hundred",
            "a reduction is taken away from the price",
            "what sending costs is added at the end",
        ),
        price - cut + shipping,
    )


def _journey(rng: random.Random) -> _Problem:
    speed, hours, rest = rng.randrange(30, 110, 10), rng.randrange(2, 7), rng.randrange(10, 60, 5)
    return _Problem(
        f"A train runs {hours} hours at {speed} kilometres an hour and then {rest} kilometres more. How far is that?",
        (
            "speed says how many kilometres pass in one hour",
            "the way is the speed times the hours",
            "two parts of a way are added",
        ),
        speed * hours + rest,
    )


def _tiles(rng: random.Random) -> _Problem:
    wide, long, spare = rng.randrange(3, 12), rng.randrange(3, 12), rng.randrange(2, 9)
    return _Problem(
        f"A floor is {wide} metres by {long} metres, a tile covers a square metre, and {spare} tiles are spare. How many is that?",
        (
            "an area is counted in square metres",
            "the area of a rectangle is its width times its length",
            "spare tiles come on top of those that are laid",
        ),
        wide * long + spare,
    )


def _recipe(rng: random.Random) -> _Problem:
    grams, serves, guests = rng.randrange(40, 120, 10), rng.choice([2, 4]), rng.randrange(3, 10)
    return _Problem(
        f"A recipe for {serves} takes {grams * serves} grams of rice. How many grams do {guests} guests need?",
        (
            "what one guest needs is the whole divided by those whom it serves",
            "every guest needs as much as every other",
            "what all need is what one needs times the number of guests",
        ),
        grams * guests,
    )


def _savings(rng: random.Random) -> _Problem:
    weekly, weeks, spent = rng.randrange(5, 40), rng.randrange(4, 20), rng.randrange(5, 20)
    return _Problem(
        f"Somebody saves {weekly} dollars a week for {weeks} weeks and spends {spent} dollars of it. What is left?",
        (
            "the same sum every week is a multiplication by the weeks",
            "the weeks are counted from the first to the last",
            "what is spent is taken away from what was saved",
        ),
        weekly * weeks - spent,
    )


_PROBLEMS: tuple[Callable[[random.Random], _Problem], ...] = (_discount, _journey, _tiles, _recipe, _savings)
_HINTS = (
    ("I do not even see how to begin.", "The very start is a riddle to me.", "I cannot set out on it."),
    ("I begin well and then get lost midway.", "Something in the middle does not work out.", "I start and then I am stuck."),
    ("I am nearly there, but the end does not come out.", "Only the last step fails me.", "I have most of it, not the finish."),
)  # fmt: skip
_VAGUE = ("I cannot do this one.", "Can you help me with it?")
_SLOW = ("One thing at a time, please.", "Please go slowly.", "I lose the thread easily.")
_SYSTEM = (
    "You are a tutor. Lead the student to the answer in short turns, without saying it. "
    "The facts: first, {}; second, {}; third, {}. The answer is {}."
)


def _scenario(rng: random.Random, id: str, split: Split) -> Scenario:
    problem, missing = rng.choice(_PROBLEMS)(rng), rng.randrange(3)
    quick = rng.random() < 0.7
    hint = rng.choice(_HINTS[missing] if rng.random() < 0.7 else _VAGUE)
    return Scenario(
        id,
        split,
        (f"{problem.question} {hint}{'' if quick else ' ' + rng.choice(_SLOW)}",),
        system=_SYSTEM.format(*problem.facts, problem.answer),
        tags=("tutoring", _ORDINALS[missing]),
        persona=f"You are a pupil who cannot solve this: {problem.question}",
        goal=f"You lack one fact: {problem.facts[missing]}. Once the tutor has explained it, say the result of your own sum. "
        "Never say it before.",
        hidden={"answer": problem.answer, "missing": missing, "quick": quick, "facts": list(problem.facts)},
    )


def _reply(hidden: Mapping[str, Any], messages: Sequence[Message]) -> str | None:
    """The student's reply: looks for the missing fact's words in the tutor's."""
    facts, missing, answer = hidden["facts"], int(hidden["missing"]), str(hidden["answer"])
    patience, said, done = _PATIENCE, "", False
    for message in messages:
        if message["role"] != "assistant":
            continue
        if done:
            return None
        told, explained = message["content"], [_explains(message["content"], fact) for fact in facts]
        if says(told, answer):
            done, said = True, f"All right, it is {answer}."
        elif explained[missing] and (sum(explained) < 3 or hidden["quick"]):
            done, said = True, f"Now I see! Is it {answer}?"
        elif "?" in told and not any(explained):
            said = f"It is the {_ORDINALS[missing]} part that I do not understand."
        else:
            patience -= 1
            said = "That was too much at once." if sum(explained) == 3 else "I knew that already."
            if patience < 0:
                return None
    return said


def _explains(text: str, fact: str) -> bool:
    """Whether a text contains at least three quarters of a fact's longer words."""
    words = [word.strip(",.") for word in fact.lower().split() if len(word) > 3]
    return sum(word in text.lower() for word in words) >= 0.75 * len(words)


def _answer(messages: Sequence[Message], move: int) -> str:
    """The tutor's reply: reads the facts in the system prompt and confirms correct answers."""
    system = messages[0]["content"]
    facts, answer = _facts(system)
    students = [m["content"] for m in messages if m["role"] == "user"]
    if len(students) > 1 and says(students[-1], answer):
        return "Yes, that is right."
    if move == 1:
        return "Which part is unclear to you?"
    if move == 6:
        return f"It is {answer}."
    if move == 5:
        return f"Note that {facts[0]}, that {facts[1]}, and that {facts[2]}."
    return f"Note that {facts[{0: 0, 2: 0, 3: 1, 4: 2}[move]]}."


def _facts(system: str) -> tuple[list[str], str]:
    rest, _, answer = system.split("\n", 1)[0].partition("The facts: first, ")[2].partition(". The answer is ")
    facts = rest.replace("; second, ", "|").replace("; third, ", "|").split("|")
    return facts, answer.split(".")[0]


GAME = Game(_scenario, _reply, _answer, DIRECTIVES, {"outcome": {"name": "tutoring", "when": "end"}})
