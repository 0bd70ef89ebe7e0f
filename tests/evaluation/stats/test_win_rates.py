import csv
import math
import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.evaluation import clustered_standard_error, wilson, win_rate
from duologue.evaluation.stats.win_rates import cluster_bootstrap, worst_case

PUBLISHED = os.environ.get("DUOLOGUE_PUBLISHED_DATA", "")
"""Folder with AlpacaEval's annotations, whose licence keeps them out of the project: see tests/data/README.md."""

MATCHES = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.integers(0, 9)), min_size=1, max_size=60)
"""(score, prompt) pairs; a mean over two orders is a multiple of a quarter."""


def split(matches: Sequence[tuple[float, int]]) -> tuple[list[float], list[Hashable]]:
    return [score for score, _ in matches], [prompt for _, prompt in matches]


def test_clustered_error_of_two_prompts_by_hand():
    """Mean 1/2; the clusters' sums of deviations are 1 and -1; √((1 + 1)·2/1)/4 = 1/2."""
    assert clustered_standard_error([1, 1, 0, 0], ["a", "a", "b", "b"]) == pytest.approx(0.5)


def test_clustered_error_of_unequal_prompts_by_hand():
    """Mean 3/5; sums of deviations 4/5, -1/5, -3/5; √((16 + 1 + 9)/25·3/2)/5."""
    scores, prompts = [1, 1, 0, 1, 0], ["a", "a", "b", "b", "c"]
    assert clustered_standard_error(scores, prompts) == pytest.approx(math.sqrt(26 / 25 * 3 / 2) / 5)


def test_clustered_error_does_not_depend_on_the_order_of_rows():
    scores, prompts = [1, 0.5, 0, 1, 0], ["a", "b", "b", "a", "c"]
    order = [3, 0, 4, 2, 1]
    shuffled = clustered_standard_error([scores[i] for i in order], [prompts[i] for i in order])
    assert shuffled == pytest.approx(clustered_standard_error(scores, prompts))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50))
def test_with_one_match_per_prompt_it_is_the_ordinary_standard_error(scores):
    """The factor C/(C-1) is then n/(n-1): the unbiased variance over n."""
    ordinary = np.std(scores, ddof=1) / math.sqrt(len(scores))
    assert clustered_standard_error(scores, range(len(scores))) == pytest.approx(ordinary, abs=1e-12)


@given(MATCHES, st.integers(2, 5))
def test_rows_repeated_within_their_prompt_add_no_certainty(matches, times):
    scores, prompts = split(matches)
    once, often = win_rate(scores, prompts), win_rate(scores * times, prompts * times)
    assert often.standard_error == pytest.approx(once.standard_error, abs=1e-12)
    assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=1e-6)
    assert (often.n, often.clusters) == (once.n * times, once.clusters)


def test_the_same_rows_as_new_prompts_do_add_certainty():
    scores = [1.0, 0.0, 1.0, 0.5]
    within = win_rate(scores * 4, [*"abcd"] * 4)
    across = win_rate(scores * 4, range(16))
    assert across.high - across.low < within.high - within.low


def test_a_single_prompt_has_no_standard_error_and_a_wide_interval():
    result = win_rate([1, 0, 1, 1, 0, 1], ["only"] * 6)
    assert result.standard_error == 0
    assert (result.low, result.high) == pytest.approx(wilson(4 / 6, 1))


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes, n, low, high):
    """Newcombe 1998, Statistics in Medicine 17, table I, method 3."""
    assert wilson(successes / n, n) == pytest.approx((low, high), abs=5e-5)


@given(st.floats(0, 1), st.floats(0.5, 1e6), st.floats(0.5, 0.999))
def test_wilson_ends_solve_the_score_equation(rate, n, confidence):
    """At an end p the rate lies z standard errors away: (rate - p)² = z² p(1-p)/n."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    for end in wilson(rate, n, confidence):
        assert (rate - end) ** 2 == pytest.approx(z * z * end * (1 - end) / n, abs=1e-9)


@pytest.mark.parametrize("n", range(1, 30))
def test_wilson_reaches_the_end_where_nothing_or_everything_was_won(n):
    assert wilson(0, n)[0] == 0
    assert wilson(1, n)[1] == 1


def test_a_higher_confidence_gives_a_wider_interval():
    narrow, wide = win_rate([1, 0, 1], "abc", confidence=0.8), win_rate([1, 0, 1], "abc", confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


@given(MATCHES)
def test_the_interval_holds_the_rate_stays_in_the_unit_interval_and_has_a_width(matches):
    result = win_rate(*split(matches))
    assert 0 <= result.low <= result.rate <= result.high <= 1
    assert result.high - result.low > 1e-6


@given(MATCHES)
def test_winning_and_losing_are_mirror_images(matches):
    scores, prompts = split(matches)
    own, other = win_rate(scores, prompts), win_rate([1 - score for score in scores], prompts)
    assert (other.rate, other.low, other.high) == pytest.approx((1 - own.rate, 1 - own.high, 1 - own.low), abs=1e-6)


def test_independent_wins_and_losses_get_the_plain_wilson_interval_up_to_the_sample_correction():
    """Without ties and repeats SE² = p(1-p)/(n-1), so the effective size is n - 1; the quantile is Student's."""
    result = win_rate([1] * 30 + [0] * 10, range(40))
    assert (result.rate, result.n, result.clusters) == (0.75, 40, 40)
    assert (result.low, result.high) == pytest.approx(wilson(0.75, 39, quantile=2.0226909))


