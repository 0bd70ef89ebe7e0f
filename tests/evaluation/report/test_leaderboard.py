"""What the matches say, by hand."""

import numpy as np
import pytest

from duologue.evaluation.report.leaderboard import comparisons, leaderboard
from duologue.evaluation.stats.comparison import paired_difference
from duologue.evaluation.stats.win_rates import win_rate


def record(contestant, scenario, orders, repeat=0, scores=None, failure=None, reply="one two", against="one two three"):
    return {
        "contestant": contestant,
        "baseline": "plain",
        "judge": "judge",
        "scenario": scenario,
        "repeat": repeat,
        "orders": orders,
        "scores": scores,
        "failure": failure,
        "consistent": None if failure else (orders[0] > 0.5) == (orders[-1] > 0.5),
        "reply": None if failure else reply,
        "baseline_reply": None if failure else against,
    }


def test_a_row_by_hand():
    (row,) = leaderboard(
        [
            record("a", "s1", [1.0, 1.0]),
            record("a", "s1", [1.0, 0.0], repeat=1),
            record("a", "s2", [0.0, 0.0]),
            record("a", "s3", [], failure="broken"),
        ]
    )
    expected = win_rate([1.0, 0.5, 0.0], ["s1", "s1", "s2"])
    assert row.rate == expected
    assert (row.wins, row.ties, row.losses, row.failures) == (1, 1, 1, 1)
    assert row.bounds == (1.5 / 4, 2.5 / 4)
    assert row.consistency.rate == pytest.approx(2 / 3)
    assert row.first_place.rate == pytest.approx((0.5 + 1.0 + 0.5) / 3)
    assert row.words == (2, 3)
    assert row.controlled is None  # too few prompts


def test_a_judge_that_scores_knows_no_order():
    (row,) = leaderboard([record("a", "s1", [1.0, 1.0], scores=[0.5, 0.1])])
    assert row.consistency is None
    assert row.first_place is None


def test_the_best_comes_first_and_the_undecided_last():
    rows = leaderboard(
        [
            record("none", "s1", [], failure="broken"),
            record("low", "s1", [0.0, 0.0]),
            record("high", "s1", [1.0, 1.0]),
        ]
    )
    assert [row.contestant for row in rows] == ["high", "low", "none"]
    assert rows[-1].rate is None
    assert rows[-1].bounds == (0.0, 1.0)


def test_length_is_controlled_where_there_are_prompts_enough():
    rng = np.random.default_rng(0)
    records = []
    for i in range(200):
        longer = rng.random() < 0.5
        won = float(rng.random() < (0.8 if longer else 0.3))
        records.append(record("a", f"s{i}", [won, won], reply="word " * (30 if longer else 10), against="word " * 20))
    (row,) = leaderboard(records)
    assert row.controlled.coefficients[1] < -0.5
    assert row.controlled.low < row.controlled.rate < row.controlled.high


def test_the_policy_is_compared_on_the_prompts_that_both_played():
    rng = np.random.default_rng(1)
    records, own, theirs, prompts = [], [], [], []
    for i in range(40):
        a, b = float(rng.random() < 0.7), float(rng.random() < 0.4)
        records += [record("trained policy", f"s{i}", [a, a]), record("other", f"s{i}", [b, b])]
        own.append(a)
        theirs.append(b)
        prompts.append(f"s{i}")
    records.append(record("other", "s99", [1.0, 1.0]))
    records.append(record("alone", "s98", [1.0, 1.0]))
    (one,) = comparisons(records, "trained policy")
    assert one.other == "other"
    order = np.argsort(prompts)
    expected = paired_difference(np.array(own)[order], np.array(theirs)[order], sorted(prompts))
    assert one.found == expected
    assert one.corrected == expected.p_value
    assert one.prompts > 2
    assert comparisons(records, "nobody") == []


def test_several_samples_of_the_baseline_are_one_observation_of_the_pair():
    records = []
    for i in range(4):
        for won in (1.0, 0.0, 1.0):
            records.append(record("trained policy", f"s{i}", [won, won]))
        records.append(record("other", f"s{i}", [0.5, 0.5]))
    (one,) = comparisons(records, "trained policy")
    assert one.found.n == 4
    assert one.found.difference == pytest.approx(2 / 3 - 0.5)
