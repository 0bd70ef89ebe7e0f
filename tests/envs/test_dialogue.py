"""One dialogue: what is sent, what judges see, what nobody sees, and how it fails."""

import asyncio
import json
import math
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

from duologue.envs import Dialogue, DialogueEnv, Episode, EpisodeFailed, Scenario
from duologue.envs.episode import TurnDeadline
from duologue.inference import CallFailed, ConfigError, DuologueError, Encoder, EndpointRefused, Price
from duologue.plugins import Abstain, Failure, Reward, Score, Weighted

BROKEN = (500, {"error": {"message": "out of order"}})
SYSTEM = "Answer in one or two short sentences."


def first_turn(env):
    env.reset(seed=0)
    return env.step(0)


def assert_failed(step, cause, text=""):
    """The episode is over, and there is no reward: not even zero."""
    _, reward, terminated, truncated, info = step
    assert (math.isnan(reward), terminated, truncated) == (True, False, True)
    assert info["failure_cause"] == cause
    assert re.search(text, info["failure"])
    assert not [name for name in info if name.startswith("reward/")]


class Saying:
    """A judge that says the same of every turn."""

    def __init__(self, verdict):
        self.verdict = verdict

    async def score(self, batch):
        return [self.verdict] * len(batch)

    async def aclose(self):
        pass


class Leaving:
    """A user whose line is cut."""

    async def reply(self, scenario, state):
        raise CallFailed("the line is dead")


class Faulty(Encoder):
    """An encoder behind an API that is down while ``broken`` is set."""

    name = "faulty"
    dim = 2
    broken = False

    async def _encode_new(self, texts):
        if self.broken:
            raise CallFailed("no embeddings today")
        return np.ones((len(texts), 2), np.float32)


def test_the_whole_dialogue_is_sent_at_every_turn(server, make_task, scenarios):
    replies = iter(["Good day.", "Gladly.", "The end."])
    server.answer = lambda body: next(replies)
    env = DialogueEnv(make_task(interface="plain", scenarios=scenarios[6:7]))
    env.reset(seed=0)
    infos = [env.step(0)[-1] for _ in range(3)]
    dialogue = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": "Hello 0."},
        {"role": "assistant", "content": "Good day."},
        {"role": "user", "content": "Go on."},
        {"role": "assistant", "content": "Gladly."},
        {"role": "user", "content": "And then?"},
        {"role": "assistant", "content": "The end."},
    ]
    assert [body["messages"] for body in server.requests] == [dialogue[:2], dialogue[:4], dialogue[:6]]
    assert [list(info["messages"]) for info in infos] == [dialogue[:4], dialogue[:6], dialogue]
    assert [info["turn"] for info in infos] == [1, 2, 3]


@pytest.mark.parametrize(
    ("own", "default", "expected"),
    [
        (None, "Be brief.", ["Be brief."]),
        ("Be kind.", "Be brief.", ["Be kind."]),
        ("", "Be brief.", []),
        (None, "", []),
    ],
)
def test_the_scenarios_system_prompt_goes_before_the_tasks(server, make_task, own, default, expected):
    scenario = Scenario("a", "train", ("Hello?",), system=own)
    env = DialogueEnv(make_task(interface="plain", scenarios=[scenario], system=default))
    env.reset(seed=0)
    env.step(0)
    assert [m["content"] for m in server.requests[0]["messages"] if m["role"] == "system"] == expected


def test_what_the_judge_sees_of_every_turn(server, make_task, spied, spy):
    scenario = Scenario(
        "talk", "train", ("One?", "Two?"), reference="A good end.", tags=("small", "talk"), hidden={"code": 7}
    )
    server.answer = lambda body: "Three words here." if len(body["messages"]) == 2 else "Two words."
    env = DialogueEnv(make_task(interface="plain", reward=spied, scenarios=[scenario]))
    env.reset(seed=0)
    outcomes = [env.step(0) for _ in range(2)]
    first, second = spy.turns
    assert [m["content"] for m in first.messages] == [SYSTEM, "One?"]
    assert [m["content"] for m in second.messages] == [SYSTEM, "One?", "Three words here.", "Two?"]
    assert (first.reply, second.reply) == ("Three words here.", "Two words.")
    assert (first.reference, second.reference) == (None, "A good end.")  # it answers the last scripted turn
    assert (first.index, second.index) == (0, 1)
    assert (first.last, second.last) == (False, True)
    for turn in spy.turns:
        assert (turn.scenario_id, turn.tags, turn.hidden) == ("talk", ("small", "talk"), {"code": 7})
    assert [reward for _, reward, *_ in outcomes] == [3, 2]
    assert [info["reward/spy"] for *_, info in outcomes] == [3, 2]


