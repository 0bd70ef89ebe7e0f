"""Turns, verdicts and the judge protocols. A failure is never a number."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from ..core.errors import ConfigError
from ..core.user_code import place_of
from ..inference.client import InferenceClient
from ..inference.completion import Message
from ..inference.endpoint import Endpoint

Kind: TypeAlias = Literal["score", "compare"]
"""Whether a judge scores replies one by one or compares two of them."""
Cost: TypeAlias = Literal["free", "model", "requests"]
"""What a verdict costs: next to nothing, time of a model on this machine, or requests to an endpoint."""


@dataclass(frozen=True)
class Turn:
    """One assistant reply in its dialogue, as judges see it.

    Attributes:
        messages: The dialogue before the reply, the scenario's system prompt included; never the interface's
            directives.
        reply: The assistant's reply.
        reference: A good answer, hidden from the assistant; None if the scenario has none.
        scenario_id: Id of the scenario.
        tags: The scenario's tags.
        hidden: Facts that neither the assistant nor the policy sees.
        finish_reason: ``stop``, or ``length`` if the reply was cut.
        index: The turn's number in its dialogue, from 0.
        last: Whether the dialogue ends with this turn; None where a judge is asked while the user's reply decides it, see
            `Judge`.
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
    last: bool | None = True
    attempt: int = 0


@dataclass(frozen=True)
class Score:
    """A judge's number, higher is better; the judge's docstring gives its range.

    Attributes:
        value: The number.
        components: Its parts, by name.
        rationale: The judge's explanation.
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
        rationale: The judge's explanation.
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


@dataclass(frozen=True)
class Judged:
    """The outcome of one turn.

    Attributes:
        reward: The scalar, or None if a judge failed: a failure is never a number.
        verdicts: Verdicts by judge.
        failure: ``judge: error`` of the first failure, or None.
        terms: What each judge, and the cost, adds to the built-in weighted sum before gates, the weight of those that
            abstained included.
        potentials: The potential of the state that the turn led to, by judge.
    """

    reward: float | None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    failure: str | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    potentials: Mapping[str, float] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, float]:
        """Raw scores by judge, without abstentions and failures."""
        return {name: verdict.value for name, verdict in self.verdicts.items() if isinstance(verdict, Score)}

    @property
    def logged(self) -> dict[str, float]:
        """Entries of a turn's ``info``: ``reward/<judge>`` (raw score) and ``term/<judge>``."""
        scores = {f"reward/{name}": float(value) for name, value in self.scores.items()}
        return scores | {f"term/{name}": float(value) for name, value in self.terms.items()}


@runtime_checkable
class Judge(Protocol):
    """Scores replies one by one. Batches come as large as the moment offers; order is kept.

    While one batch is judged the next one gathers, which suits a model on this machine. A judge that makes a call of its
    own for every turn should have an attribute ``concurrent = True``: it then gets each turn alone and at once, any
    number of them under way together, and a quick verdict does not wait for a slow one.

    A judge that asks an endpoint should say so by an attribute ``requests_per_turn``, or ``requests_per_pair`` if it compares
    pairs, so that `duologue plan` counts it.

    A judge with ``when=turn`` is asked while the user still thinks, so that ``turn.last`` may be None. One with an attribute
    ``needs_last = True`` is asked when it is known, which takes longer.

    A judge that can say nothing without a reference may have an attribute ``needs_reference = True``; an evaluation
    on scenarios that have none is then refused before anything is paid.
    """

    async def score(self, batch: Sequence[Turn]) -> Sequence[Verdict]:
        """Returns one verdict per turn, in order."""
        ...

    async def aclose(self) -> None:
        """Closes the judge; called once, at the end of the run."""
        ...


@runtime_checkable
class PairwiseJudge(Protocol):
    """Compares two replies to the same dialogue."""

    async def compare(self, batch: Sequence[tuple[Turn, Turn]]) -> Sequence[Preference | Failure]:
        """Returns one preference per pair, in order."""
        ...

    async def aclose(self) -> None:
        """Closes the judge; called once, at the end of the run."""
        ...


class BaseJudge:
    """Definition of a judge, and defaults for what most judges have in common.

    The constructor is the schema of the judge's settings: every parameter besides ``context`` has a default and a type that
    YAML can hold.

    Attributes:
        name: Name in configurations.
        summary: One line for listings.
        kind: ``score``, or ``compare`` for a `PairwiseJudge`.
        cost: What a verdict costs: ``free``, ``model`` or ``requests``.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    kind: ClassVar[Kind] = "score"
    cost: ClassVar[Cost] = "free"

    async def aclose(self) -> None:
        """Closes nothing; a judge that holds something open overrides it."""


class TurnJudge(BaseJudge):
    """Base class of judges whose verdict on a turn needs no other turn: they implement `judge`."""

    def judge(self, turn: Turn) -> Verdict | Awaitable[Verdict]:
        """Judges one turn; may be asynchronous.

        Args:
            turn: The turn.

        Returns:
            The verdict.
        """
        raise NotImplementedError

    async def score(self, batch: Sequence[Turn]) -> list[Verdict]:
        """Judges every turn of a batch; asynchronous verdicts are awaited together.

        Args:
            batch: Any number of turns.

        Returns:
            One verdict per turn, in order.
        """

        async def settled(verdict: Verdict | Awaitable[Verdict]) -> Verdict:
            return await verdict if inspect.isawaitable(verdict) else verdict

        return list(await asyncio.gather(*(settled(self.judge(turn)) for turn in batch)))


F = TypeVar("F", bound=Callable[..., Any])


def defines_judge(*, name: str, summary: str, kind: Kind = "score", cost: Cost = "free") -> Callable[[F], F]:
    """Marks a function that builds a judge with the attributes that `BaseJudge` has.

    Args:
        name: See `BaseJudge`.
        summary: See `BaseJudge`.
        kind: See `BaseJudge`.
        cost: See `BaseJudge`.

    Returns:
        A decorator that returns the function itself.
    """

    def mark(function: F) -> F:
        for attribute, value in {"name": name, "summary": summary, "kind": kind, "cost": cost}.items():
            setattr(function, attribute, value)
        return function

    return mark


@dataclass(frozen=True)
class JudgeContext:
    """The context given to judges whose constructor has a parameter ``context``.

    Attributes:
        client: Asks endpoints; shared by the whole process.
        endpoints: Endpoints by role; a judge model is ``endpoints["judge"]``, otherwise the assistant.
        repeat: Which of several independent repetitions of all verdicts the judge gives; a part of the sample index of
            what it asks, so that the cassette keeps them apart.
    """

    client: InferenceClient
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    repeat: int = 0

    def endpoint(self, role: str) -> Endpoint:
        """Finds the endpoint of a role; the assistant's where the role has none of its own.

        Args:
            role: Role, such as ``judge``.

        Returns:
            The endpoint.

        Raises:
            ConfigError: If that would make the model on this machine a judge: it is too small, so it must be named.
        """
        own, assistant = self.endpoints.get(role), self.endpoints["assistant"]
        if own is None and role == "judge" and assistant.embedded:
            raise ConfigError(
                "this judge asks a model, and `inference.judge` names none: set `inference.judge={base_url: "
                "https://host/v1, model: NAME}`, or `inference=openai inference.assistant.model=NAME`. The model on this "
                f"machine is too small to judge; to ask it all the same, name it: `inference.judge={{base_url: "
                f"{assistant.base_url}, model: {assistant.model}}}`"
            )
        return own or assistant
