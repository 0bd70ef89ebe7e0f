"""Win rates with error bars."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

_ROUNDING = 1e-12
"""Standard errors below this are zero: scores lie in [0, 1], and their sums carry 16 digits."""


@dataclass(frozen=True)
class WinRate:
    """A win rate with its 95% interval.

    Attributes:
        rate: Mean score, a win being 1, a tie 0.5 and a loss 0.
        low: Lower end of the interval.
        high: Upper end.
        standard_error: Clustered by prompt.
        n: Matches.
        clusters: Prompts.
    """

    rate: float
    low: float
    high: float
    standard_error: float
    n: int
    clusters: int


def clustered_standard_error(scores: npt.ArrayLike, clusters: Sequence[Hashable]) -> float:
    """The standard error of a mean whose observations come in clusters.

    √(Σ_c (Σ_{i∈c} (s_i - s̄))² · C/(C-1)) / n, Miller 2024 (arXiv 2411.00640), with the small-sample factor.

    Args:
        scores: Shape (n,).
        clusters: The cluster of each score.

    Returns:
        The standard error; 0 if there is only one cluster.
    """
    values = np.asarray(scores, np.float64)
    _, index = np.unique(np.array([str(c) for c in clusters]), return_inverse=True)
    count = int(index.max()) + 1 if len(index) else 0
    if count < 2:
        return 0.0
    sums = np.bincount(index, values - values.mean(), minlength=count)
    return float(np.sqrt((sums**2).sum() * count / (count - 1)) / len(values))


def win_rate(scores: npt.ArrayLike, clusters: Sequence[Hashable], confidence: float = 0.95) -> WinRate:
    """The mean score with a Wilson interval at the effective sample size.

    The effective size is p(1-p)/SE² with the clustered standard error (Korn and Graubard 1998, Survey Methodology
    24), so that repeats of one prompt do not count as independent, and the interval stays inside [0, 1]. The error is
    estimated from the prompts, so the quantile is Student's with one degree of freedom less than there are prompts.

    Args:
        scores: Shape (n,), each in [0, 1]; n at least 1.
        clusters: The prompt of each score.
        confidence: Confidence level of the interval.

    Returns:
        Rate, interval and sizes.

    Raises:
        ValueError: If there is no score.
    """
    values = np.asarray(scores, np.float64)
    if values.size == 0:
        raise ValueError("a win rate needs at least one match")
    rate = float(values.mean())
    error = clustered_standard_error(values, clusters)
    count = len({str(c) for c in clusters})
    # prompts whose means agree leave an error of 0, or of rounding, which says nothing: each then counts once
    effective = rate * (1 - rate) / error**2 if error > _ROUNDING else float(count)
    quantile = float(stdtrit(count - 1, 0.5 + confidence / 2)) if count > 1 and error > _ROUNDING else None
    low, high = wilson(rate, effective, confidence, quantile)
    return WinRate(rate, low, high, error, len(values), count)


def wilson(rate: float, n: float, confidence: float = 0.95, quantile: float | None = None) -> tuple[float, float]:
    """Computes Wilson's score interval of a proportion (Wilson 1927, JASA 22).

    Args:
        rate: The proportion, in [0, 1].
        n: Sample size, above 0; need not be whole.
        confidence: Confidence level of the interval.
        quantile: Replaces the normal quantile where the rate's variance is estimated from few clusters.

    Returns:
        Lower and upper end, in [0, 1].
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2) if quantile is None else quantile
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # the interval holds the rate; at 0 and 1, where they meet, only rounding could say otherwise
    return max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half))


def cluster_bootstrap(
    scores: npt.ArrayLike,
    clusters: Sequence[Hashable],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Computes the percentile interval of the mean over clusters drawn with replacement (Davison and Hinkley 1997, section 3.8).

    Args:
        scores: Shape (n,).
        clusters: The prompt of each score.
        confidence: Confidence level of the interval.
        resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: If there is no score.
    """
    values = np.asarray(scores, np.float64)
    if values.size == 0:
        raise ValueError("an interval needs at least one score")
    _, index = np.unique(np.array([str(c) for c in clusters]), return_inverse=True)
    count = int(index.max()) + 1
    sums, sizes = np.bincount(index, values, count), np.bincount(index, minlength=count)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)  # (B, clusters)
    means = (drawn @ sums) / (drawn @ sizes)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def worst_case(scores: npt.ArrayLike, failures: int) -> tuple[float, float]:
    """Bounds the win rate, whatever the results of the failed matches would have been.

    Args:
        scores: Scores of the decided matches, shape (n,).
        failures: Number of matches without a result.

    Returns:
        Lower and upper bound, in [0, 1].

    Raises:
        ValueError: If there is no match at all.
    """
    values = np.asarray(scores, np.float64)
    total = len(values) + failures
    if not total:
        raise ValueError("bounds need at least one match")
    return float(values.sum() / total), float((values.sum() + failures) / total)