def test_a_turn_that_max_turns_makes_the_last_is_shown_as_the_last(make_task, scenarios, spied, spy):
    env = DialogueEnv(make_task(interface="plain", reward=spied, scenarios=scenarios[6:7], max_turns=2))
    env.reset(seed=0)
    env.step(0)
    env.step(0)
    assert [turn.last for turn in spy.turns] == [False, True]
    assert [turn.reference for turn in spy.turns] == [None, None]


def test_a_cut_reply_is_shown_as_cut(server, make_task, scenarios, spied, spy):
    message = {"role": "assistant", "content": "I was about to"}
    server.answer = lambda body: {"choices": [{"message": message, "finish_reason": "length"}]}
    env = DialogueEnv(make_task(interface="plain", reward=spied, scenarios=scenarios[:1]))
    env.reset(seed=0)
    assert env.step(0)[-1]["finish_reason"] == spy.turns[0].finish_reason == "length"


@pytest.mark.parametrize("interface", ["select", "strategy", "plain"])
def test_what_is_hidden_reaches_neither_the_model_nor_the_policy(server, make_task, spied, spy, interface):
    open_part = Scenario("a", "train", ("Hello?", "And?"))
    canary = {
        "reference": "canary",
        "persona": "canary",
        "goal": "canary",
        "tags": ("canary",),
        "hidden": {"canary": 1},
    }
    played = []
    for scenario in (open_part, replace(open_part, **canary)):
        env = DialogueEnv(make_task(interface=interface, reward=spied, scenarios=[scenario]), render_mode="ansi")
        steps = [env.reset(seed=0), env.step(1 % env.action_space.n), env.step(0)]
        assert "canary" not in json.dumps(server.requests)
        assert "canary" not in env.render()
        assert "canary" not in repr([step[-1] for step in steps])
        played.append([step[0] for step in steps])
    for plain, planted in zip(*played, strict=True):
        for name in plain:
            np.testing.assert_array_equal(plain[name], planted[name])
    assert spy.turns[-1].reference == "canary"  # only the judge was told
    assert spy.turns[-1].hidden == {"canary": 1}


def test_rewards_by_hand(server, make_task, scenarios):
    server.answer = lambda body: "Only four words here."  # rules 1; length 4 of at least 8 words: 0.5
    judges = {"rules": {"name": "rules", "weight": 2.0}, "length": {"name": "length", "weight": 3.0}}
    env = DialogueEnv(make_task(interface="plain", judges=judges, scenarios=scenarios[:1]))
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(0)
    assert reward == pytest.approx(2 * 1 + 3 * 0.5)
    assert (info["reward/rules"], info["reward/length"]) == (1, 0.5)
    assert (terminated, truncated) == (True, False)


def test_a_judge_that_abstains_is_not_in_the_info(make_task, scenarios, spy):
    reward = Reward({"spy": spy, "shy": Saying(Abstain("nothing to say"))})
    env = DialogueEnv(make_task(interface="plain", reward=reward, scenarios=scenarios[:1]))
    env.reset(seed=0)
    assert [key for key in env.step(0)[-1] if key.startswith("reward/")] == ["reward/spy"]


@pytest.mark.parametrize(
    ("max_turns", "steps", "terminated"), [(2, 2, False), (3, 3, True), (8, 3, True), (1, 1, False)]
)
def test_the_user_terminates_and_max_turns_truncates(make_task, scenarios, max_turns, steps, terminated):
    env = DialogueEnv(make_task(interface="plain", scenarios=scenarios[6:7], max_turns=max_turns))
    env.reset(seed=0)
    flags = [env.step(0)[2:4] for _ in range(steps)]
    assert flags == [(False, False)] * (steps - 1) + [(terminated, not terminated)]


class Asking:
    """A user who takes a while, and ends the dialogue after so many turns."""

    def __init__(self, turns):
        self.turns = turns

    async def reply(self, scenario, state):
        await asyncio.sleep(0.01)
        return None if state.turn >= self.turns else "And then?"


