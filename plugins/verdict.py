"""What a judge sees and what it may say. A failure is never a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..inference.completion import Message
from ..inference.foreign import place_of


@dataclass(frozen=True)
class Turn:
    """One assistant reply in its dialogue, as judges see it.

    Attributes:
        messages: The dialogue before the reply, the scenario's system prompt included; never the interface's
            directives.
        reply: What the assistant said.
        reference: A good answer, hidden from the assistant; None if the scenario has none.
        scenario_id: Which scenario it was.
        tags: The scenario's tags.
        hidden: Facts that neither the assistant nor the policy sees.
        finish_reason: ``stop``, or ``length`` if the reply was cut.
        index: The turn's number in its dialogue, from 0.
        last: Whether the dialogue ends with this turn.
        attempt: How many earlier attempts to judge this turn failed; a judge that asks a model then takes a new sample.
    """

    messages: tuple[Message, ...]
    reply: str
    reference: str | None = None
    scenario_id: str = ""
    tags: tuple[str, ...] = ()
    hidden: Mapping[str, Any] = field(default_factory=dict)
    finish_reason: str = "stop"
    index: int = 0
    last: bool = True
    attempt: int = 0


@dataclass(frozen=True)
class Score:
    """A judge's number, higher is better; the judge's docstring gives its range.

    Attributes:
        value: The number.
        components: Its parts, by name.
        rationale: What the judge said.
        cost_usd: What it cost at the endpoint's price.
        latency_s: Seconds that a judge model took.
    """

    value: float
    components: Mapping[str, float] = field(default_factory=dict)
    rationale: str = ""
    cost_usd: float = 0.0
    latency_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Abstain:
    """The judge has nothing to say of this turn, and that is no fault: a reference judge without a reference."""

    reason: str


@dataclass(frozen=True)
class Failure:
    """The judge should have had something to say and could not: it crashed, or its answer cannot be read."""

    error: str

    @classmethod
    def raised(cls, error: BaseException) -> Failure:
        """The failure of code that raised an exception, with the file and the line if it is a user's code."""
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        place = place_of(error)
        return cls(text if place is None else f"{text} ({place})")


Verdict: TypeAlias = Score | Abstain | Failure
"""What a judge says of one turn."""


@dataclass(frozen=True)
class Preference:
    """Which of two replies a pairwise judge prefers, in the order in which it saw them.

    Attributes:
        winner: The better one, or ``tie``.
        rationale: What the judge said.
        cost_usd: What it cost.
        score: How sure it is, where that is known: the first reply's expected score, in [0, 1].
        latency_s: Seconds that a judge model took.
    """

    winner: Literal["first", "second", "tie"]
    rationale: str = ""
    cost_usd: float = 0.0
    score: float | None = None
    latency_s: float = field(default=0.0, compare=False)


POINTS: Mapping[str, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}
"""The first reply's score by the winner."""
