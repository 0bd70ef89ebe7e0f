"""Weights of judges in the reward, and running statistics of their scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

When: TypeAlias = Literal["turn", "end", "potential"]
"""``turn``: after every turn. ``end``: only after the turn that ends the dialogue. ``potential``: after every turn that does not
end it, and what enters the reward is the change of its score, see `Reward`."""


def spread(weights: Mapping[str, float], present: Iterable[str]) -> float | None:
    """Computes the factor by which the remaining weights grow where judges abstained.

    None where those present have no weight.

    Args:
        weights: Weights of all judges.
        present: Judges that gave a score.

    Returns:
        The factor; None where the present judges have no weight.
    """
    own = sum(abs(weights[name]) for name in present)
    return sum(map(abs, weights.values())) / own if own else None


@dataclass(frozen=True)
class Weighted:
    """The settings that every judge of a reward has.

    What enters is the raw score, length-controlled, normalised, clipped and weighted, in this order. Logged is the raw score.

    Attributes:
        weight: Factor of its score in the weighted sum; negative for a penalty, 0 to log it only. Ignored for a gate.
        gate: Whether its score, clipped to [0, 1], multiplies the sum instead of entering it.
        when: When the judge is asked.
        length_control: Whether what the score owes to the reply's length is taken away: the residual of a linear regression
            of all scores so far on the replies' words, moved back to their mean.
        normalise: Whether it is moved to mean 0 and standard deviation 1 of all scores so far.
        clip: Lowest and highest value; None for no bounds.

    The statistics of ``length_control`` and ``normalise`` are those of all rollouts before the present one, so that all turns
    of a rollout are treated alike and do not depend on the order in which they came; in the first one there are none, and
    scores enter as they are.
    """

    weight: float = 1.0
    gate: bool = False
    when: When = "turn"
    length_control: bool = False
    normalise: bool = False
    clip: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ValueError(f"`weight` must be a finite number, not {self.weight}")
        if self.gate and self.when == "potential":
            raise ValueError("a gate multiplies what others give, so it cannot have `when=potential`")
        if self.gate and self.normalise:
            raise ValueError("a gate is a share from 0 to 1: leave `normalise` at false")
        if self.clip is not None:
            bounds = [*self.clip]
            if len(bounds) != 2 or not bounds[0] < bounds[1]:
                raise ValueError(f"`clip` must be the lowest and the highest value, such as [-3, 3], not {bounds}")

    def clipped(self, value: float) -> float:
        """The value inside the bounds."""
        return value if self.clip is None else min(self.clip[1], max(self.clip[0], value))


_NONE = 1e-12
"""A variance of which nothing is left but rounding."""


@dataclass
class Scale:
    """Means, squared deviations and their product of scores and words, updated one by one (Welford 1962, Technometrics 4).

    Attributes:
        n: Scores so far.
        mean: Mean of the scores.
        words: Mean number of words.
        score_squares: Σ (score - mean)².
        word_squares: Σ (words - mean)².
        products: Σ (score - mean) (words - mean).
    """

    n: int = 0
    mean: float = 0.0
    words: float = 0.0
    score_squares: float = 0.0
    word_squares: float = 0.0
    products: float = 0.0

    def update(self, samples: Iterable[tuple[float, int]]) -> None:
        """Adds scores with the words of their replies; the order decides the last bits."""
        for score, words in samples:
            self.n += 1
            off, far = score - self.mean, words - self.words
            self.mean += off / self.n
            self.words += far / self.n
            self.score_squares += off * (score - self.mean)
            self.word_squares += far * (words - self.words)
            self.products += off * (words - self.words)

    @property
    def slope(self) -> float:
        """The change of the score per word, by least squares; 0 if the lengths do not vary."""
        return self.products / self.word_squares if self.word_squares > _NONE else 0.0

    def length_controlled(self, score: float, words: int) -> float:
        """The score that the reply would have had at the mean length: its residual, plus the mean of the scores."""
        return score - self.slope * (words - self.words)

    def normalised(self, score: float, *, length_controlled: bool) -> float:
        """Standardises a score (mean 0, standard deviation 1), length-controlled if wanted.

        Where there are fewer than two scores so far it is left as it is; where all were equal only the mean is taken away.

        Args:
            score: Raw score.
            length_controlled: Whether the part explained by length was removed.

        Returns:
            The standardised score.
        """
        if self.n < 2:
            return score
        squares = self.score_squares - (self.slope * self.products if length_controlled else 0.0)
        deviation = math.sqrt(max(squares, 0.0) / (self.n - 1))
        return (score - self.mean) / (deviation if deviation > math.sqrt(_NONE) else 1.0)

    def state(self) -> dict[str, float]:
        """Plain values from which `Scale` can be made again."""
        return asdict(self)

    @classmethod
    def of(cls, state: Mapping[str, float]) -> Scale:
        """The inverse of `state`."""
        return cls(int(state["n"]), **{name: float(value) for name, value in state.items() if name != "n"})


class Scales:
    """Scales the judges' scores before they are weighted.

    Args:
        entries: Settings of the judges.
    """

    def __init__(self, entries: Mapping[str, Weighted]) -> None:
        self._entries = entries
        self._scales = {name: Scale() for name, e in entries.items() if e.normalise or e.length_control}

    def scaled(self, name: str, score: float, words: int) -> float:
        """Scales one judge's score: length control, normalisation and clipping as configured."""
        entry, scale = self._entries[name], self._scales.get(name)
        if scale is not None:
            if entry.length_control:
                score = scale.length_controlled(score, words)
            if entry.normalise:
                score = scale.normalised(score, length_controlled=entry.length_control)
        return entry.clipped(score)

    def observe(self, infos: Iterable[Mapping[str, Any]]) -> None:
        """See `Reward.observe`."""
        if not self._scales:
            return
        for info in infos:
            for name, scale in self._scales.items():
                if f"reward/{name}" in info:
                    scale.update([(info[f"reward/{name}"], len(info["reply"].split()))])

    def state(self) -> dict[str, Any]:
        """The statistics as plain values."""
        return {name: scale.state() for name, scale in self._scales.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Sets what `state` returned."""
        self._scales = {name: Scale.of(state[name]) if name in state else Scale() for name in self._scales}
