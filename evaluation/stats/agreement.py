"""Agreement of judges with labels and with each other: pure functions over sequences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RESAMPLES, FEW_RESAMPLES = 2000, 400
_ROUNDING = 1e-12


class Figure(NamedTuple):
    """A figure with its 95% interval and sample size; NaN where it does not exist."""

    value: float
    low: float
    high: float
    n: int


def cohens_kappa(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    """Cohen's kappa of two raters of the same objects (Cohen 1960, Educational and Psychological Measurement 20).

    Args:
        a: One rater's categories.
        b: The other's.

    Returns:
        (p_o - p_e) / (1 - p_e); NaN if both always say the same one thing, or there is nothing.

    Raises:
        ValueError: If the lengths differ.
    """
    if len(a) != len(b):
        raise ValueError(f"two raters must have rated the same objects, not {len(a)} and {len(b)}")
    categories = list(dict.fromkeys([*a, *b]))
    table = np.zeros((len(categories), len(categories)))
    for x, y in zip(a, b, strict=True):
        table[categories.index(x), categories.index(y)] += 1
    return float(kappa_of_table(table))


def krippendorffs_alpha(ratings: npt.ArrayLike) -> float:
    """Krippendorff's alpha (interval level) of any number of raters, with missing ratings.

    1 - D_o / D_e with squared differences (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability"), where the sum
    over pairs of ratings of one object is taken from their spread: Σ_{i≠j} (x_i - x_j)² = 2 m Σ_i (x_i - mean)².

    Args:
        ratings: Shape (raters, objects); NaN where a rater said nothing.

    Returns:
        The coefficient; NaN if no object has two ratings, or all are equal.
    """
    table = np.asarray(ratings, np.float64)
    table = table[:, (~np.isnan(table)).sum(0) >= 2] if table.ndim == 2 else table.reshape(0, 0)
    known = table[~np.isnan(table)]
    if not len(known) or known.min() == known.max():
        return float("nan")
    raters = (~np.isnan(table)).sum(0)
    squares = ((table - np.nanmean(table, 0)) ** 2).sum(0, where=~np.isnan(table))
    observed = (raters / (raters - 1) * squares).sum()
    expected = len(known) * ((known - known.mean()) ** 2).sum() / (len(known) - 1)
    return float(1 - observed / expected)


def kappa_of_table(tables: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Cohen's kappa of contingency tables, shape (..., k, k); NaN where it does not exist."""
    total = tables.sum((-2, -1))
    agree = np.trace(tables, axis1=-2, axis2=-1) * total
    chance = (tables.sum(-1) * tables.sum(-2)).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: npt.NDArray[np.float64] = np.where(chance < total**2, (agree - chance) / (total**2 - chance), np.nan)
    return found


def pearson_of_sums(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The correlation from n, Σx, Σy, Σx², Σy², Σxy, shape (..., 6); NaN where one of both does not vary."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = (n * xx - x * x) * (n * yy - y * y)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: npt.NDArray[np.float64] = np.where(spread > _ROUNDING * n**4, (n * xy - x * y) / np.sqrt(spread), np.nan)
    return found


def spearman(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """The correlation of ranks; NaN where one of both does not vary."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(x) < 2 or x.min() == x.max() or y.min() == y.max():
        return float("nan")
    from scipy.stats import spearmanr  # takes a second to import

    return float(spearmanr(x, y).statistic)


def repeat_agreement(verdicts: Sequence[Hashable]) -> float:
    """The share of pairs of repeats that agree: 1 for a judge that never changes its verdict. NaN for fewer than two repeats."""
    n = len(verdicts)
    if n < 2:
        return float("nan")
    return sum(count * (count - 1) for count in Counter(verdicts).values()) / (n * (n - 1))


def from_sums(
    sums: npt.ArrayLike, statistic: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]], seed: int = 0
) -> Figure:
    """Computes a statistic of sums over records, with its percentile bootstrap interval (Efron 1979).

    Records are drawn with replacement, so that both orders and all repeats of one are drawn together.

    Args:
        sums: What each record adds, shape (records, k); records that add nothing do not count.
        statistic: From the sums, shape (..., k), to the figure, shape (...); resamples where it is NaN are left out.
        seed: Seed of the draws.

    Returns:
        The figure.
    """
    table = np.asarray(sums, np.float64)
    table = table[table.any(-1)]
    value = float(statistic(table.sum(0))) if len(table) else float("nan")
    if np.isnan(value):
        return Figure(value, value, value, len(table))
    weights = np.random.default_rng(seed).multinomial(len(table), np.full(len(table), 1 / len(table)), RESAMPLES)
    return _figure(value, statistic(weights @ table), len(table))


def from_resamples(n: int, statistic: Callable[[npt.NDArray[np.int64]], float], seed: int = 0) -> Figure:
    """Computes any other statistic of records, with its percentile bootstrap interval.

    Args:
        n: Number of records.
        statistic: Statistic of the records with these indices, which may repeat.
        seed: Seed of the draws.

    Returns:
        The figure.
    """
    value = statistic(np.arange(n)) if n else float("nan")
    if np.isnan(value):
        return Figure(value, value, value, n)
    draws = np.random.default_rng(seed).integers(0, n, (FEW_RESAMPLES, n))
    return _figure(value, np.array([statistic(draw) for draw in draws]), n)


def _figure(value: float, found: npt.NDArray[np.float64], n: int) -> Figure:
    known = found[~np.isnan(found)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (value, value)
    return Figure(value, min(float(low), value), max(float(high), value), n)
