"""Win rates as if both sides wrote replies of one length, or of one style: the generalised linear model of AlpacaEval 2.

logit P(contestant wins) = θ + φ·tanh(Δ) + ψ·d, with Δ = (baseline's length - contestant's) / the standard deviation of
that difference, and d the prompt's difficulty where it is known (Dubois et al. 2024, arXiv 2404.04475). The length-controlled
rate is the mean of sigmoid(θ + ψ·d). Further differences of style enter as Δ does. Fitted with an L1 penalty whose strength
cross-validation chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Floats = npt.NDArray[np.float64]

STRENGTHS = tuple(np.logspace(-4, 4, 10))
"""Inverse strengths of the penalty that are tried: the weight of the log-likelihood beside Σ|coefficient|."""
FOLDS = 5
_STEPS, _TOLERANCE = 100, 1e-8


@dataclass(frozen=True)
class Anchor:
    """Additional observations that anchor the style's coefficient, as AlpacaEval does with a verbose baseline.

    θ does not enter for them.

    Attributes:
        preference: Scores in [0, 1], shape (k,).
        style: Their Δ, already standardised, shape (k,).
        difficulty: Their prompts' difficulty, shape (k,).
        weight: Weight of each observation; ordinary observations have 1.
    """

    preference: npt.ArrayLike
    style: npt.ArrayLike
    difficulty: npt.ArrayLike
    weight: float = 0.1


@dataclass(frozen=True)
class Controlled:
    """A controlled win rate.

    Attributes:
        rate: In [0, 1].
        low: Lower end of the 95% interval.
        high: Upper end.
        standard_error: Bootstrap over prompts; each resample fits the coefficients again.
        coefficients: θ, the style's and, where there is one, the difficulty's.
        raw: The win rate as it was.
    """

    rate: float
    low: float
    high: float
    standard_error: float
    coefficients: Floats = field(repr=False)
    raw: float


def style_controlled(
    preference: npt.ArrayLike,
    style: npt.ArrayLike,
    difficulty: npt.ArrayLike | None = None,
    anchor: Anchor | None = None,
    clusters: Sequence[object] | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> Controlled:
    """The win rate without what differences of style explain.

    Args:
        preference: The contestant's scores in [0, 1], shape (n,).
        style: Differences baseline - contestant of length, or of several figures of style, shape (n,) or (n, k).
        difficulty: Difficulty of each prompt, shape (n,); None if unknown.
        anchor: Further observations; for one figure of style with difficulties.
        clusters: The prompt of each score; each its own by default.
        resamples: Number of bootstrap resamples.
        seed: Seed of its own draws.

    Returns:
        The controlled rate.

    Raises:
        ValueError: If shapes differ, scores are out of range, or there are fewer than two.
    """
    y = np.asarray(preference, np.float64)
    figures = np.asarray(style, np.float64).reshape(len(y), -1)
    if len(y) < 2 or not ((y >= 0) & (y <= 1)).all():
        raise ValueError("controlling for style needs at least two scores, all from 0 to 1")
    spread = figures.std(0, ddof=1)
    shown = np.tanh(figures / np.where(spread > 0, spread, 1.0))
    hard = np.zeros((len(y), 0)) if difficulty is None else np.asarray(difficulty, np.float64)[:, None]
    x = np.column_stack([np.ones(len(y)), shown, hard])
    plain = np.column_stack([np.ones(len(y)), np.zeros_like(shown), hard])
    data = _joined(x, y, anchor)
    groups = _groups(len(y), clusters)
    strength = choose_strength(
        *data, np.concatenate([np.arange(len(data[1]) - len(y)), len(data[1]) - len(y) + groups])
    )
    solution = fit(*data, strength)
    rate = float(expit(plain @ solution).mean())
    deviation = _bootstrap(data, len(y), solution, strength, plain, groups, resamples, seed)
    half = NormalDist().inv_cdf(0.975) * deviation
    low, high = max(0.0, rate - half), min(1.0, rate + half)
    return Controlled(rate, low, high, deviation, solution, float(y.mean()))


def _joined(x: Floats, y: Floats, anchor: Anchor | None) -> tuple[Floats, Floats, Floats]:
    """Design, scores and weights, the anchor's observations first."""
    if anchor is None:
        return x, y, np.ones(len(y))
    extra = np.asarray(anchor.preference, np.float64)
    rows = np.column_stack(
        [np.zeros(len(extra)), np.tanh(np.asarray(anchor.style, np.float64)), np.asarray(anchor.difficulty, np.float64)]
    )
    weight = np.concatenate([np.full(len(extra), anchor.weight), np.ones(len(y))])
    return np.concatenate([rows, x]), np.concatenate([extra, y]), weight


