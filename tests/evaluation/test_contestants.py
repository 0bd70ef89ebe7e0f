import re
from dataclasses import replace
from zlib import crc32

import pytest

from duologue.core.errors import ConfigError
from duologue.envs import Scenario, make_interface
from duologue.envs.episode import EpisodeFailed
from duologue.envs.policies import ConstantPolicy, RandomPolicy
from duologue.evaluation.contestants import (
    BASELINE_DRAW,
    OracleContestant,
    PolicyContestant,
    check_kinds,
    make_contestants,
    plain_baseline,
)
from duologue.evaluation.referee import Referee
from duologue.plugins import Failure, Score
from duologue.plugins.batched_judge import BatchedJudge
from duologue.plugins.judges.length import LengthJudge


class Noting:
    """A policy that sends the last candidate and keeps the keys that it was given."""

    def __init__(self) -> None:
        self.keys = []

    def act(self, observation, key):
        self.keys.append(key)
        return len(observation["candidates"]) - 1


class ByNumber:
    """Scores the number in the reply; those in `broken` are failures."""

    def __init__(self, broken=()) -> None:
        self.broken = broken

    async def score(self, batch):
        numbers = [int(re.search(r"\d+", turn.reply).group()) for turn in batch]
        return [Failure("broken") if n in self.broken else Score(float(n)) for n in numbers]

    async def aclose(self):
        pass


@pytest.fixture
def numbered(server):
    """Lets the server answer with the request's seed, which is the sample's index."""
    server.answer = lambda body: f"Reply {body['seed']}."
    return server


@pytest.fixture
def play(client):
    """Plays a contestant on scenarios: `play(contestant, scenario, repeat)`."""
    return lambda contestant, scenario, repeat=0: client.run(contestant.answer(scenario, repeat))


def by_name(contestants):
    return {contestant.name: contestant for contestant in contestants}


def test_candidates_of_one_request_have_one_constant(numbered, make_task, scenarios, play):
    (constant,) = make_contestants(["constants"], ConstantPolicy(0), make_task(judges={}), None)
    assert constant.name == "plain sample"
    assert [play(constant, scenario).reply for scenario in scenarios[:3]] == ["Reply 0."] * 3


def test_each_directive_has_a_constant(server, make_task, scenarios, play):
    task = make_task(judges={}, interface=make_interface({"name": "strategy", "directives": ["", "Be brief."]}))
    constants = make_contestants(["constants"], ConstantPolicy(0), task, None)
    assert [c.name for c in constants] == ["always no directive", "always Be brief."]
    assert play(constants[1], scenarios[0]).actions == ("Be brief.",)


def test_constants_of_a_strategy_are_named_by_their_directives(make_task):
    task = make_task(interface={"name": "strategy", "directives": ["", "Be brief."]}, judges={})
    assert [*by_name(make_contestants(["constants"], ConstantPolicy(0), task, None))] == [
        "always no directive",
        "always Be brief.",
    ]


def test_repeats_take_other_samples(numbered, make_task, scenarios, play):
    first = PolicyContestant("first", ConstantPolicy(0), make_task(judges={}))
    assert [play(first, scenarios[0], repeat).reply for repeat in range(3)] == ["Reply 0.", "Reply 4.", "Reply 8."]
    assert sorted(body["seed"] for body in numbered.requests) == [*range(12)]


def test_the_baseline_is_one_plain_sample_that_is_no_candidate_of_any_repeat(numbered, make_task, scenarios, play):
    task = make_task(interface={"name": "select", "n": 3}, judges={})
    contestant, baseline = PolicyContestant("own", ConstantPolicy(0), task), plain_baseline(task)
    for repeat in range(3):
        play(contestant, scenarios[0], repeat)
    candidates, numbered.requests[:] = [body["seed"] for body in numbered.requests], []
    answers = [play(baseline, scenarios[0], repeat) for repeat in range(3)]
    assert [body["seed"] for body in numbered.requests] == [BASELINE_DRAW, BASELINE_DRAW + 1, BASELINE_DRAW + 2]
    assert not {BASELINE_DRAW, BASELINE_DRAW + 1, BASELINE_DRAW + 2} & {*candidates}
    assert [answer.actions for answer in answers] == [("plain",)] * 3
    assert len({answer.reply for answer in answers}) == 3


