"""What the matches show of their judge: hand-made matches, counted by hand."""

import json

import pytest

from duologue.core.errors import ConfigError
from duologue.evaluation.report.judge_health import judge_health, known_of_judge


def match(scenario, orders, reply="long reply", baseline="short", failure=None, scores=None):
    score = sum(orders) / len(orders) if orders else None
    return {
        "scenario": scenario,
        "judge": "pairwise",
        "reply": reply,
        "baseline_reply": baseline,
        "orders": orders,
        "outcome": None if failure else "win" if score > 0.5 else "loss" if score < 0.5 else "tie",
        "consistent": None if failure else len({(order > 0.5) - (order < 0.5) for order in orders}) == 1,
        "failure": failure,
        "scores": scores,
    }


def test_it_is_counted_over_all_matches():
    records = [
        match("a", [1.0, 1.0]),  # the longer one won
        match("b", [0.0, 0.0]),  # the shorter one won
        match("c", [1.0, 0.0]),  # whichever was shown first
        match("d", [], failure="no verdict"),
        match("e", [1.0, 1.0], reply="a", baseline="b"),  # of one length
    ]
    found = judge_health(records, {})
    assert (found.failed.rate, found.failed.n) == (0.2, 5)
    assert found.causes == [("no verdict", 1)]
    assert found.ties.rate == 0.25
    assert (found.longer.rate, found.longer.n) == (0.5, 2)
    assert found.consistency.rate == 0.75
    assert found.first_place.rate == pytest.approx((0.5 + 0.5 + 1 + 0.5) / 4)
    assert "1 times: no verdict" in found.lines()
    assert "no bias is shown" in " ".join(found.lines())


def test_a_judge_that_always_takes_the_first_is_called_biased():
    found = judge_health([match(str(i), [1.0, 0.0]) for i in range(30)], {})
    assert "it is biased" in " ".join(found.lines())


def test_order_is_nothing_to_a_judge_of_scores():
    found = judge_health([match("a", [1.0, 1.0], scores=[0.9, 0.1])], {})
    assert found.consistency is found.first_place is None
    assert any("order does not matter" in line for line in found.lines())


def test_a_single_verdict_of_unknown_order_is_not_called_a_score():
    found = judge_health([match("a", [1.0]), match("b", [0.3])], {})
    assert not found.scores
    assert "The order in which it saw the replies is not known." in found.lines()


def test_only_failures_leave_no_figure():
    found = judge_health([match("a", [], failure="mute")], {})
    assert found.failed.rate == 1
    assert found.ties is found.longer is None


@pytest.mark.parametrize(
    ("models", "asks", "own"),
    [
        ({"a": "big", "b": "small"}, True, ["a"]),
        ({"a": "big", "b": "big"}, True, []),  # it prefers nobody
        ({"a": "big", "b": "small"}, False, []),  # no model is asked
        ({}, True, []),
    ],
)
def test_the_judges_own_model_is_named(models, asks, own):
    known = known_of_judge({"name": "pairwise"}, asks, "big", models, None, "judge_check")
    assert known["own"] == own
    said = " ".join(judge_health([match("a", [1.0, 1.0])], {"judge": known}).lines())
    assert ("judge's own model" in said) == bool(own)


@pytest.fixture
def checked(tmp_path):
    figures = {"agreement": {"value": 0.8, "low": 0.7, "high": 0.9, "n": 50}, "kappa": {"value": None}}
    (tmp_path / "summary.json").write_text(json.dumps({"judge_check": {"figures": figures}}))
    (tmp_path / "config.json").write_text(json.dumps({"judge": {"name": "pairwise", "rubric": "answer"}}))
    return tmp_path


def test_a_check_of_this_judge_is_shown(checked):
    known = known_of_judge({"name": "pairwise", "rubric": "answer"}, True, "big", {}, str(checked), "judge_check")
    said = judge_health([match("a", [1.0, 1.0])], {"judge": known}).lines()
    assert said[-1] == "On labelled data, agreement: 0.800 (0.700 to 0.900)."


def test_a_check_of_another_judge_is_refused(checked, tmp_path):
    with pytest.raises(ConfigError, match="check this one"):
        known_of_judge({"name": "pairwise"}, True, "big", {}, str(checked), "judge_check")
    (checked / "summary.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no check"):
        known_of_judge({"name": "pairwise"}, True, "big", {}, str(checked), "judge_check")
    with pytest.raises(ConfigError, match="give the folder"):
        known_of_judge({"name": "pairwise"}, True, "big", {}, str(tmp_path / "nowhere"), "judge_check")


def test_a_check_that_lost_its_configuration_is_refused(checked):
    (checked / "config.json").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        known_of_judge({"name": "pairwise", "rubric": "answer"}, True, "big", {}, str(checked), "judge_check")
