"""How often the 95% intervals hold the truth: simulated evaluations of known contestants.

In each evaluation a contestant's true win rate is drawn from .1 to .9; prompts differ in difficulty (Beta distributed around
it, with the given intraclass correlation), matches of one prompt share its difficulty, and a share of matches is tied.
`win_rate` (Wilson at the effective sample size, clustered by prompt) is held to 94 to 96%; the percentile bootstrap over
prompts and the paired difference of two contestants are shown beside it.

    python benchmarks/coverage.py            # about three minutes
    python benchmarks/coverage.py --quick
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from harness import arguments, progress, report

from duologue.evaluation.stats.comparison import paired_difference
from duologue.evaluation.stats.win_rates import cluster_bootstrap, win_rate

Floats = npt.NDArray[np.float64]

SIZES = {30: 20_000, 100: 20_000, 800: 10_000}
"""Prompts, and evaluations that are simulated with so many."""
SETTINGS = {
    "single": (1, 0.0, 0.0),
    "single, ties": (1, 0.3, 0.0),
    "clusters": (3, 0.0, 0.3),
    "clusters, ties": (3, 0.3, 0.3),
    "tight clusters": (3, 0.0, 0.9),
}
"""Matches per prompt, share of ties, intraclass correlation."""
BARS = {"least_coverage": 0.94, "max_most_coverage": 0.96}


def main() -> None:
    """Simulates all settings."""
    quick = arguments(__doc__ or "").quick
    figures: dict[str, float] = {}
    for n, full in SIZES.items():
        rounds = full // 40 if quick else full
        for name, setting in SETTINGS.items():
            found = coverage(n, setting, rounds)
            figures[f"coverage/{name}/n = {n}"] = found[0]
            if name == "clusters, ties":
                figures[f"beside/bootstrap over prompts/n = {n}"] = found[1]
                figures[f"beside/paired difference/n = {n}"] = found[2]
            progress(f"n = {n}, {name}: {found[0]:.4f}")
    rates = [value for name, value in figures.items() if name.startswith("coverage/")]
    report("coverage", {"least_coverage": min(rates), "most_coverage": max(rates), **figures}, BARS, quick=quick)


def coverage(n: int, setting: tuple[int, float, float], rounds: int) -> tuple[float, float, float]:
    """The shares of intervals that held the truth: of the win rate, of the bootstrap and of the paired difference."""
    rng = np.random.default_rng([n, *(int(100 * part) for part in setting)])
    clusters = np.repeat(np.arange(n), setting[0]).tolist()
    few = max(1, rounds // 20)
    held = np.zeros(3)
    for i, (scores, other, truth, gap) in enumerate(evaluations(rng, n, setting, rounds)):
        rate = win_rate(scores, clusters)
        held[0] += rate.low <= truth <= rate.high
        if i < few:  # the two that are not held to a bar cost more
            low, high = cluster_bootstrap(scores, clusters, resamples=500, seed=i)
            found = paired_difference(scores, other, clusters)
            held[1:] += low <= truth <= high, found.low <= gap <= found.high
    return held[0] / rounds, held[1] / few, held[2] / few


def evaluations(
    rng: np.random.Generator, n: int, setting: tuple[int, float, float], rounds: int
) -> Iterator[tuple[Floats, Floats, float, float]]:
    """Scores of two contestants on the same prompts, the first one's true win rate, and their true difference."""
    repeats, ties, correlation = setting
    for _ in range(rounds):
        rates = rng.uniform(0.1, 0.9, 2)
        scores = []
        for rate in rates:
            hardness = np.full(n, rate)
            if correlation:
                size = 1 / correlation - 1
                hardness = rng.beta(rate * size, (1 - rate) * size, n)
            won = (rng.random((n, repeats)) < hardness[:, None]).astype(np.float64)
            scores.append(np.where(rng.random((n, repeats)) < ties, 0.5, won).ravel())
        truths = ties / 2 + (1 - ties) * rates
        yield scores[0], scores[1], truths[0], truths[0] - truths[1]


if __name__ == "__main__":
    main()
