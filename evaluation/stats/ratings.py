"""Bradley-Terry and Elo ratings of contestants, from battles of two."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit


@dataclass(frozen=True)
class Battles:
    """Battles: pairs of contestants with scores.

    Attributes:
        names: The contestants, in the order of their indices.
        first: Index of one of the two, shape (n,).
        second: Index of the other.
        score: Score of the first contestant: 1 for a win, 0.5 for a tie, 0 for a loss, or between, shape (n,).
        clusters: Index of each battle's prompt, shape (n,).
    """

    names: tuple[str, ...]
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    clusters: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        first: Sequence[str],
        second: Sequence[str],
        score: npt.ArrayLike,
        clusters: Sequence[Hashable] | None = None,
    ) -> Battles:
        """Builds battles from the contestants' names.

        Args:
            first: One of the two, by battle.
            second: The other.
            score: Score of the first contestant, in [0, 1].
            clusters: The prompt of each battle; each its own by default.

        Returns:
            The battles.

        Raises:
            ValueError: If the lengths differ, a score is out of range, or somebody meets himself.
        """
        scores = np.asarray(score, np.float64)
        n = len(scores)
        groups = list(range(n)) if clusters is None else [str(cluster) for cluster in clusters]
        if not len(first) == len(second) == len(groups) == n:
            raise ValueError(f"battles of different lengths: {len(first)}, {len(second)}, {n} and {len(groups)}")
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError("a battle's score must be from 0 to 1")
        names, index = np.unique([*first, *second], return_inverse=True)
        if (index[:n] == index[n:]).any():
            raise ValueError("a contestant cannot meet himself")
        _, group = np.unique(np.array(groups), return_inverse=True)
        return cls(tuple(map(str, names)), index[:n], index[n:], scores, group.astype(np.int64))


Floats = npt.NDArray[np.float64]

_TOLERANCE, _MOST_STEPS = 1e-10, 100


class NotConnected(ValueError):
    """The battles do not tell how two groups of contestants compare."""


@dataclass(frozen=True)
class Rating:
    """One contestant's strength.

    Attributes:
        name: The contestant.
        rating: On Elo's scale: 400 points are odds of ten to one; the mean of all is the centre.
        low: Lower end of the interval.
        high: Upper end.
        battles: How many battles it fought.
    """

    name: str
    rating: float
    low: float
    high: float
    battles: int


def bradley_terry(battles: Battles, weights: npt.ArrayLike | None = None) -> Floats:
    """The strengths under which the battles were likeliest (Bradley and Terry 1952, Biometrika 39), by Newton's method.

    P(i beats j) = 1 / (1 + exp(θ_j - θ_i)). A tie is half a win for both.

    Args:
        battles: At least one.
        weights: Weights of the battles; 1 by default.

    Returns:
        θ by contestant, mean 0, natural logarithms of odds.

    Raises:
        NotConnected: If strengths would be infinite or undetermined: somebody won or lost everything, or groups never met.
    """
    pairs = _Pairs(battles, None if weights is None else np.asarray(weights, np.float64))
    _check_connected(battles.names, pairs)
    return pairs.fit(np.zeros(len(battles.names)))


class _Pairs:
    """Battles summed by pair: a hundred thousand of them are some thousand sums."""

    def __init__(self, battles: Battles, weights: Floats | None = None) -> None:
        self.count = len(battles.names)
        swap = battles.first > battles.second
        low, high = np.where(swap, battles.second, battles.first), np.where(swap, battles.first, battles.second)
        score = np.where(swap, 1 - battles.score, battles.score)
        keys, self.of_battle = np.unique(low * self.count + high, return_inverse=True)
        self.low, self.high = np.divmod(keys, self.count)
        weight = np.ones(len(score)) if weights is None else weights
        self.met = np.bincount(self.of_battle, weight, len(keys))
        self.won = np.bincount(self.of_battle, weight * score, len(keys))

    def expected(self, theta: Floats) -> Floats:
        """P(the first of each pair wins)."""
        chances: Floats = expit(theta[self.low] - theta[self.high])
        return chances

    def hessian(self, theta: Floats) -> Floats:
        """The Hessian of the negative log-likelihood, with a term that fixes the mean."""
        p = self.expected(theta)
        spread = self.met * p * (1 - p)
        matrix = np.full((self.count, self.count), 1 / self.count)
        np.add.at(matrix, (self.low, self.high), -spread)
        np.add.at(matrix, (self.high, self.low), -spread)
        np.add.at(matrix, (self.low, self.low), spread)
        np.add.at(matrix, (self.high, self.high), spread)
        return matrix

    def fit(self, theta: Floats) -> Floats:
        """Newton steps, halved where they would go too far."""
        loss = self._loss(theta)
        for _ in range(_MOST_STEPS):
            off = self.won - self.met * self.expected(theta)
            gradient = np.bincount(self.low, off, self.count) - np.bincount(self.high, off, self.count)
            step = cho_solve(cho_factor(self.hessian(theta)), gradient)
            size = 1.0
            while (after := self._loss(theta + size * step)) > loss + _TOLERANCE and size > _TOLERANCE:
                size /= 2
            theta, loss = theta + size * step, after
            if np.abs(size * step).max() < _TOLERANCE:
                break
        centred: Floats = theta - theta.mean()
        return centred

    def _loss(self, theta: Floats) -> float:
        ahead = theta[self.low] - theta[self.high]
        return float((self.met * np.logaddexp(0, ahead) - self.won * ahead).sum())


def _check_connected(names: Sequence[str], pairs: _Pairs) -> None:
    """Strengths exist if from everybody a chain of wins leads to everybody (Ford 1957, American Mathematical Monthly 64)."""
    beat, lost = pairs.won > 0, pairs.won < pairs.met
    rows = np.concatenate([pairs.low[beat], pairs.high[lost]])
    columns = np.concatenate([pairs.high[beat], pairs.low[lost]])
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(pairs.count, pairs.count))
    groups, label = connected_components(graph, directed=True, connection="strong")
    if groups > 1:
        sizes = np.bincount(label)
        smallest = [names[int(i)] for i in np.flatnonzero(label == sizes.argmin())]
        raise NotConnected(
            f"the battles fall into {groups} groups between which wins go one way only or not at all, so their ratings have no "
            f"finite distance; one group is {', '.join(smallest[:5])}: add battles, or leave it out"
        )


def rate(battles: Battles, confidence: float = 0.95) -> list[Rating]:
    """Fits Bradley-Terry ratings with intervals that hold for battles that share prompts.

    The covariance is the cluster-robust sandwich H⁻¹(Σ_c g_c g_cᵀ)H⁻¹·C/(C-1), g_c the prompt's share of the score function
    (White 1982, Econometrica 50); battles on one prompt are not independent, and intervals that take them so are too narrow.

    Args:
        battles: Connected.
        confidence: Of the intervals.

    Returns:
        The ratings, best first.

    Raises:
        NotConnected: See `bradley_terry`.
    """
    theta = bradley_terry(battles)
    deviation = standard_errors(battles, theta) * NormalDist().inv_cdf(0.5 + confidence / 2)
    fought = np.bincount(np.concatenate([battles.first, battles.second]), minlength=len(battles.names))
    scale = 400 / math.log(10)
    order = np.argsort(-theta, kind="stable")
    return [
        Rating(
            battles.names[i],
            float(theta[i] * scale),
            float((theta[i] - deviation[i]) * scale),
            float((theta[i] + deviation[i]) * scale),
            int(fought[i]),
        )
        for i in order
    ]


def standard_errors(battles: Battles, theta: Floats) -> Floats:
    """Computes the standard errors of `bradley_terry`'s strengths relative to their mean, clustered by prompt.

    Args:
        battles: What they were fitted to.
        theta: The strengths.

    Returns:
        Standard errors, shape (contestants,).
    """
    pairs = _Pairs(battles)
    p = expit(theta[battles.first] - theta[battles.second])
    off = battles.score - p
    clusters = int(battles.clusters.max()) + 1
    shape = (clusters, pairs.count)
    scores = coo_array((off, (battles.clusters, battles.first)), shape) - coo_array(
        (off, (battles.clusters, battles.second)), shape
    )
    small = clusters / (clusters - 1) if clusters > 1 else 1.0
    inverse = np.linalg.inv(pairs.hessian(theta))
    meat = (scores.T @ scores).toarray() * small
    return np.sqrt(np.maximum(np.diag(inverse @ meat @ inverse), 0.0))


def bootstrap_ratings(battles: Battles, resamples: int = 200, seed: int = 0) -> Floats:
    """Refits the strengths to prompts drawn with replacement; resamples that are not connected are left out.

    Args:
        battles: The battles.
        resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        θ, shape (at most resamples, contestants).
    """
    rng = np.random.default_rng(seed)
    clusters = int(battles.clusters.max()) + 1
    whole, found = bradley_terry(battles), []
    for _ in range(resamples):
        drawn = np.bincount(rng.integers(0, clusters, clusters), minlength=clusters)[battles.clusters]
        pairs = _Pairs(battles, drawn.astype(np.float64))
        try:
            _check_connected(battles.names, pairs)
        except NotConnected:
            continue
        found.append(pairs.fit(whole))
    return np.array(found).reshape(-1, len(battles.names))


def elo(battles: Battles, k: float = 4.0, initial: float = 1000.0) -> Floats:
    """Elo's ratings after all battles in their order (Elo 1978), for comparison: they depend on the order.

    Args:
        battles: In the order in which they were fought.
        k: Points at stake.
        initial: Rating at the beginning.

    Returns:
        Ratings by contestant.
    """
    ratings = [initial] * len(battles.names)
    fights = zip(battles.first.tolist(), battles.second.tolist(), battles.score.tolist(), strict=True)
    for first, second, score in fights:
        expected = 1 / (1 + 10 ** ((ratings[second] - ratings[first]) / 400))
        gain = k * (score - expected)
        ratings[first] += gain
        ratings[second] -= gain
    return np.array(ratings)
