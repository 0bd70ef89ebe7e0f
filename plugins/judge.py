"""What a judge is: an object with one asynchronous method, `score` or `compare`, and `aclose`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from ..inference.client import InferenceClient
from ..inference.endpoint import Endpoint
from ..inference.errors import ConfigError
from .verdict import Failure, Preference, Turn, Verdict


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
        """Frees what the judge holds; called once, at the end of the run."""
        ...


@runtime_checkable
class PairwiseJudge(Protocol):
    """Compares two replies to the same dialogue."""

    async def compare(self, batch: Sequence[tuple[Turn, Turn]]) -> Sequence[Preference | Failure]:
        """Returns one preference per pair, in order."""
        ...

    async def aclose(self) -> None:
        """Frees what the judge holds; called once, at the end of the run."""
        ...


@dataclass(frozen=True)
class JudgeContext:
    """What the program offers to a judge whose constructor has a parameter ``context``.

    Attributes:
        client: Asks endpoints; shared by the whole process.
        endpoints: By role; a judge model is ``endpoints["judge"]``, or the assistant where none is set.
        repeat: Which of several independent repetitions of all verdicts the judge gives; a part of the sample index of
            what it asks, so that the cassette keeps them apart.
    """

    client: InferenceClient
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    repeat: int = 0

    def endpoint(self, role: str) -> Endpoint:
        """The endpoint of a role; the assistant's where the role has none of its own.

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