@pytest.mark.parametrize("prompts", [5, 10, 25])
def test_intervals_of_few_prompts_hold_the_truth_as_often_as_they_say(prompts):
    """Probabilities of a judge, of mean 0.5714; the bound is three standard errors of 1,500 draws below 0.95."""
    rng = np.random.default_rng(0)
    found = [win_rate(rng.beta(2, 1.5, prompts), range(prompts)) for _ in range(1500)]
    assert np.mean([one.low <= 2 / 3.5 <= one.high for one in found]) > 0.93


def test_ties_narrow_the_interval():
    mixed, tied = win_rate([1, 0] * 20, range(40)), win_rate([0.5] * 30 + [1, 0] * 5, range(40))
    assert mixed.rate == tied.rate == 0.5
    assert tied.high - tied.low < mixed.high - mixed.low


@pytest.mark.parametrize("score", [1.0, 0.0, 0.5])
def test_equal_results_everywhere_count_each_prompt_once(score):
    result = win_rate([score] * 20, [*range(10)] * 2)
    assert result.rate == score
    assert (result.low, result.high) == pytest.approx(wilson(score, 10))


def test_prompts_that_agree_in_their_means_do_not_make_the_rate_certain():
    """Every prompt wins 2 of 3: the standard error is 0 but for rounding, and must not become a width of 0."""
    result = win_rate([1, 1, 0] * 7, [i for i in range(7) for _ in range(3)])
    assert (result.low, result.high) == pytest.approx(wilson(2 / 3, 7))


def test_one_match_says_little():
    result = win_rate([1], ["only"])
    assert (result.rate, result.n, result.clusters) == (1, 1, 1)
    assert (result.low, result.high) == pytest.approx((0.2065, 1.0), abs=1e-4)


def test_no_match_is_an_error():
    with pytest.raises(ValueError, match="at least one match"):
        win_rate([], [])


def test_a_prompt_for_every_score_is_asked_for():
    with pytest.raises(ValueError, match="length"):
        win_rate([1, 0, 1], ["a", "b"])


def test_published_win_rates_and_standard_errors_of_alpaca_eval_come_out():
    """28 models, 805 judge preferences each (1: the baseline is better, 2: the model is); 27 are on the leaderboard."""
    if not PUBLISHED:
        pytest.skip("DUOLOGUE_PUBLISHED_DATA is not set: see tests/data/README.md")
    with (Path(PUBLISHED) / "alpaca_leaderboard.csv").open(encoding="utf-8") as file:
        published = {row[""]: (float(row["win_rate"]), float(row["standard_error"])) for row in csv.DictReader(file)}
    compared = 0
    with np.load(Path(PUBLISHED) / "alpaca_eval2.npz") as data:
        models, preference = data["models"].tolist(), data["preference"]
    for model, row in zip(models, preference, strict=True):
        if model in published:
            known = np.flatnonzero(~np.isnan(row))
            result = win_rate(row[known] - 1, known.tolist())
            assert (100 * result.rate, 100 * result.standard_error) == pytest.approx(published[model], abs=1e-6)
            compared += 1
    assert compared == 27


def test_the_cluster_bootstrap_is_as_wide_as_the_clustered_error_says():
    rng = np.random.default_rng(0)
    scores, clusters = (rng.random((200, 3)) < rng.random((200, 1))).ravel().astype(float), np.repeat(range(200), 3)
    low, high = cluster_bootstrap(scores, clusters)
    assert (high - low) / 3.92 == pytest.approx(clustered_standard_error(scores, clusters), rel=0.08)
    assert low < scores.mean() < high
    assert cluster_bootstrap(scores, clusters) == (low, high)
    with pytest.raises(ValueError, match="at least one score"):
        cluster_bootstrap([], [])


def test_the_worst_case_counts_every_failure_against_and_for():
    assert worst_case([1.0, 0.5, 0.0, 1.0], 1) == (0.5, 0.7)
    assert worst_case([], 2) == (0.0, 1.0)
    with pytest.raises(ValueError, match="at least one match"):
        worst_case([], 0)