@pytest.mark.parametrize("user", ["scripted", Asking(3)])
@pytest.mark.parametrize("max_turns", [2, 8])
def test_a_judge_of_the_end_sees_the_last_turn_only_and_makes_max_turns_an_end(
    server, make_task, scenarios, spy, user, max_turns
):
    reward = Reward({"rules": Saying(Score(0.1)), "spy": spy}, {"spy": Weighted(when="end")})
    env = DialogueEnv(
        make_task(interface="select", reward=reward, scenarios=scenarios[6:7], max_turns=max_turns, user=user)
    )
    env.reset(seed=0)
    steps = [env.step(0) for _ in range(min(max_turns, 3))]
    assert [step[2:4] for step in steps] == [(False, False)] * (len(steps) - 1) + [(True, False)]
    assert len(spy.turns) == 1
    assert spy.turns[0].last
    assert len(server.requests) == 4 * len(steps)  # no candidates for a turn that will not come
    assert [step[1] for step in steps[:-1]] == [0.1] * (len(steps) - 1)
    assert "reward/spy" in steps[-1][-1]
    assert all("reward/spy" not in step[-1] for step in steps[:-1])


def test_potentials_go_from_turn_to_turn_and_begin_anew_with_the_dialogue(server, make_task, scenarios):
    server.answer = lambda body: "One two three four."  # half of the wanted length
    judges = {"length": {"name": "length", "when": "potential"}, "rules": {"name": "rules", "weight": 0.0}}
    task = make_task(interface="plain", judges=judges, reward={"gamma": 0.9}, scenarios=scenarios[6:7])
    env = DialogueEnv(task)
    for _ in range(2):
        env.reset(seed=0)
        rewards = [env.step(0)[1] for _ in range(3)]
        assert rewards == pytest.approx([0.9 * 0.5, 0.9 * 0.5 - 0.5, -0.5])
    info = env.reset(seed=0) and env.step(0)[-1]
    assert (info["reward/length"], info["term/length"]) == (0.5, pytest.approx(0.45))


def test_what_a_turn_costs_enters_its_reward_whether_or_not_it_was_paid_now(make_task, endpoint, scenarios):
    dear = replace(endpoint, price=Price(per_request_usd=0.5, per_million_completion_tokens_usd=0))
    task = make_task(
        interface={"name": "select", "n": 3},
        endpoints={"assistant": dear},
        reward={"cost_weight": 2.0},
        scenarios=scenarios[:1],
    )
    env = DialogueEnv(task)
    for _ in range(2):  # the second time the cassette has the answers
        env.reset(seed=0)
        assert env.step(0)[-1]["term/cost"] == pytest.approx(-2.0 * 3 * 0.5)


@pytest.mark.parametrize("interface", ["select", "strategy", "plain"])
@pytest.mark.parametrize("max_turns", [2, 3])
def test_the_last_observation_is_the_state_as_it_was_left(make_task, scenarios, interface, max_turns):
    task = make_task(interface=interface, scenarios=scenarios[6:7], max_turns=max_turns)
    env = DialogueEnv(task)
    env.reset(seed=0)
    for _ in range(max_turns):
        observation, *_, info = env.step(0)
    turns = [m["content"] for m in info["messages"] if m["role"] != "system"]
    vectors = task.client.run(task.encoder.encode([*turns, "And then?"]))
    np.testing.assert_allclose(observation["message"], vectors[-1])
    np.testing.assert_allclose(observation["history"], vectors[:-1].mean(0), rtol=1e-6)
    assert observation["scalars"][0] == pytest.approx(max_turns / 10)
    assert env.observation_space.contains(observation)


def test_a_truncated_dialogue_shows_the_candidates_it_would_have_gone_on_with(server, make_task, scenarios):
    """Its value is estimated from this observation: it must be the one that a longer dialogue would have seen."""
    seen = []
    for max_turns in (1, 8):
        env = DialogueEnv(make_task(scenarios=scenarios[6:7], max_turns=max_turns))
        env.reset(seed=0)
        seen.append(env.step(1)[0])
        with_next_turn = len(server.requests)
    assert seen[0]["candidates"].any()
    for name in seen[0]:
        np.testing.assert_array_equal(seen[0][name], seen[1][name])
    assert with_next_turn == 8  # four for the turn, four for the one after; the second dialogue found all of them


@pytest.mark.parametrize(("judges", "max_turns"), [({}, 1), ({"rules": "rules"}, 3)], ids=["unjudged", "terminated"])
def test_nothing_is_asked_after_the_end_where_nobody_needs_it(server, make_task, scenarios, judges, max_turns):
    env = DialogueEnv(make_task(scenarios=scenarios[6:7], max_turns=max_turns, judges=judges))
    env.reset(seed=0)
    for _ in range(max_turns):
        observation, *_ = env.step(0)
    assert len(server.requests) == 4 * max_turns
    assert not observation["candidates"].any()


def test_a_truncated_dialogue_is_over(make_task, scenarios):
    env = DialogueEnv(make_task(scenarios=scenarios[6:7], max_turns=1))
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(DuologueError, match="call `reset` first"):
        env.step(0)


