"""Ratings: against published scores, against a likelihood maximised otherwise, and by simulation."""

import csv
import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from duologue.evaluation.stats.ratings import (
    Battles,
    NotConnected,
    bootstrap_ratings,
    bradley_terry,
    elo,
    rate,
    standard_errors,
)

PUBLISHED = Path(__file__).parents[2] / "data"
POINTS = {"left": 1, "right": 0, "model_a": 1, "model_b": 0, "tie": 0.5}


def simulated(seed, contestants=5, prompts=120, each=6, shared=0.0):
    """Battles of known strengths; ``shared`` is how much of the luck all battles on a prompt have in common."""
    rng = np.random.default_rng(seed)
    theta = np.linspace(1, -1, contestants)
    first, second, score, clusters = [], [], [], []
    for prompt in range(prompts):
        luck = shared * rng.normal(size=contestants)
        for _ in range(each):
            i, j = rng.choice(contestants, 2, replace=False)
            ahead = theta[i] - theta[j] + luck[i] - luck[j]
            first.append(f"c{i}")
            second.append(f"c{j}")
            score.append(float(rng.random() < 1 / (1 + math.exp(-ahead))))
            clusters.append(prompt)
    return Battles.of(first, second, score, clusters), theta


def test_two_contestants_by_hand():
    """Three wins of four: the odds are three to one."""
    theta = bradley_terry(Battles.of(["a"] * 4, ["b"] * 4, [1, 1, 1, 0]))
    assert theta == pytest.approx([math.log(3) / 2, -math.log(3) / 2])
    first, second = rate(Battles.of(["a"] * 4, ["b"] * 4, [1, 1, 0.5, 0.5]))
    assert first.name == "a"
    assert first.rating - second.rating == pytest.approx(400 * math.log10(3))
    assert first.battles == second.battles == 4


def test_the_likelihood_is_the_greatest():
    battles, _ = simulated(0)

    def loss(theta):
        ahead = theta[battles.first] - theta[battles.second]
        return (np.logaddexp(0, ahead) - battles.score * ahead).sum() + theta.mean() ** 2

    found = minimize(loss, np.zeros(5), tol=1e-12).x
    assert bradley_terry(battles) == pytest.approx(found - found.mean(), abs=1e-5)


def test_who_is_named_first_does_not_matter():
    battles, _ = simulated(1)
    swapped = Battles(battles.names, battles.second, battles.first, 1 - battles.score, battles.clusters)
    assert bradley_terry(swapped) == pytest.approx(bradley_terry(battles), abs=1e-9)
    assert standard_errors(swapped, bradley_terry(swapped)) == pytest.approx(
        standard_errors(battles, bradley_terry(battles))
    )


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_the_intervals_are_as_wide_as_the_ratings_vary(shared):
    found = [simulated(seed, prompts=60, shared=shared)[0] for seed in range(200)]
    thetas = [bradley_terry(battles) for battles in found]
    errors = [standard_errors(battles, theta) for battles, theta in zip(found, thetas, strict=True)]
    assert np.mean(errors, 0) == pytest.approx(np.std(thetas, 0), rel=0.15)


def test_the_bootstrap_agrees_with_the_sandwich():
    battles, _ = simulated(2, shared=1.0)
    drawn = bootstrap_ratings(battles, 300)
    assert drawn.shape == (300, 5)
    assert drawn.std(0) == pytest.approx(standard_errors(battles, bradley_terry(battles)), rel=0.2)
    assert np.array_equal(drawn, bootstrap_ratings(battles, 300))


@pytest.mark.parametrize(
    ("first", "second", "score", "said"),
    [
        (["a", "a"], ["b", "b"], [1, 1], "into 2 groups .* one group is"),
        (["a", "c"], ["b", "d"], [0.5, 0.5], "into 2 groups"),
        (["a", "b", "a"], ["b", "a", "c"], [1, 1, 1], "one group is c"),
    ],
)
def test_battles_that_tell_no_distance_are_refused(first, second, score, said):
    with pytest.raises(NotConnected, match=said):
        bradley_terry(Battles.of(first, second, score))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((["a"], ["a"], [1]), "cannot meet himself"),
        ((["a"], ["b"], [2]), "from 0 to 1"),
        ((["a"], ["b"], [math.nan]), "from 0 to 1"),
        ((["a"], ["b", "c"], [1]), "different lengths: 1, 2, 1 and 1"),
        ((["a"], ["b"], [1], [1, 2]), "different lengths: 1, 1, 1 and 2"),
    ],
)
def test_battles_that_cannot_be_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        Battles.of(*arguments)


def test_elo_by_hand():
    ratings = elo(Battles.of(["a", "a"], ["b", "b"], [1, 0.5]), k=32, initial=1000)
    gain = 32 * (0.5 - 1 / (1 + 10 ** (-32 / 400)))
    assert ratings == pytest.approx([1016 + gain, 984 - gain])


def votes():
    with gzip.open(PUBLISHED / "llmfao.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    points = [POINTS[row["winner"]] for row in rows]
    return Battles.of([r["left"] for r in rows], [r["right"] for r in rows], points, [r["prompt"] for r in rows])


def golden(algorithm):
    with gzip.open(PUBLISHED / "llmfao-golden.csv.gz", "rt", encoding="utf-8") as file:
        return {row["item"]: float(row["score"]) for row in csv.DictReader(file) if row["algorithm"] == algorithm}


def test_the_published_scores_of_llmfao():
    """8,931 votes with ties; evalica scales its Bradley-Terry scores to a sum of 1."""
    battles = votes()
    strengths = np.exp(bradley_terry(battles))
    expected = golden("bradley_terry")
    assert strengths / strengths.sum() == pytest.approx([expected[name] for name in battles.names], abs=1e-6)
    expected = golden("elo")
    assert elo(battles) == pytest.approx([expected[name] for name in battles.names], abs=1e-6)


def test_on_the_arena_hard_battles_independence_would_be_a_mistake():
    """2,136 battles on 500 questions: intervals that take battles for independent are about half as wide."""
    with gzip.open(PUBLISHED / "arena_hard_battles.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    names = [r["model_a"] for r in rows], [r["model_b"] for r in rows]
    points = [POINTS[r["winner"]] for r in rows]
    clustered = Battles.of(*names, points, [r["question_id"] for r in rows])
    theta = bradley_terry(clustered)
    ratio = standard_errors(clustered, theta) / standard_errors(Battles.of(*names, points), theta)
    assert 1.3 < ratio.min() < ratio.mean() < 3
    assert bootstrap_ratings(clustered, 200).std(0) == pytest.approx(standard_errors(clustered, theta), rel=0.25)
