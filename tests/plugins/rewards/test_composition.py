"""When judges are asked, what potentials, statistics and costs do to the reward, and that shaping moves no optimum."""

import asyncio
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.core.errors import ConfigError
from duologue.plugins import Abstain, Failure, Plugins, Reward, Score, Turn, Weighted

REGISTRY = Plugins(discover=False)


class Reads:
    """Scores what the reply says of it: `good=0.5 long=3`."""

    requests_per_turn = 1

    def __init__(self, name):
        self.name, self.seen = name, []

    async def score(self, batch):
        self.seen += batch
        return [self._one(dict(pair.split("=") for pair in turn.reply.split())) for turn in batch]

    def _one(self, said):
        value = said.get(self.name)
        if value is None:
            return Abstain("not said")
        return Failure("broken") if value == "fail" else Score(float(value))

    async def aclose(self):
        pass


def reward(entries, **options):
    return Reward({name: Reads(name) for name in entries}, entries, registry=REGISTRY, **options)


def judge(made, reply, **given_):
    return asyncio.run(made.judge(Turn((), reply, last=False), **given_))


def test_a_judge_of_the_end_is_asked_at_the_end_only():
    made = reward({"each": Weighted(), "final": Weighted(2.0, when="end")})
    between = judge(made, "each=0.5 final=1", ended=False)
    assert (between.reward, between.scores) == (0.5, {"each": 0.5})
    last = judge(made, "each=0.5 final=1", ended=True)
    assert (last.reward, last.scores) == (2.5, {"each": 0.5, "final": 1.0})


def test_where_only_the_end_counts_a_turn_before_it_gives_zero():
    made = reward({"final": Weighted(when="end"), "shown": Weighted(0.0)})
    assert judge(made, "final=1 shown=3", ended=False).reward == 0.0
    assert judge(made, "final=1 shown=3", ended=True).reward == 1.0
    assert judge(made, "shown=3", ended=True).reward is None  # the one that counts abstained


def test_what_each_judge_adds_is_the_sum_also_where_others_abstain():
    made = reward({"a": Weighted(1.0), "b": Weighted(-1.0), "c": Weighted(2.0)})
    for said in ("a=0.5", "a=0.5 b=0.25", "a=0.5 c=1", "a=0.5 b=0.25 c=1"):
        outcome = judge(made, said, ended=False)
        assert sum(outcome.terms.values()) == pytest.approx(outcome.reward)
    assert judge(made, "a=0.5", ended=False).terms == {"a": 2.0}


@pytest.mark.parametrize(("over", "needs", "saw"), [(True, False, None), (True, True, True), (False, True, False)])
def test_the_last_turn_is_unknown_while_the_user_thinks_unless_the_judge_waits(over, needs, saw):
    made = reward({"each": Weighted(), "final": Weighted(when="end")})
    each, final = (made._batched_judges[name].judge for name in ("each", "final"))
    each.needs_last = needs

    async def ended():
        await asyncio.sleep(0)
        return over

    async def main():
        return await made.judge(Turn((), "each=1 final=1", last=False), ended=ended())

    asyncio.run(main())
    assert [turn.last for turn in each.seen] == [saw]
    assert [turn.last for turn in final.seen] == [True] * over


@pytest.mark.parametrize("over", [True, False])
def test_where_the_end_is_known_every_judge_sees_it(over):
    made = reward({"each": Weighted()})
    judge(made, "each=1", ended=over)
    assert [turn.last for turn in made._batched_judges["each"].judge.seen] == [over]


def test_a_judge_that_is_not_due_does_not_abstain():
    """Else the others' weights would grow on every turn but the last."""
    made = reward({"each": Weighted(), "final": Weighted(3.0, when="end")})
    assert judge(made, "each=0.5", ended=False).reward == 0.5
    assert judge(made, "each=0.5", ended=True).reward == 2.0  # it abstained: its weight is spread