@pytest.mark.parametrize("interface", ["select", "strategy"])
def test_a_dialogue_that_is_over_or_was_never_begun_takes_no_step(make_task, scenarios, interface):
    env = DialogueEnv(make_task(interface=interface, scenarios=scenarios[:1]))
    with pytest.raises(DuologueError, match="call `reset` first"):
        env.step(0)
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(DuologueError, match="call `reset` first"):
        env.step(0)


def test_a_failing_candidate_fails_the_reset_and_the_next_one_works(server, make_task):
    env, answer = DialogueEnv(make_task()), server.answer
    server.answer = lambda body: BROKEN if body["seed"] == 2 else answer(body)
    with pytest.raises(EpisodeFailed, match=r"assistant: .*failed 2 times, last with 500: out of order") as caught:
        env.reset(seed=0)
    assert caught.value.cause == "assistant"
    with pytest.raises(DuologueError, match="call `reset` first"):
        env.step(0)
    server.answer = answer
    _, info = env.reset(seed=0)
    assert info["episode_number"] == 0
    env.step(0)


def test_a_failing_call_fails_the_step_and_the_next_reset_works(server, make_task, scenarios, spied, spy):
    env, answer = DialogueEnv(make_task(interface="plain", reward=spied, scenarios=scenarios[6:7])), server.answer
    env.reset(seed=0)
    env.step(0)
    server.answer = lambda body: BROKEN
    assert_failed(env.step(0), "assistant")
    assert len(spy.turns) == 1  # what was not said is not judged
    server.answer = answer
    with pytest.raises(DuologueError, match="call `reset` first"):
        env.step(0)
    env.reset()
    assert env.step(0)[-1]["turn"] == 1


def test_candidates_of_the_next_turn_that_fail_fail_the_step(server, make_task, scenarios):
    env, answer = DialogueEnv(make_task(scenarios=scenarios[6:7])), server.answer
    env.reset(seed=0)
    server.answer = lambda body: BROKEN
    assert_failed(env.step(0), "assistant")
    server.answer = answer
    with pytest.raises(DuologueError, match="call `reset` first"):
        env.step(0)


@pytest.mark.parametrize("interface", ["select", "strategy"])
def test_an_endpoint_that_refuses_is_no_failed_episode_and_leaves_the_dialogue_over(server, make_task, interface):
    env = DialogueEnv(make_task(interface=interface))
    server.answer = lambda body: (401, {"error": {"message": "wrong key"}})
    with pytest.raises(EndpointRefused, match="wrong key"):
        first_turn(env)
    with pytest.raises(DuologueError, match="call `reset` first"):
        env.step(0)


@pytest.mark.parametrize("interface", ["select", "strategy"])
def test_an_answer_that_cannot_be_read_fails_the_episode(server, make_task, interface):
    env = DialogueEnv(make_task(interface=interface))
    server.answer = lambda body: (200, {"error": {"message": "down for maintenance", "code": 503}})
    if interface == "select":
        with pytest.raises(EpisodeFailed, match="down for maintenance") as caught:
            env.reset(seed=0)
        assert caught.value.cause == "assistant"
    else:
        assert_failed(first_turn(env), "assistant", "down for maintenance")


def test_a_judge_model_that_gives_no_score_fails_the_episode_and_never_becomes_a_reward(server, make_task, scenarios):
    answer = server.answer
    server.answer = lambda body: "I would rather not say." if body.get("temperature") == 0 else answer(body)
    judges = {"length": "length", "grade": {"name": "llm"}}
    env = DialogueEnv(make_task(interface="plain", judges=judges, scenarios=scenarios[:1]))
    env.reset(seed=0)
    assert_failed(env.step(0), "grade", "grade: the judge's answer holds no score")


def test_a_judge_model_that_cannot_be_asked_fails_the_episode_and_the_next_reset_works(server, make_task, scenarios):
    answer = server.answer
    server.answer = lambda body: BROKEN if body.get("temperature") == 0 else answer(body)
    env = DialogueEnv(make_task(interface="plain", judges={"grade": "llm"}, scenarios=scenarios[:1]))
    env.reset(seed=0)
    assert_failed(env.step(0), "grade", "out of order")
    server.answer = lambda body: "Score: 7" if body.get("temperature") == 0 else answer(body)
    with pytest.raises(DuologueError, match="call `reset` first"):
        env.step(0)
    env.reset(seed=0)
    assert env.step(0)[1] == pytest.approx(0.7)


