"""The outcome of judging one turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .verdict import Score, Verdict


@dataclass(frozen=True)
class Judged:
    """The outcome of one turn.

    Attributes:
        reward: The scalar, or None if a judge failed: a failure is never a number.
        verdicts: By judge, as they were given.
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
        """The raw scores by judge, abstentions and failures left out."""
        return {name: verdict.value for name, verdict in self.verdicts.items() if isinstance(verdict, Score)}

    @property
    def logged(self) -> dict[str, float]:
        """What a turn's ``info`` says of it: ``reward/<judge>``, the raw score, and ``term/<judge>``."""
        scores = {f"reward/{name}": float(value) for name, value in self.scores.items()}
        return scores | {f"term/{name}": float(value) for name, value in self.terms.items()}
