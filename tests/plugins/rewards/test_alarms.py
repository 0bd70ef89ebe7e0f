"""Each alarm goes off for what it names and for nothing else."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from duologue.plugins.hookspecs import RolloutStats
from duologue.plugins.rewards.alarms import describe_replies, find_alarms, trend, variance_shares

RISING = [0.1 * i for i in range(12)]
FLAT = [0.5, 0.52, 0.49, 0.51, 0.5, 0.48, 0.51, 0.5, 0.49, 0.52, 0.5, 0.49]
SOUND = {"words": FLAT, "refusals": [0.0] * 12, "repetition": FLAT, "action_entropy": FLAT}


def history(rewards=FLAT, held_out=FLAT, shares=None, **replies):
    series = SOUND | replies
    return [
        RolloutStats(
            index=i,
            timesteps=i,
            episodes=8,
            mean_reward=reward,
            scores={"held": held_out[i]},
            failures={},
            replies={name: values[i] for name, values in series.items()},
            shares=shares or {},
        )
        for i, reward in enumerate(rewards)
    ]


def names(*args, weights=None, **kwargs):
    return [alarm.name for alarm in find_alarms(history(*args, **kwargs), ["held"], weights)]


def test_nothing_is_said_of_a_sound_training():
    assert names() == []
    assert names(RISING, RISING) == []
    assert names(RISING, [0.5 * value for value in RISING]) == []


@pytest.mark.parametrize("held_out", [FLAT, [-value for value in RISING], [0.0] * 12])
def test_a_reward_that_rises_alone_is_told(held_out):
    assert names(RISING, held_out) == ["held_out"]
    (alarm,) = find_alarms(history(RISING, held_out), ["held"])
    assert "the training reward rose from 0.15 to 0.95" in alarm.message
    assert "the held-out judge `held`" in alarm.message


def test_a_reward_that_does_not_rise_needs_no_confirmation():
    assert names(FLAT, [-value for value in RISING]) == []


def test_without_a_held_out_judge_there_is_nothing_to_compare():
    assert find_alarms(history(RISING, FLAT), []) == []
    assert find_alarms(history(RISING, FLAT), ["other"]) == []


@pytest.mark.parametrize(
    ("figure", "series", "expected"),
    [
        ("words", [20 + 2 * i for i in range(12)], ["length"]),
        ("words", [40 - 3 * i for i in range(12)], ["length"]),
        ("words", [20 + 0.5 * i for i in range(12)], []),
        ("words", [20, 60] * 6, []),
        ("refusals", [0.02 * i for i in range(12)], ["refusals"]),
        ("refusals", [0.005 * i for i in range(12)], []),
        ("refusals", [0.5 - 0.04 * i for i in range(12)], []),
        ("repetition", [0.02 * i for i in range(12)], ["repetition"]),
        ("action_entropy", [1.4 * 0.5**i for i in range(12)], ["entropy"]),
        ("action_entropy", [1.4 - 0.08 * i for i in range(12)], []),
    ],
)
def test_drifts_are_told_when_they_are_sure_and_large(figure, series, expected):
    assert names(**{figure: series}) == expected


def test_one_judge_that_decides_alone_though_it_was_not_meant_to_is_told():
    even = {"a": 1.0, "b": 1.0}
    assert names(shares={"a": 0.97, "b": 0.03}, weights=even) == ["dominance"]
    assert names(shares={"a": 1.2, "b": -0.2}, weights=even) == ["dominance"]
    assert names(shares={"a": 0.85, "b": 0.15}, weights=even) == []
    assert names(shares={"a": 0.97, "b": 0.03}, weights={"a": 2.0, "b": -1.0}) == []  # as it was weighted
    assert names(shares={"a": 0.97, "b": 0.03}, weights={"a": 1.0, "b": -3.0}) == ["dominance"]
    assert names(shares={"a": 1.0}, weights={"a": 1.0}) == []


def test_too_few_rollouts_say_nothing():
    assert find_alarms(history(RISING[:7]), ["held"]) == []
    failed = [RolloutStats(i, i, 8, None, {}, {}) for i in range(20)]
    assert find_alarms([*failed, *history(RISING[:7])], ["held"]) == []


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=30))
def test_the_trend_is_kendalls(series):
    """S by hand, and its sign and order those of scipy's tau with time."""
    s = sum(np.sign(series[j] - series[i]) for i in range(len(series)) for j in range(i + 1, len(series)))
    found = trend(series)
    if abs(s) <= 1:
        assert found == 0
    else:
        tau = kendalltau(range(len(series)), series).statistic
        assert math.copysign(1, found) == np.sign(s) == np.sign(tau)


def test_the_trend_of_twelve_that_rise_is_known():
    assert trend(RISING) == pytest.approx((66 - 1) / math.sqrt(12 * 11 * 29 / 18))


def test_a_trend_by_chance_is_as_rare_as_promised():
    rng = np.random.default_rng(0)
    share = np.mean([trend(rng.normal(size=12)) >= 2.5 for _ in range(4000)])
    assert share < 0.012


def test_replies_are_described():
    found = describe_replies(["I'm sorry, I can't.", "one two three one two three"])
    assert found == {"words": 5.0, "refusals": 0.5, "repetition": 0.125}
    assert describe_replies([]) == {}


def test_shares_of_the_variance_add_up_to_one():
    infos = [{"term/a": a, "term/b": b, "reward/a": 9} for a, b in [(0, 0), (1, 0.1), (2, 0), (3, 0.1)]]
    shares = variance_shares(infos)
    total = np.array([0, 1.1, 2, 3.1])
    assert shares["a"] == pytest.approx(np.cov([0, 1, 2, 3], total, ddof=0)[0, 1] / total.var())
    assert sum(shares.values()) == pytest.approx(1)
    assert variance_shares([{"term/a": 1.0}] * 3) == {}
    assert variance_shares([]) == {}
