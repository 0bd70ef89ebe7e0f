"""Paired differences, corrections and power: by hand, against scipy, and by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from duologue.evaluation.stats.comparison import (
    holm,
    minimum_detectable_effect,
    paired_difference,
    prompts_needed,
    variance_parts,
)

RNG = np.random.default_rng(0)


def test_without_repeats_it_is_the_paired_t_test():
    a, b = RNG.random(40), RNG.random(40)
    found = paired_difference(a, b, range(40))
    expected = ttest_rel(a, b)
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.difference == pytest.approx(a.mean() - b.mean())


def test_with_repeats_it_is_the_paired_t_test_of_prompt_means():
    a, b = RNG.random((30, 4)), RNG.random((30, 4))
    found = paired_difference(a.ravel(), b.ravel(), np.repeat(range(30), 4))
    assert found.p_value == pytest.approx(ttest_rel(a.mean(1), b.mean(1)).pvalue)
    assert (found.n, found.clusters) == (120, 30)


def test_pairing_gains_what_the_contestants_share():
    """SE² = SE_A² + SE_B² - 2 ρ SE_A SE_B."""
    hard = RNG.random(200)
    a, b = hard + 0.1 * RNG.random(200), hard + 0.1 * RNG.random(200)
    found = paired_difference(a, b, range(200))
    apart = (a.var(ddof=1) + b.var(ddof=1) - 2 * found.correlation * a.std(ddof=1) * b.std(ddof=1)) / 200
    assert found.standard_error**2 == pytest.approx(apart)
    assert found.correlation > 0.9


def test_what_never_differs_is_no_difference():
    found = paired_difference([0.5, 1.0], [0.5, 1.0], [1, 2])
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert paired_difference([1, 1], [0, 0], [1, 2]).p_value == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(([1], [1, 2], [1]), "of one length, not 1, 2 and 1"), (([1, 2], [1, 2], [7, 7]), "at least two prompts")],
)
def test_what_cannot_be_compared_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        paired_difference(*arguments)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_never_helps(p_values):
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert list(np.array(corrected)[order]) == sorted(corrected)


def test_the_detectable_effect_by_hand_and_back():
    # (1.95996 + 0.84162) * sqrt((0.04 + 0.12 / 3) / 100)
    effect = minimum_detectable_effect(0.04, 0.12, 100, repeats=3)
    assert effect == pytest.approx(2.801585 * np.sqrt(0.08 / 100), rel=1e-6)
    assert prompts_needed(effect, 0.04, 0.12, repeats=3) in (100, 101)
    with pytest.raises(ValueError, match="difference of 0"):
        prompts_needed(0.0, 0.1)


def test_the_promised_power_is_there():
    effect, n = 0.1, prompts_needed(0.1, 0.09)
    found = [paired_difference(RNG.normal(effect, 0.3, n), np.zeros(n), range(n)).p_value < 0.05 for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_variances_between_and_within_prompts():
    means = RNG.normal(0, 0.5, 3000)
    scores = (means[:, None] + RNG.normal(0, 0.2, (3000, 4))).ravel()
    between, within, repeats = variance_parts(scores, np.repeat(range(3000), 4))
    assert (between, within, repeats) == (pytest.approx(0.25, rel=0.1), pytest.approx(0.04, rel=0.05), 4)
    assert variance_parts([0.0, 1.0], [1, 2]) == (0.5, 0.0, 1)
    with pytest.raises(ValueError, match="at least two prompts"):
        variance_parts([1.0, 2.0], [1, 1])