def test_the_baseline_is_asked_under_the_same_system_prompt(server, make_task, scenarios, play):
    task = make_task(interface={"name": "strategy", "directives": ["Be brief.", "x"]}, judges={}, system="Be kind.")
    play(plain_baseline(task), scenarios[0])
    assert server.requests[0]["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Question number 0, please?"},
    ]


def test_all_contestants_choose_among_the_same_candidates_which_are_paid_for_once(
    server, make_task, scenarios, play, client
):
    task = make_task(judges={})
    for contestant in make_contestants(["policy", "constants", "random"], ConstantPolicy(2), task, None):
        play(contestant, scenarios[0])
    assert len(server.requests) == 4
    assert client.meter.total.paid == 4


def test_the_random_contestant_varies_and_is_the_same_in_every_evaluation(numbered, make_task, scenarios, play):
    task = make_task(judges={})
    single = scenarios[:6]

    def actions():
        contestant = PolicyContestant("random", RandomPolicy(task.interface.action_space), task)
        return [play(contestant, scenario, repeat).actions for scenario in single for repeat in range(3)]

    first = actions()
    assert actions() == first
    assert len({*first}) == 4
    assert first[::3] != first[1::3]


def test_a_policy_is_told_scenario_repeat_and_turn(make_task, scenarios, play):
    policy = Noting()
    play(PolicyContestant("noting", policy, make_task(judges={})), scenarios[6], repeat=2)
    assert policy.keys == [(crc32(b"three-0"), 2, turn) for turn in range(3)]


def test_a_dialogue_is_played_to_its_end_with_what_was_really_said(numbered, make_task, scenarios, play):
    scenario = scenarios[6]
    answer = play(PolicyContestant("last", Noting(), make_task(judges={}, system="")), scenario)
    said = ["Hello 0.", "Reply 3.", "Go on.", "Reply 3.", "And then?", "Reply 3."]
    roles = ["user", "assistant"] * 3
    dialogue = [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]
    assert [list(turn.messages) for turn in answer.turns] == [dialogue[:1], dialogue[:3], dialogue[:5]]
    assert [turn.index for turn in answer.turns] == [0, 1, 2]
    assert [turn.reference for turn in answer.turns] == [None, None, "A story."]
    assert answer.reply == "Reply 3."
    assert answer.actions == ("candidate 3",) * 3


def test_a_dialogue_ends_where_the_task_cuts_it(numbered, make_task, scenarios, play):
    answer = play(PolicyContestant("own", ConstantPolicy(0), make_task(judges={}, max_turns=2)), scenarios[6])
    assert len(answer.turns) == 2


def test_judges_see_the_scenario_and_never_the_directive(server, make_task, play):
    scenario = Scenario("s", "test", ("Question?",), reference="Answer.", tags=("a", "b"), hidden={"fact": 1})
    task = make_task(interface={"name": "strategy", "directives": ["", "Be brief."]}, judges={}, scenarios=[scenario])
    answer = play(PolicyContestant("own", ConstantPolicy(1), task), scenario)
    (turn,) = answer.turns
    assert "Be brief." in server.requests[0]["messages"][0]["content"]
    assert "Be brief." not in str(turn.messages)
    assert (turn.reference, turn.scenario_id, turn.tags, turn.hidden) == ("Answer.", "s", ("a", "b"), {"fact": 1})


