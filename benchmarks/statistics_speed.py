"""How long the evaluation's arithmetic takes on one core.

All statistics of 28 contestants on 805 prompts (the size of AlpacaEval): win rates with Wilson and bootstrap intervals,
length-controlled rates with their bootstrap errors, worst cases, all 378 paired differences with Holm's correction, prompts
needed, and Bradley-Terry ratings over all pairs. And the ratings of 200 contestants from 100,000 battles, with intervals
clustered by prompt. The data are drawn at random: what they say does not change what they take.

    python benchmarks/statistics_speed.py
    python benchmarks/statistics_speed.py --quick
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before NumPy reads them

import time
from collections.abc import Callable
from functools import partial
from itertools import combinations

import numpy as np
from harness import arguments, progress, report, spread

from duologue.evaluation.stats.comparison import holm, paired_difference, prompts_needed, variance_parts
from duologue.evaluation.stats.length_control import style_controlled
from duologue.evaluation.stats.ratings import Battles, rate
from duologue.evaluation.stats.win_rates import cluster_bootstrap, win_rate, worst_case

CONTESTANTS, PROMPTS = 28, 805
BARS = {"max_all_statistics_s": 5.0, "max_ratings_s": 5.0}


def main() -> None:
    """Times both, three times each."""
    quick = arguments(__doc__ or "").quick
    times: dict[str, list[float]] = {"all_statistics_s": [], "ratings_s": []}
    for turn in range(1 if quick else 5):
        times["all_statistics_s"].append(timed(partial(all_statistics, 4 if quick else CONTESTANTS, turn)))
        times["ratings_s"].append(timed(partial(ratings, 10_000 if quick else 100_000, 200, turn)))
        progress(f"round {turn}: {times}")
    figures = {key: value for name, values in times.items() for key, value in spread(name, values).items()}
    report("statistics_speed", figures, BARS, quick=quick)


def timed(action: Callable[[], object]) -> float:
    """The seconds that something takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def all_statistics(contestants: int, seed: int) -> None:
    """Everything that a report holds."""
    rng = np.random.default_rng(seed)
    prompts = [f"prompt {i}" for i in range(PROMPTS)]
    hard = rng.normal(size=PROMPTS)
    skill = rng.normal(size=(contestants, 1))
    style = rng.normal(size=(contestants, PROMPTS))
    p = 1 / (1 + np.exp(-(skill + hard - np.tanh(style))))
    scores = np.clip(p + 0.2 * rng.normal(size=p.shape), 0, 1)
    for i in range(contestants):
        win_rate(scores[i], prompts)
        cluster_bootstrap(scores[i], prompts)
        style_controlled(scores[i], style[i], hard)
        worst_case(scores[i], 5)
    pairs = list(combinations(range(contestants), 2))
    holm([paired_difference(scores[a], scores[b], prompts).p_value for a, b in pairs])
    prompts_needed(0.02, *variance_parts(scores[0] - scores[1], prompts)[:2])
    first = [f"c{a}" for a, _ in pairs for _ in prompts]
    second = [f"c{b}" for _, b in pairs for _ in prompts]
    results = np.concatenate([(scores[a] - scores[b] + 1) / 2 for a, b in pairs])
    rate(Battles.of(first, second, results, prompts * len(pairs)))


def ratings(battles: int, contestants: int, seed: int) -> None:
    """Ratings of many battles, each on one of 1,000 prompts."""
    rng = np.random.default_rng(seed)
    skill = rng.normal(size=contestants)
    first = rng.integers(0, contestants, battles)
    second = (first + rng.integers(1, contestants, battles)) % contestants
    won = rng.random(battles) < 1 / (1 + np.exp(skill[second] - skill[first]))
    score = np.where(rng.random(battles) < 0.2, 0.5, won.astype(np.float64))
    names = [f"c{i}" for i in range(contestants)]
    rate(
        Battles.of(
            [names[i] for i in first], [names[i] for i in second], score, rng.integers(0, 1000, battles).tolist()
        )
    )


if __name__ == "__main__":
    main()
