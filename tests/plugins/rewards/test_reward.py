import asyncio
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.core.errors import ConfigError
from duologue.plugins import Abstain, Failure, JudgeContext, Judged, Plugins, Reward, Score, Turn, Weighted, hookimpl

TURN = Turn(({"role": "user", "content": "Why?"},), "Because it is so.")


class Says:
    """A judge that always says one thing; an exception is raised."""

    def __init__(self, what: Any) -> None:
        self.what = what
        self.closed = 0

    async def score(self, batch):
        if isinstance(self.what, Exception):
            raise self.what
        return self.what if isinstance(self.what, list) else [self.what] * len(batch)

    async def aclose(self):
        self.closed += 1


def judged(said: Mapping[str, Any], weights: Mapping[str, Weighted] | None = None, *extra: object) -> Judged:
    """The outcome when the judges say so much; numbers are scores."""
    registry = Plugins(discover=False)
    for plugin in extra:
        registry.register(plugin)
    judges = {name: Says(Score(what) if isinstance(what, int | float) else what) for name, what in said.items()}
    reward = Reward(judges, weights, registry=registry)
    return asyncio.run(reward.judge(TURN))


def weigh(**weights: float) -> dict[str, Weighted]:
    return {name: Weighted(weight) for name, weight in weights.items()}


def test_the_reward_is_the_weighted_sum():
    # 2 * 0.5 + 0.5 * 0.8 + 1 * 0.1
    assert judged({"a": 0.5, "b": 0.8, "c": 0.1}, weigh(a=2, b=0.5)).reward == pytest.approx(1.5)


def test_a_judge_without_a_weight_counts_once():
    assert judged({"a": 0.25, "b": 0.5}).reward == pytest.approx(0.75)


def test_a_negative_weight_is_a_penalty():
    assert judged({"a": 0.5, "b": 0.8}, weigh(a=1, b=-2)).reward == pytest.approx(0.5 - 1.6)


def test_gates_multiply_the_sum_instead_of_entering_it():
    gates = {"g": Weighted(7.0, gate=True), "h": Weighted(gate=True)}
    assert judged({"a": 0.8, "g": 0.5, "h": 0.25}, gates).reward == pytest.approx(0.8 * 0.5 * 0.25)


@pytest.mark.parametrize(("gate", "factor"), [(-3.0, 0.0), (0.0, 0.0), (0.3, 0.3), (1.0, 1.0), (5.0, 1.0)])
def test_a_gate_is_clipped_to_the_unit_interval(gate, factor):
    assert judged({"a": 0.8, "g": gate}, {"g": Weighted(gate=True)}).reward == pytest.approx(0.8 * factor)


def test_a_gate_that_abstains_is_open():
    assert judged({"a": 0.8, "g": Abstain("no")}, {"g": Weighted(gate=True)}).reward == pytest.approx(0.8)


def test_the_weight_of_judges_that_abstain_is_spread_over_the_others_in_proportion():
    # of total weight 4, a and b hold 3: (4/3) * (1 * 0.6 + 2 * 0.3) = 1.6
    outcome = judged({"a": 0.6, "b": 0.3, "c": Abstain("no reference")}, weigh(a=1, b=2, c=1))
    assert outcome.reward == pytest.approx(1.6)


def test_abstention_keeps_the_sign_and_the_size_of_a_penalty():
    # total weight |1| + |-0.5| + |2| = 3.5, present 1.5: (3.5/1.5) * (1 * 0.9 - 0.5 * 0.6) = 1.4
    outcome = judged({"a": 0.9, "b": 0.6, "c": Abstain("no")}, weigh(a=1, b=-0.5, c=2))
    assert outcome.reward == pytest.approx(1.4)


def test_equal_scores_give_the_same_reward_whoever_abstains():
    everyone = judged({"a": 0.7, "b": 0.7}, weigh(a=1, b=3)).reward
    assert judged({"a": 0.7, "b": Abstain("no")}, weigh(a=1, b=3)).reward == pytest.approx(everyone)


def test_no_number_comes_of_abstentions_alone():
    outcome = judged({"a": Abstain("no reference"), "b": Abstain("too short")})
    assert outcome.reward is None
    assert outcome.failure == "every judge abstained (a: no reference; b: too short)"


def test_a_gate_alone_gives_no_number():
    assert judged({"a": Abstain("no"), "g": 1.0}, {"g": Weighted(gate=True)}).reward is None


def test_judges_of_weight_zero_are_logged_and_give_no_number():
    assert judged({"a": 0.5, "b": 0.9}, weigh(a=1, b=0)).reward == pytest.approx(0.5)
    outcome = judged({"a": Abstain("no"), "b": 0.9}, weigh(a=1, b=0))
    assert outcome.reward is None
    assert outcome.failure
    assert outcome.scores == {"b": 0.9}


