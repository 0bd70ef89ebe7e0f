"""Agreement, against published examples, other libraries and brute force."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from duologue.evaluation.stats.agreement import (
    cohens_kappa,
    from_resamples,
    from_sums,
    kappa_of_table,
    krippendorffs_alpha,
    pearson_of_sums,
    repeat_agreement,
    spearman,
)

NAN = math.nan
PUBLISHED = Path(__file__).parents[2] / "data" / "llmbar_verdicts.json.gz"

WORDS = st.sampled_from(["a", "b", "c"])


@given(st.lists(st.tuples(WORDS, WORDS), min_size=2, max_size=40))
def test_kappa_is_scikit_learns(pairs):
    a, b = zip(*pairs, strict=True)
    if len({*a, *b}) == 1:
        assert math.isnan(cohens_kappa(a, b))
        return
    assert cohens_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b))
    names = ["a", "b", "c"]
    table = np.array([[sum(pair == (x, y) for pair in pairs) for y in names] for x in names], float)
    assert kappa_of_table(table) == pytest.approx(cohens_kappa(a, b))


def test_kappa_of_nothing_and_of_unequal_lengths():
    assert math.isnan(cohens_kappa([], []))
    with pytest.raises(ValueError, match="the same objects, not 1 and 2"):
        cohens_kappa(["a"], ["a", "b"])


def test_krippendorffs_own_example():
    """Krippendorff 2011, section D: four observers, twelve units, missing data, interval level: 0.849."""
    ratings = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
    assert krippendorffs_alpha(ratings) == pytest.approx(0.849, abs=5e-4)


@given(st.lists(st.lists(st.none() | st.integers(0, 5), min_size=3, max_size=3), min_size=2, max_size=8))
def test_alpha_is_the_ratio_of_observed_and_expected_disagreement(objects):
    """By all pairs of ratings, as it is defined."""
    rated = [[value for value in row if value is not None] for row in objects]
    rated = [row for row in rated if len(row) >= 2]
    every = [value for row in rated for value in row]
    found = krippendorffs_alpha(np.array([[NAN if v is None else v for v in row] for row in objects], float).T)
    if len(set(every)) < 2:
        assert math.isnan(found)
        return
    observed = sum((a - b) ** 2 / (len(row) - 1) for row in rated for a in row for b in row) / len(every)
    expected = sum((a - b) ** 2 for a in every for b in every) / (len(every) * (len(every) - 1))
    assert found == pytest.approx(1 - observed / expected)


def test_alpha_of_perfect_agreement_is_one_and_of_none_about_zero():
    assert krippendorffs_alpha([[1, 2, 3], [1, 2, 3]]) == 1
    rng = np.random.default_rng(0)
    assert abs(krippendorffs_alpha(rng.normal(size=(3, 2000)))) < 0.05
    assert math.isnan(krippendorffs_alpha([[1, 1], [1, 1]]))
    assert math.isnan(krippendorffs_alpha([[1, NAN], [NAN, 2]]))
    assert math.isnan(krippendorffs_alpha([]))


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=30))
def test_pearson_from_sums_is_numpys(pairs):
    x, y = np.array(pairs, float).T
    sums = np.array([len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])
    found = pearson_of_sums(sums)
    if x.std() and y.std():
        assert found == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
    else:
        assert math.isnan(found)


def test_ranks_and_repeats():
    assert spearman([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1)
    assert math.isnan(spearman([1, 1], [1, 2]))
    assert repeat_agreement(["a", "a", "b"]) == pytest.approx(1 / 3)
    assert repeat_agreement(["a", "a"]) == 1
    assert math.isnan(repeat_agreement(["a"]))


def test_the_bootstrap_of_a_mean_is_the_normal_interval():
    values = np.random.default_rng(1).normal(2, 1, 400)
    figure = from_sums(np.column_stack([values, np.ones(400)]), lambda sums: sums[..., 0] / sums[..., 1])
    error = values.std(ddof=1) / 20
    assert figure.value == pytest.approx(values.mean())
    assert (figure.low, figure.high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.15 * error
    )
    again = from_resamples(400, lambda chosen: float(values[chosen].mean()))
    assert (again.low, again.high) == pytest.approx((figure.low, figure.high), abs=0.4 * error)


def test_records_that_add_nothing_do_not_count_and_nothing_is_no_number():
    figure = from_sums([[1, 1], [0, 0], [0, 1]], lambda sums: sums[..., 0] / sums[..., 1])
    assert (figure.value, figure.n) == (0.5, 2)
    assert math.isnan(from_sums(np.zeros((3, 2)), lambda sums: sums[..., 0] / sums[..., 1]).value)
    assert math.isnan(from_resamples(0, lambda chosen: 1.0).value)


def test_every_published_statistic_of_llmbar_is_recomputed():
    """499 judges, prompts and subsets: real verdicts in both orders, with gold labels (princeton-nlp/LLMBar, MIT).

    In the published kappas a verdict that could not be read counts as the second category, and the labels' second
    category is one that no judge ever names: only agreement on the first output counts there. For the agreement
    between the orders, both verdicts are of the judge and their second categories are the same.
    """
    entries = json.loads(gzip.decompress(PUBLISHED.read_bytes()))
    assert len(entries) == 499
    for entry in entries:
        label, there, back, published = entry["label"], entry["ab"], entry["ba"], entry["stats"]
        n = len(label)

        def share(found, n=n):
            return f"{sum(found)} / {n} = {sum(found) / n * 100}%"

        right = [v == gold for v, gold in zip(there, label, strict=True)]
        right_back = [v == gold for v, gold in zip(back, label, strict=True)]
        gold = ["1" if value == "1" else "other" for value in label]
        said, said_back = (["1" if value == "1" else "2" for value in verdicts] for verdicts in (there, back))
        kappas = cohens_kappa(said, gold), cohens_kappa(said_back, gold)
        assert {
            "correct_False": share(right),
            "correct_True": share(right_back),
            "correct_both": share([a and b for a, b in zip(right, right_back, strict=True)]),
            "equal": share([a == b for a, b in zip(there, back, strict=True)]),
        } == {name: published[name] for name in ("correct_False", "correct_True", "correct_both", "equal")}
        average = float(published["correct_average"].rstrip("%"))
        assert (sum(right) + sum(right_back)) / n * 50 == pytest.approx(average, abs=1e-12)
        assert kappas == pytest.approx((published["kappa_False"], published["kappa_True"]), abs=1e-12)
        assert sum(kappas) / 2 == pytest.approx(published["kappa_average"], abs=1e-12)
        assert cohens_kappa(said, said_back) == pytest.approx(published["kappa_agreement"], abs=1e-12)