def test_the_end_may_be_told_later_and_judges_of_each_turn_do_not_wait_for_it():
    made = reward({"each": Weighted(), "final": Weighted(when="end"), "state": Weighted(when="potential")})

    async def play(over):
        told = asyncio.Event()

        async def ended():
            await told.wait()
            return over

        task = asyncio.create_task(made.judge(Turn((), "each=1 final=2 state=3", last=False), ended()))
        await asyncio.sleep(0.01)
        judges = {name: bench.judge for name, bench in made._batched_judges.items()}
        assert len(judges["each"].seen) > 0
        waiting = (len(judges["final"].seen), len(judges["state"].seen))
        told.set()
        outcome = await task
        assert (len(judges["final"].seen), len(judges["state"].seen)) == (waiting[0] + over, waiting[1] + (not over))
        return outcome, judges

    outcome, judges = asyncio.run(play(True))
    assert list(outcome.scores) == ["each", "final"]
    assert judges["final"].seen[-1].last
    outcome, _ = asyncio.run(play(False))
    assert list(outcome.scores) == ["each", "state"]
    assert outcome.potentials == {"state": 3.0}


def test_a_failure_of_a_judge_that_is_asked_later_is_one_too():
    made = reward({"each": Weighted(), "final": Weighted(when="end")})
    assert judge(made, "each=1 final=fail", ended=True).failure == "final: broken"


def test_a_potential_enters_by_its_change():
    made = reward({"each": Weighted(), "state": Weighted(2.0, when="potential")}, gamma=0.9)
    first = judge(made, "each=0.1 state=0.5", ended=False)
    assert first.reward == pytest.approx(0.1 + 2 * 0.9 * 0.5)
    second = judge(made, "each=0.1 state=0.8", ended=False, potentials=first.potentials)
    assert second.reward == pytest.approx(0.1 + 2 * (0.9 * 0.8 - 0.5))
    last = judge(made, "each=0.1 state=0.9", ended=True, potentials=second.potentials)
    assert last.reward == pytest.approx(0.1 - 2 * 0.8)
    assert last.potentials == {}
    assert "state" not in last.scores  # the end has no potential, and nobody is paid to say so


def test_an_abstention_is_a_potential_of_zero():
    made = reward({"each": Weighted(), "state": Weighted(when="potential")}, gamma=0.5)
    outcome = judge(made, "each=0.1", ended=False, potentials={"state": 0.4})
    assert outcome.reward == pytest.approx(0.1 - 0.4)
    assert outcome.potentials == {}


def test_a_gate_multiplies_the_sum_and_neither_potential_nor_cost():
    entries = {"each": Weighted(), "state": Weighted(when="potential"), "gate": Weighted(gate=True)}
    made = reward(entries, gamma=1.0, cost_weight=2.0)
    outcome = judge(made, "each=1 state=0.5 gate=0.25", ended=False, cost_usd=0.05)
    assert outcome.reward == pytest.approx(0.25 + 0.5 - 0.1)
    assert outcome.terms == pytest.approx({"each": 1.0, "state": 0.5, "cost": -0.1})


# -- the proof --------------------------------------------------------------------------------------------------------

ACTIONS, TURNS = ("0", "1"), 3
NUMBERS = st.floats(-2, 2)
DIALOGUES = list(product(ACTIONS, repeat=TURNS))
STATES = ["".join(d[:n]) for d in DIALOGUES for n in range(1, TURNS + 1)]


def discounted(made, dialogue, gamma, rewards, potentials):
    """Plays a dialogue, judged by the real reward, to its end."""
    total, before = 0.0, {}
    for turn in range(TURNS):
        state = "".join(dialogue[: turn + 1])
        reply = f"each={rewards[state]!r} state={potentials[state]!r}"
        outcome = judge(made, reply, ended=turn == TURNS - 1, potentials=before)
        total, before = total + gamma**turn * outcome.reward, outcome.potentials
    return total


@given(
    st.fixed_dictionaries(dict.fromkeys(STATES, NUMBERS)),
    st.fixed_dictionaries(dict.fromkeys(STATES, NUMBERS)),
    st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    st.floats(-3, 3),
)
def test_shaping_changes_no_dialogues_return_and_so_not_the_best_policy(rewards, potentials, gamma, weight):
    """All dialogues of three turns with two actions: Σ γᵗ(γΦ(sₜ₊₁) - Φ(sₜ)) telescopes to γᵀΦ(end) - Φ(beginning) = 0."""
    plain = reward({"each": Weighted()}, gamma=gamma)
    shaped = reward({"each": Weighted(), "state": Weighted(weight, when="potential")}, gamma=gamma)
    returns = {d: discounted(plain, d, gamma, rewards, potentials) for d in DIALOGUES}
    for dialogue, value in returns.items():
        assert discounted(shaped, dialogue, gamma, rewards, potentials) == pytest.approx(value, abs=1e-9)


