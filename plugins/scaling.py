"""Running statistics of a judge's scores: what they owe to length, their mean and their spread."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .weighted import Weighted

_NONE = 1e-12
"""A variance of which nothing is left but rounding."""


@dataclass
class Scale:
    """Means, squared deviations and their product of scores and words, updated one by one (Welford 1962, Technometrics 4).

    Attributes:
        n: Scores so far.
        mean: Of the scores.
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
        """What one more word adds to the score, by least squares; 0 where the lengths do not tell."""
        return self.products / self.word_squares if self.word_squares > _NONE else 0.0

    def length_controlled(self, score: float, words: int) -> float:
        """The score that the reply would have had at the mean length: its residual, plus the mean of the scores."""
        return score - self.slope * (words - self.words)

    def normalised(self, score: float, *, length_controlled: bool) -> float:
        """The score, or its length-controlled value, at mean 0 and standard deviation 1.

        Where there are fewer than two scores so far it is left as it is; where all were equal only the mean is taken away.
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
    """What becomes of all judges' scores before they are weighed.

    Args:
        entries: How each judge enters; those that ask for no statistics have none.
    """

    def __init__(self, entries: Mapping[str, Weighted]) -> None:
        self._entries = entries
        self._scales = {name: Scale() for name, e in entries.items() if e.normalise or e.length_control}

    def scaled(self, name: str, score: float, words: int) -> float:
        """One judge's score, length-controlled, normalised and clipped as its entry says."""
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