def test_a_reply_that_was_cut_is_judged_as_such(server, make_task, scenarios, play):
    server.answer = lambda body: {
        "choices": [{"message": {"content": "Cut"}, "finish_reason": "length", "logprobs": {"content": []}}]
    }
    answer = play(plain_baseline(make_task(judges={})), scenarios[0])
    assert answer.turns[0].finish_reason == "length"


def test_a_failed_call_is_an_episode_without_an_answer(server, make_task, scenarios, play):
    server.answer = lambda body: (500, {"error": {"message": "later"}})
    with pytest.raises(EpisodeFailed, match="assistant: .*500: later"):
        play(plain_baseline(make_task(judges={})), scenarios[0])


def test_no_constant_beats_the_oracle_under_its_own_judge(make_task, scenarios, play, client):
    bench = BatchedJudge("length", LengthJudge(low=9))
    task = make_task(judges={})
    (oracle,) = make_contestants(["oracle"], ConstantPolicy(0), task, bench)
    contestants = {i: PolicyContestant(f"candidate {i}", ConstantPolicy(i), task) for i in range(4)}
    margins = []
    for scenario in scenarios[:6]:
        for repeat in range(2):
            best = client.run(bench.score(play(oracle, scenario, repeat).turns[-1])).value
            others = [client.run(bench.score(play(c, scenario, repeat).turns[-1])).value for c in contestants.values()]
            assert best == max(others)
            margins.append(best - min(others))
    assert max(margins) > 0


def test_the_oracle_passes_over_candidates_that_cannot_be_judged(numbered, make_task, scenarios, play):
    oracle = OracleContestant(make_task(judges={}), BatchedJudge("number", ByNumber(broken={2, 3}), retries=0))
    assert play(oracle, scenarios[0]).reply == "Reply 1."


def test_the_oracle_sends_some_candidate_where_none_can_be_judged(numbered, make_task, scenarios, play):
    oracle = OracleContestant(make_task(judges={}), BatchedJudge("number", ByNumber(broken=range(4)), retries=0))
    assert play(oracle, scenarios[0]).reply == "Reply 0."


def test_the_oracle_decides_every_turn_of_a_dialogue(numbered, make_task, scenarios, play):
    oracle = OracleContestant(make_task(judges={}), BatchedJudge("number", ByNumber()))
    assert play(oracle, scenarios[6]).actions == ("candidate 3",) * 3


def test_contestants_come_in_the_order_of_their_kinds(make_task):
    bench = BatchedJudge("length", LengthJudge())
    names = [*by_name(make_contestants(["oracle", "policy", "random"], ConstantPolicy(0), make_task(judges={}), bench))]
    assert names == ["best-of-n oracle", "trained policy", "random"]


@pytest.mark.parametrize(("interface", "pairwise"), [("strategy", False), ("select", True)])
def test_the_oracle_is_left_out_where_there_is_nothing_to_choose_or_no_score(make_task, interface, pairwise):
    class Tie:
        async def compare(self, batch):
            return []

        async def aclose(self):
            pass

    bench = Referee("judge", Tie() if pairwise else LengthJudge()).batched_judge
    task = make_task(interface=interface, judges={})
    assert [*by_name(make_contestants(["policy", "oracle"], ConstantPolicy(0), task, bench))] == ["trained policy"]
    with pytest.raises(ConfigError, match="leaves nobody to play"):
        make_contestants(["oracle"], ConstantPolicy(0), task, bench)


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["polcy"], "did you mean `policy`?"),
        ([], "must be a list like"),
        ("policy", "must be a list like"),
        ([3], "known: `constants`, `oracle`, `policy`, `random`"),
    ],
)
def test_kinds_that_do_not_exist_are_refused(kinds, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        check_kinds(kinds)


def test_the_baseline_keeps_everything_of_the_task_but_the_interface(make_task):
    task = make_task(judges={}, max_turns=3, system="Be kind.")
    baseline = plain_baseline(task).task
    assert baseline.interface.name == "plain"
    assert replace(baseline, interface=task.interface) == task