def fit(x: Floats, y: Floats, weight: Floats, strength: float, start: Floats | None = None) -> Floats:
    """Minimises Σ|β| + strength · Σ weight · cross-entropy(y, sigmoid(xβ)) by proximal Newton steps.

    Args:
        x: Design, shape (n, k).
        y: Scores in [0, 1], shape (n,).
        weight: Shape (n,).
        strength: Weight of the likelihood relative to the penalty.
        start: Start values; 0 by default.

    Returns:
        β, shape (k,).
    """
    beta = np.zeros(x.shape[1]) if start is None else start
    value = _objective(x, y, weight, strength, beta)
    for _ in range(_STEPS):
        p = expit(x @ beta)
        gradient = strength * (x.T @ (weight * (p - y)))
        hessian = strength * (x.T * (weight * p * (1 - p))) @ x + 1e-10 * np.eye(len(beta))
        step = _lasso(hessian, hessian @ beta - gradient, beta) - beta
        size = 1.0
        while (after := _objective(x, y, weight, strength, beta + size * step)) > value and size > 1e-6:
            size /= 2
        beta, value = beta + size * step, min(after, value)
        if np.abs(step).max() < _TOLERANCE:
            break
    return beta


def _objective(x: Floats, y: Floats, weight: Floats, strength: float, beta: Floats) -> float:
    z = x @ beta
    return float(np.abs(beta).sum() + strength * (weight * (np.logaddexp(0, z) - y * z)).sum())


def _lasso(hessian: Floats, linear: Floats, start: Floats) -> Floats:
    """Minimises ½βᵀHβ - bᵀβ + Σ|β| by coordinate descent."""
    beta = start.copy()
    for _ in range(1000):
        before = beta.copy()
        for k in range(len(beta)):
            rest = linear[k] - hessian[k] @ beta + hessian[k, k] * beta[k]
            beta[k] = np.sign(rest) * max(abs(rest) - 1, 0.0) / hessian[k, k]
        if np.abs(beta - before).max() < 1e-12:
            break
    return beta


def _groups(n: int, clusters: Sequence[object] | None) -> npt.NDArray[np.int64]:
    """The number of each observation's cluster, in the order in which clusters first occur."""
    numbers: dict[str, int] = {}
    names = range(n) if clusters is None else clusters
    return np.array([numbers.setdefault(str(name), len(numbers)) for name in names], np.int64)


def choose_strength(x: Floats, y: Floats, weight: Floats, groups: npt.NDArray[np.int64] | None = None) -> float:
    """Chooses the strength with the least cross-validated loss; folds take every fifth cluster, from the last one on.

    Args:
        x: Design, shape (n, k).
        y: Scores, shape (n,).
        weight: Shape (n,).
        groups: The number of each observation's cluster, which stays in one fold; each its own by default.

    Returns:
        One of `STRENGTHS`.
    """
    numbered = np.arange(len(y)) if groups is None else groups
    fold = (numbered.max() - numbered) % FOLDS
    losses = np.zeros(len(STRENGTHS))
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        if not test.any() or not train.any():
            continue
        beta = np.zeros(x.shape[1])
        for i, strength in enumerate(STRENGTHS):
            beta = fit(x[train], y[train], weight[train], strength, beta)
            z = x[test] @ beta
            losses[i] += (weight[test] * (np.logaddexp(0, z) - y[test] * z)).mean() / FOLDS
    return float(STRENGTHS[int(losses.argmin())])


def _bootstrap(
    data: tuple[Floats, Floats, Floats],
    n: int,
    solution: Floats,
    strength: float,
    plain: Floats,
    groups: npt.NDArray[np.int64],
    resamples: int,
    seed: int,
) -> float:
    """The rate's standard deviation over resamples of prompts; all of them are fitted together, from the solution on."""
    x, y, weight = data
    fixed = len(y) - n  # the anchor's observations
    count = int(groups.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)[:, groups]  # (B, n)
    weights = np.hstack([np.broadcast_to(weight[:fixed], (resamples, fixed)), drawn * weight[fixed:]])
    active = np.abs(solution) > 0
    if not active.any():
        return 0.0
    design, sign = x[:, active], np.sign(solution[active])
    beta = np.tile(solution[active], (resamples, 1))
    products = (design[:, :, None] * design[:, None, :]).reshape(len(y), -1)  # (n, k²)
    for _ in range(3):  # near enough after three: they begin at the solution
        p = expit(beta @ design.T)  # (B, n)
        gradient = (weights * (p - y)) @ design + sign / strength
        curvature = ((weights * p * (1 - p)) @ products).reshape(resamples, active.sum(), -1)
        step = np.linalg.solve(curvature + 1e-9 * np.eye(active.sum()), gradient[..., None])[..., 0]
        beta = beta - step.clip(-1, 1)  # a resample whose wins one figure explains leads far away
    rates = (drawn * expit(beta @ plain[:, active].T)).sum(1) / drawn.sum(1)
    return float(rates.std(ddof=1))
