"""Running statistics agree with numpy, whatever came first and however it was cut."""

import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from duologue.plugins.rewards.weights import Scale

SAMPLES = st.lists(st.tuples(st.floats(-100, 100), st.integers(0, 500)), min_size=2, max_size=40)


def scale(samples):
    made = Scale()
    made.update(samples)
    return made


@given(SAMPLES)
def test_mean_and_spread_are_those_of_all_scores(samples):
    scores = np.array([score for score, _ in samples])
    assume(scores.std(ddof=1) > 1e-3)
    found = [scale(samples).normalised(score, length_controlled=False) for score in scores]
    assert found == pytest.approx((scores - scores.mean()) / scores.std(ddof=1), abs=1e-6)


@given(SAMPLES)
def test_length_control_leaves_the_residual_of_the_regression(samples):
    scores, words = np.array(samples, np.float64).T
    assume(words.std() > 0.5)
    slope, intercept = np.polyfit(words, scores, 1)
    residuals = scores - (intercept + slope * words)
    made = scale(samples)
    found = np.array([made.length_controlled(score, int(n)) for score, n in samples])
    assert found - scores.mean() == pytest.approx(residuals, abs=1e-5)
    assume(residuals.std() > 1e-3)
    unit = [made.normalised(value, length_controlled=True) for value in found]
    assert np.std(unit, ddof=1) == pytest.approx(1, rel=1e-4)
    assert np.corrcoef(unit, words)[0, 1] == pytest.approx(0, abs=1e-4)


def test_a_score_that_is_nothing_but_length_has_nothing_left():
    made = scale([(0.1 * n, n) for n in range(2, 30)])
    assert made.length_controlled(0.5, 5) == pytest.approx(made.mean)
    assert made.length_controlled(2.5, 25) == pytest.approx(made.mean)


def test_without_spread_there_is_nothing_to_divide_by():
    made = scale([(0.5, 10)] * 5)
    assert made.slope == 0
    assert made.normalised(0.75, length_controlled=False) == pytest.approx(0.25)
    assert Scale().normalised(0.75, length_controlled=True) == 0.75
    assert Scale().length_controlled(0.75, 10) == 0.75
    assert scale([(0.2, 3)]).normalised(0.75, length_controlled=False) == 0.75


@given(SAMPLES, st.integers(0, 40))
def test_statistics_can_be_kept_and_gone_on_with(samples, cut):
    whole, part = scale(samples), scale(samples[:cut])
    again = Scale.of(json.loads(json.dumps(part.state())))
    again.update(samples[cut:])
    assert again == whole
