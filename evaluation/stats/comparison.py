"""Two contestants compared on the same prompts, several comparisons at once, and how many prompts it takes. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from .win_rates import clustered_standard_error


@dataclass(frozen=True)
class Difference:
    """A paired difference of mean scores.

    Attributes:
        difference: Mean of a - b.
        low: Lower end of the interval.
        high: Upper end.
        standard_error: Clustered by prompt.
        p_value: Two-sided, of no difference; 1 where nothing differs.
        correlation: Of the two contestants' scores: what pairing gains.
        n: Pairs.
        clusters: Prompts.
    """

    difference: float
    low: float
    high: float
    standard_error: float
    p_value: float
    correlation: float
    n: int
    clusters: int


def paired_difference(
    a: npt.ArrayLike, b: npt.ArrayLike, clusters: Sequence[Hashable], confidence: float = 0.95
) -> Difference:
    """Tests whether one contestant scores higher than another on the same prompts.

    The standard error is that of the differences, clustered by prompt (Miller 2024, arXiv 2411.00640); the interval and the
    p-value are Student's with one degree of freedom less than there are prompts.

    Args:
        a: One contestant's scores, shape (n,).
        b: The other's, on the same prompt and repeat at each place.
        clusters: The prompt of each place.
        confidence: Confidence level of the interval.

    Returns:
        The mean difference with its interval and p-value.

    Raises:
        ValueError: If the lengths differ or there are fewer than two prompts.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    count = len({str(c) for c in clusters})
    if not len(x) == len(y) == len(clusters):
        raise ValueError(f"paired scores must be of one length, not {len(x)}, {len(y)} and {len(clusters)}")
    if count < 2:
        raise ValueError("a paired difference needs at least two prompts")
    mean, error = float((x - y).mean()), clustered_standard_error(x - y, clusters)
    half = float(stdtrit(count - 1, 0.5 + confidence / 2)) * error
    p_value = float(2 * stdtr(count - 1, -abs(mean) / error)) if error > 0 else float(mean == 0)
    varies = x.std() > 0 and y.std() > 0
    correlation = float(np.corrcoef(x, y)[0, 1]) if varies else float("nan")
    return Difference(mean, mean - half, mean + half, error, p_value, correlation, len(x), count)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected so that the chance of any false one among them is bounded (Holm 1979, Scandinavian Journal 6).

    Args:
        p_values: P-values of all comparisons.

    Returns:
        Corrected, in the same order.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, worst = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = worst
    return corrected


def minimum_detectable_effect(
    between: float, within: float, n: int, repeats: int = 1, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Computes the smallest mean difference that a number of prompts detects with a given power.

    (z for 1 - alpha/2, plus z for the power) · √((ω² + s²/K) / n), Miller 2024 (arXiv 2411.00640).

    Args:
        between: ω², the variance over prompts of the true mean difference.
        within: s², the variance of one sampled difference on one prompt; 0 if ``between`` was taken of such differences.
        n: Prompts.
        repeats: K, differences that are averaged for each prompt.
        power: Chance that the effect is found.
        alpha: Level of the two-sided test.

    Returns:
        The difference.
    """
    return _quantiles(power, alpha) * math.sqrt((between + within / repeats) / n)


def prompts_needed(
    effect: float, between: float, within: float = 0.0, repeats: int = 1, power: float = 0.8, alpha: float = 0.05
) -> int:
    """Computes the prompts needed to detect a mean difference: the inverse of `minimum_detectable_effect`.

    Args:
        effect: The difference, not 0.
        between: See there.
        within: See there.
        repeats: See there.
        power: See there.
        alpha: See there.

    Returns:
        The number of prompts, at least 2.

    Raises:
        ValueError: If the effect is 0.
    """
    if not effect:
        raise ValueError("no number of prompts finds a difference of 0")
    return max(2, math.ceil((_quantiles(power, alpha) / effect) ** 2 * (between + within / repeats)))


def _quantiles(power: float, alpha: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)


def variance_parts(scores: npt.ArrayLike, clusters: Sequence[Hashable]) -> tuple[float, float, int]:
    """The variance of scores, or of their differences, between prompts and within one, by analysis of variance.

    Args:
        scores: Shape (n,).
        clusters: The prompt of each.

    Returns:
        Between (at least 0), within, and the mean number of repeats as a whole number: what `prompts_needed` asks for. Without
        repeats the two cannot be told apart: all of it counts as between.

    Raises:
        ValueError: If there are fewer than two prompts.
    """
    values = np.asarray(scores, np.float64)
    _, index = np.unique(np.array([str(c) for c in clusters]), return_inverse=True)
    sizes = np.bincount(index)
    if len(sizes) < 2:
        raise ValueError("variances need at least two prompts")
    means = np.bincount(index, values) / sizes
    spare = len(values) - len(sizes)
    within = float(((values - means[index]) ** 2).sum() / spare) if spare else 0.0
    repeats = len(values) / len(sizes)
    between = max(0.0, float(means.var(ddof=1)) - within / repeats)
    return between, within, max(1, round(repeats))