# -- statistics -------------------------------------------------------------------------------------------------------


def infos(name, *scores):
    return [{f"reward/{name}": score, "reply": "w " * words} for score, words in scores]


def test_scores_are_normalised_by_those_of_the_rollouts_before():
    made = reward({"a": Weighted(2.0, normalise=True), "b": Weighted()})
    assert judge(made, "a=3 b=1").reward == 7.0  # nothing is known yet
    made.observe(infos("a", (1, 5), (3, 5), (5, 5)))
    outcome = judge(made, "a=5 b=1")
    assert outcome.reward == pytest.approx(2 * (5 - 3) / 2 + 1)
    assert outcome.scores == {"a": 5.0, "b": 1.0}  # raw
    assert outcome.terms == {"a": 2.0, "b": 1.0}


def test_what_a_score_owes_to_length_is_taken_away():
    made = reward({"a": Weighted(length_control=True)})
    made.observe(infos("a", (1, 10), (2, 20), (3, 30)))
    short, long = judge(made, "a=1"), judge(made, "a=1 " + "x=0 " * 29)
    assert short.reward == pytest.approx(1 + 0.1 * 19)
    assert long.reward == pytest.approx(1 - 0.1 * 10)


def test_clipping_comes_last():
    made = reward({"a": Weighted(2.0, normalise=True, clip=[-1, 1])})
    made.observe(infos("a", (0, 1), (1, 1), (2, 1)))
    assert judge(made, "a=100").reward == 2.0
    assert judge(made, "a=-100").reward == -2.0
    assert judge(made, "a=1.5").reward == 1.0


def test_failures_and_abstentions_are_no_part_of_the_statistics():
    made = reward({"a": Weighted(normalise=True)})
    made.observe([{"failure": "broken"}, {"reply": "x", "reward/b": 3.0}, *infos("a", (1, 1), (3, 1))])
    assert made.state()["a"]["n"] == 2


def test_the_statistics_can_be_kept():
    made, again = reward({"a": Weighted(normalise=True)}), reward({"a": Weighted(normalise=True)})
    made.observe(infos("a", (0.1, 3), (0.7, 9), (0.3, 2)))
    again.restore(made.state())
    assert judge(again, "a=0.5") == judge(made, "a=0.5")
    again.restore({})
    assert judge(again, "a=0.5").reward == 0.5


# -- costs and mistakes -----------------------------------------------------------------------------------------------


def test_money_and_tokens_cost():
    made = reward({"a": Weighted()}, cost_weight=3.0, token_weight=0.5)
    assert judge(made, "a=1", cost_usd=0.1, tokens=400).reward == pytest.approx(1 - 0.3 - 0.2)
    assert judge(reward({"a": Weighted()}), "a=1", cost_usd=0.1, tokens=400).terms == {"a": 1.0}


def test_a_plan_counts_by_when_judges_are_asked():
    made = reward(
        {"a": Weighted(), "b": Weighted(when="end"), "c": Weighted(when="potential"), "d": Weighted(when="end")}
    )
    assert (made.requests_per_turn, made.requests_per_end) == (2, 3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gate": True, "when": "potential"}, "a gate multiplies"),
        ({"gate": True, "normalise": True}, "leave `normalise` at false"),
        ({"clip": [1]}, "`clip` must be the lowest and the highest value"),
        ({"clip": [2, 1]}, "`clip` must be the lowest and the highest value"),
        ({"when": "always"}, "when` must be one of turn, end, potential"),
    ],
)
def test_settings_that_mean_nothing_are_refused(client, endpoint, settings, said):
    from duologue.plugins import JudgeContext

    context = JudgeContext(client, {"assistant": endpoint})
    with pytest.raises(ConfigError, match=said):
        Reward.from_settings({"x": {"name": "rules", **settings}}, context)


@pytest.mark.parametrize(
    ("options", "said"), [({"gamma": 1.1}, "`gamma` must be from 0 to 1"), ({"cost_weight": -1}, "must be at least 0")]
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        reward({"a": Weighted()}, **options)
    with pytest.raises(ConfigError, match="that is what the cost is called"):
        reward({"cost": Weighted()}, cost_weight=1.0)
