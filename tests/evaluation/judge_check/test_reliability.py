"""A judge's figures by hand, and judges whose faults are known."""

import math

import numpy as np
import pytest

from duologue.evaluation.judge_check.reliability import (
    PairVerdicts,
    ScoreVerdicts,
    concordance,
    pair_reliability,
    score_reliability,
)

RNG = np.random.default_rng(0)


def figures(*rows):
    return {name: figure.value for name, figure in pair_reliability(rows).items()}


def test_figures_by_hand():
    found = figures(
        PairVerdicts("first", ["first"], ["first"], longer="first"),
        PairVerdicts("second", ["first"], ["second"], longer="first"),
        PairVerdicts("first", ["tie"], ["second"], longer="second"),
        PairVerdicts("tie", [None], ["tie"]),
    )
    assert found["agreement"] == pytest.approx(4 / 7)
    assert found["agreement_without_ties"] == pytest.approx(3 / 5)
    # verdicts and labels: first 3 and 4, second 2 and 2, tie 2 and 1; they meet 4 times of 7
    chance = (3 * 4 + 2 * 2 + 2 * 1) / 49
    assert found["kappa"] == pytest.approx((4 / 7 - chance) / (1 - chance))
    assert found["both_orders_right"] == pytest.approx(1 / 3)
    assert found["order_consistency"] == pytest.approx(1 / 3)
    # decided: first shown first: yes; shown second: no; first: yes; back: second shown first: yes, and again yes
    assert found["first_place_preference"] == pytest.approx(4 / 5)
    assert found["longer_preference"] == pytest.approx(4 / 5)
    assert found["longer_preference_of_labels"] == pytest.approx(1 / 3)
    assert found["length_bias"] == pytest.approx(4 / 5 - 1 / 3)
    assert found["failure_rate"] == pytest.approx(1 / 8)
    assert math.isnan(found["self_preference"])
    assert math.isnan(found["repeat_consistency"])


def test_a_perfect_judge():
    labels = ["first", "second"] * 30
    found = pair_reliability([PairVerdicts(label, [label], [label]) for label in labels])
    for name in ("agreement", "kappa", "both_orders_right", "order_consistency"):
        assert found[name].value == 1
    assert found["first_place_preference"].value == 0.5
    assert found["agreement"].low < 1 == found["agreement"].high  # sixty records do not make certain
    assert found["failure_rate"].high > 0


def test_a_judge_that_looks_at_the_place_only():
    found = pair_reliability([PairVerdicts("first", ["first"], ["second"]) for _ in range(50)])
    assert found["first_place_preference"].value == 1
    assert found["first_place_preference"].low > 0.9
    assert found["order_consistency"].value == 0
    assert found["agreement"].value == 0.5


def test_a_judge_that_looks_at_the_length_only():
    rows = []
    for i in range(200):
        longer = "first" if i % 2 else "second"
        rows.append(PairVerdicts("first" if RNG.random() < 0.5 else "second", both=[longer], longer=longer))
    found = pair_reliability(rows)
    assert found["longer_preference"].value == 1
    assert found["length_bias"].low > 0.3
    assert found["length_bias"].n == 200


def test_a_judge_that_prefers_its_own():
    rows = [PairVerdicts("second", ["first"], ["first"], own="first") for _ in range(40)]
    rows += [PairVerdicts("first", ["first"], ["first"], own="first") for _ in range(40)]
    found = pair_reliability(rows)["self_preference"]
    assert found.value == pytest.approx(0.5)
    assert 0.3 < found.low < found.high < 0.7


def test_repeats_that_differ():
    found = figures(PairVerdicts("first", ["first", "first", "second"], ["first", "first", None]))
    assert found["repeat_consistency"] == pytest.approx((1 / 3 + 1) / 2)
    assert found["failure_rate"] == pytest.approx(1 / 6)


def test_scores_by_hand():
    rows = [ScoreVerdicts(label, [score], words) for label, score, words in [(1, 0.1, 5), (2, 0.2, 4), (3, 0.2, 9)]]
    found = score_reliability(rows)
    assert found["pearson"].value == pytest.approx(np.corrcoef([1, 2, 3], [0.1, 0.2, 0.2])[0, 1])
    assert found["length_correlation"].value == pytest.approx(np.corrcoef([0.1, 0.2, 0.2], [5, 4, 9])[0, 1])
    assert found["concordance"].value == pytest.approx((1 + 1 + 0.5) / 3)
    assert found["spearman"].value == pytest.approx(0.8660254)
    assert math.isnan(found["repeat_deviation"].value)
    assert "krippendorffs_alpha" not in found


def test_repeats_and_failures_of_scores():
    rows = [ScoreVerdicts(1, [0.1, 0.3, None]), ScoreVerdicts(2, [0.5, 0.5, 0.5]), ScoreVerdicts(3, [None] * 3)]
    found = score_reliability(rows)
    assert found["repeat_deviation"].value == pytest.approx(np.std([0.1, 0.3], ddof=1) / 2)
    assert found["failure_rate"].value == pytest.approx(4 / 9)


def test_a_panels_members_agree_or_not():
    def rows(noise):
        values = [(float(i), {"a": float(i), "b": i + noise * RNG.normal()}) for i in range(30)]
        return [ScoreVerdicts(label, [label], components=[parts]) for label, parts in values]

    assert score_reliability(rows(0.0), members=True)["krippendorffs_alpha"].value == pytest.approx(1)
    found = score_reliability(rows(30.0), members=True)["krippendorffs_alpha"]
    assert found.value < 0.6
    assert found.low < found.value < found.high


def test_concordance_without_different_labels_does_not_exist():
    assert math.isnan(concordance([1, 2], [3, 3]))
    assert concordance([1, 2, 3], [3, 2, 1]) == 0