@pytest.mark.parametrize("what", [Failure("cannot read"), ValueError("boom"), math.nan, [], "text"])
@pytest.mark.parametrize("weights", [{}, {"bad": Weighted(gate=True)}, weigh(bad=0)])
def test_one_failure_leaves_no_number_and_names_the_judge(what, weights):
    outcome = judged({"good": 1.0, "bad": what}, weights)
    assert outcome.reward is None
    assert outcome.failure.startswith("bad: ")
    assert outcome.scores == {"good": 1.0}
    assert isinstance(outcome.verdicts["bad"], Failure)


def test_the_outcome_holds_every_verdict_and_the_raw_scores():
    outcome = judged({"a": 0.5, "b": Abstain("no"), "g": 9.0}, {"g": Weighted(gate=True), "a": Weighted(3.0)})
    assert outcome.verdicts == {"a": Score(0.5), "b": Abstain("no"), "g": Score(9.0)}
    assert outcome.scores == {"a": 0.5, "g": 9.0}
    assert outcome.failure is None


def test_a_mistake_of_the_user_ends_the_turn_with_the_error_itself():
    with pytest.raises(ConfigError, match="wrong key"):
        judged({"a": 0.5, "b": ConfigError("wrong key")})


class Clips:
    @hookimpl(wrapper=True)
    def duologue_reward(self):
        value = yield
        return min(1.0, max(-1.0, value))


class Worst:
    """A plugin that replaces the sum by the worst score."""

    def __init__(self) -> None:
        self.saw: list[tuple[Turn, dict, dict]] = []

    @hookimpl
    def duologue_reward(self, turn, verdicts, weights):
        self.saw.append((turn, dict(verdicts), dict(weights)))
        return min(score.value for score in verdicts.values())


class SaysNothing:
    @hookimpl
    def duologue_reward(self):
        return None


class NotANumber:
    @hookimpl
    def duologue_reward(self):
        return math.nan


class Swallows:
    @hookimpl(wrapper=True)
    def duologue_reward(self):
        yield  # and returns None


def test_a_wrapper_clips_what_the_sum_gives():
    assert judged({"a": 0.9, "b": 0.9}, None, Clips()).reward == 1.0
    assert judged({"a": 0.9, "b": 0.9}, weigh(a=-1, b=-1), Clips()).reward == -1.0
    assert judged({"a": 0.3, "b": 0.2}, None, Clips()).reward == pytest.approx(0.5)


def test_a_plugin_replaces_the_sum_and_sees_the_scores_of_weighted_judges_only():
    worst = Worst()
    said = {"a": 0.9, "b": 0.4, "c": Abstain("no"), "g": 0.5}
    outcome = judged(said, {"a": Weighted(2.0), "g": Weighted(gate=True)}, worst)
    assert outcome.reward == pytest.approx(0.4 * 0.5)
    assert worst.saw == [(TURN, {"a": Score(0.9), "b": Score(0.4)}, {"a": 2.0, "b": 1.0, "c": 1.0})]


def test_a_plugin_is_not_asked_about_failures_nor_when_all_abstain():
    worst = Worst()
    judged({"a": 0.9, "b": Failure("no")}, None, worst)
    judged({"a": Abstain("no")}, None, worst)
    assert worst.saw == []


def test_a_plugin_that_returns_none_leaves_it_to_the_sum():
    assert judged({"a": 0.25, "b": 0.5}, None, SaysNothing()).reward == pytest.approx(0.75)


@pytest.mark.parametrize("plugin", [NotANumber(), Swallows()])
def test_a_plugin_that_gives_no_number_is_a_failure(plugin):
    outcome = judged({"a": 0.25}, None, plugin)
    assert outcome.reward is None
    assert outcome.failure


def test_a_sum_beyond_all_bounds_is_a_failure():
    assert judged({"a": 1e308, "b": 1e308}, weigh(a=10, b=10)).reward is None


def test_a_reward_needs_a_judge_with_a_weight():
    with pytest.raises(ConfigError, match="no judge with a weight"):
        Reward({})
    with pytest.raises(ConfigError, match="no judge with a weight"):
        Reward({"g": Says(Score(1.0))}, {"g": Weighted(gate=True)})


@pytest.mark.parametrize("weight", [math.nan, math.inf, "heavy", None])
def test_a_weight_must_be_a_finite_number(client, endpoint, weight):
    with pytest.raises(ConfigError, match=r"`judges\.l.*(was refused|must be a number)"):
        Reward.from_settings({"l": {"name": "length", "weight": weight}}, JudgeContext(client, {"assistant": endpoint}))