@pytest.mark.parametrize("verdict", [Failure("no opinion"), Score(float("nan")), Score(float("inf"))])
def test_a_verdict_that_is_no_number_fails_the_episode(make_task, scenarios, spy, verdict):
    reward = Reward({"spy": spy, "odd: one": Saying(verdict)})
    env = DialogueEnv(make_task(interface="plain", reward=reward, scenarios=scenarios[:1]))
    env.reset(seed=0)
    assert_failed(env.step(0), "odd: one")


def test_where_every_judge_abstains_there_is_no_reward(make_task, scenarios):
    reward = Reward({"shy": Saying(Abstain("nothing to say"))})
    env = DialogueEnv(make_task(interface="plain", reward=reward, scenarios=scenarios[:1]))
    env.reset(seed=0)
    assert_failed(env.step(0), "reward", r"every judge abstained \(shy: nothing to say\)")


def test_a_failing_user_fails_the_episode(make_task, scenarios):
    env = DialogueEnv(make_task(interface="plain", user=Leaving(), scenarios=scenarios[6:7]))
    env.reset(seed=0)
    assert_failed(env.step(0), "user", "user: the line is dead")


@pytest.mark.parametrize("interface", ["select", "strategy"])
def test_a_failing_encoder_fails_the_episode_and_the_next_reset_works(make_task, scenarios, interface):
    encoder = Faulty()
    env = DialogueEnv(make_task(interface=interface, encoder=encoder, scenarios=scenarios[6:7]))
    encoder.broken = True
    with pytest.raises(EpisodeFailed, match="encoder: no embeddings today") as caught:
        env.reset(seed=0)
    assert caught.value.cause == "encoder"
    with pytest.raises(DuologueError, match="call `reset` first"):
        env.step(0)
    encoder.broken = False
    env.reset(seed=0)
    encoder.broken = True
    assert_failed(env.step(0), "encoder", "encoder")


@pytest.mark.parametrize("interface", ["select", "strategy"])
def test_a_turn_that_takes_too_long_ends_the_dialogue_and_is_no_reward(server, make_task, interface):
    DialogueEnv(make_task(interface=interface)).reset(seed=0)  # a first call also imports and connects
    env = DialogueEnv(make_task(interface=interface, turn_deadline_s=0.2))
    server.delay_s = lambda body: 0.0 if interface == "select" else 5.0
    env.reset(seed=0)
    if interface == "select":
        env.task.client.run(env.task.client.idle())
        assert env.step(0)[1] > 0  # in time
        server.delay_s = lambda body: 5.0
        with pytest.raises(TurnDeadline, match=r"deadline: the turn took longer than `env.turn_deadline_s=0.2`"):
            env.reset()
    else:
        assert_failed(env.step(0), "deadline", "longer than")


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_a_deadline_that_nobody_can_keep_is_refused(make_task, limit):
    with pytest.raises(ConfigError, match=r"`env.turn_deadline_s` must be above 0, or null"):
        make_task(turn_deadline_s=limit)


def test_a_failed_episode_travels_between_processes():
    error = pickle.loads(pickle.dumps(EpisodeFailed("judge", "no score")))
    assert (type(error), error.cause, str(error)) == (EpisodeFailed, "judge", "judge: no score")


def test_one_broken_dialogue_does_not_concern_the_others(server, make_task, scenarios):
    task = make_task(interface="plain", scenarios=scenarios[:2])
    answer = server.answer
    server.answer = lambda body: BROKEN if "number 0" in body["messages"][1]["content"] else answer(body)
    broken, well = DialogueEnv(task), DialogueEnv(task)
    broken.reset(options={"scenario": "one-0"})
    well.reset(options={"scenario": "one-1"})
    assert_failed(broken.step(0), "assistant")
    assert well.step(0)[-1]["scenario"] == "one-1"


@pytest.mark.parametrize("interface", ["select", "strategy"])
def test_the_end_need_not_be_observed(make_task, scenarios, interface):
    """Three turns: all is the same but the observation after the last, which nobody acts on."""

    async def played(dialogue):
        observation, _ = await dialogue.reset(Episode(0, scenarios[6]))
        seen = [observation]
        transitions = [await dialogue.step(0) for _ in range(3)]
        return seen + [t.observation for t in transitions], [(t.reward, t.terminated) for t in transitions]

    task = make_task(interface=interface)
    (full, results), (short, same) = (
        task.client.run(played(Dialogue(task, observe_end=observe_end))) for observe_end in (True, False)
    )
    assert results == same
    for name in full[0]:
        for i in range(3):
            np.testing.assert_array_equal(full[i][name], short[i][name])
        np.testing.assert_array_equal(short[3][name], short[2][name])
    assert (full[3]["scalars"] != short[3]["scalars"]).any()