OUTCOMES = st.one_of(
    st.floats(-1e6, 1e6).map(Score),
    st.sampled_from([math.nan, math.inf, -math.inf]).map(Score),
    st.just(Abstain("no")),
    st.sampled_from([Failure("no"), ValueError("boom"), [], [Score(1.0)] * 2, None, (0.5,), "7"]),
)
WEIGHTS = st.builds(Weighted, st.one_of(st.just(0.0), st.floats(0.01, 100), st.floats(-100, -0.01)), st.booleans())


@given(st.dictionaries(st.sampled_from("abcdef"), st.tuples(OUTCOMES, WEIGHTS), min_size=1))
def test_a_reward_is_a_number_exactly_if_nothing_failed_and_somebody_with_a_weight_gave_a_score(parts):
    weights = {name: weight for name, (_, weight) in parts.items()}
    if all(weight.gate for weight in weights.values()):
        return
    outcome = judged({name: said for name, (said, _) in parts.items()}, weights)
    fine = {name: isinstance(said, Score) and math.isfinite(said.value) for name, (said, _) in parts.items()}
    failed = any(not (fine[name] or isinstance(said, Abstain)) for name, (said, _) in parts.items())
    scored = any(fine[name] and weight.weight and not weight.gate for name, weight in weights.items())
    assert (outcome.reward is not None) == (scored and not failed)
    assert (outcome.failure is None) == (outcome.reward is not None)
    assert outcome.reward is None or (isinstance(outcome.reward, float) and math.isfinite(outcome.reward))
    assert all(math.isfinite(value) for value in outcome.scores.values())


def test_turns_of_many_dialogues_share_each_judges_batches():
    class Counts(Says):
        def __init__(self, value: float) -> None:
            super().__init__(Score(value))
            self.sizes: list[int] = []

        async def score(self, batch):
            self.sizes.append(len(batch))
            return await super().score(batch)

    judges = {"a": Counts(0.5), "b": Counts(0.25)}
    reward = Reward(judges, registry=Plugins(discover=False))

    async def all_at_once():
        return await asyncio.gather(*(reward.judge(TURN) for _ in range(5)))

    outcomes = asyncio.run(all_at_once())
    assert [outcome.reward for outcome in outcomes] == [0.75] * 5
    assert judges["a"].sizes == judges["b"].sizes == [5]


def test_closing_closes_every_judge_once():
    judges = {"a": Says(Score(1.0)), "b": Says(Score(1.0))}
    asyncio.run(Reward(judges, registry=Plugins(discover=False)).aclose())
    assert [judge.closed for judge in judges.values()] == [1, 1]


@pytest.fixture
def context(client, endpoint) -> JudgeContext:
    return JudgeContext(client, {"assistant": endpoint})


def test_settings_become_judges_with_weights_and_gates(context):
    settings = {
        "short": {"name": "length", "low": 1, "high": 2, "weight": 3.0},
        "long": {"name": "length", "low": 8, "high": 40, "gate": True},
        "off": None,
        "rules": "rules",
    }
    reward = Reward.from_settings(settings, context)
    assert reward.weights == {"short": 3.0, "rules": 1.0}
    assert [name for name, entry in reward.entries.items() if entry.gate] == ["long"]
    # four words: short 0 (at twice `high`), gate 4/8, rules 1
    assert asyncio.run(reward.judge(TURN)).reward == pytest.approx((3 * 0.0 + 1.0) * 0.5)


@pytest.mark.parametrize(
    ("judges", "options", "message"),
    [
        ({"x": "lenght"}, {}, "`judges.x`: there is no judge `lenght`: did you mean `length`?"),
        ({"x": {"name": "length", "wieght": 1}}, {}, "`judges.x.wieght` is not a setting here"),
        ({"x": "length"}, {"batchsize": 3}, "`reward.batchsize` is not a setting here: did you mean `batch_size`?"),
        ({"x": "length"}, {"batch_size": 0}, "`reward` was refused: `batch_size` must be at least 1"),
        ({"x": "length"}, {"judges": {}}, "`reward.judges` is not a setting here"),
        ({}, {}, "no judge with a weight"),
        ({"x": None}, {}, "no judge with a weight"),
    ],
)
def test_a_mistake_in_the_settings_is_named(context, judges, options, message):
    with pytest.raises(ConfigError) as caught:
        Reward.from_settings(judges, context, options)
    assert message in str(caught.value)


PAIRS = """
from duologue.plugins import hookimpl

class Pairs:
    async def compare(self, batch):
        return []
    async def aclose(self):
        pass

@hookimpl
def duologue_register_judges(register):
    register.judge("pairs", "pairs_plugin:Pairs")
"""


def test_a_judge_that_only_compares_pairs_cannot_be_a_reward(install, context):
    install("pairs-dist", "1.0", {"pairs": "pairs_plugin"}, pairs_plugin=PAIRS)
    with pytest.raises(ConfigError, match=r"`judges\.p` only compares pairs and cannot be a reward"):
        Reward.from_settings({"p": "pairs"}, context)
