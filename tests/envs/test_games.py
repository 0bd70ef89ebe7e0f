"""The games: scenarios without end in disjoint splits, users and models by rule, outcomes that can be checked by hand."""

import asyncio
import random
import re

import gymnasium
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from duologue.agents.agent import build_task
from duologue.core.errors import ConfigError
from duologue.envs import Task
from duologue.envs.games import GAMES, game_of, generate, make_game, scripted_answer, with_directives
from duologue.envs.games.bargain import BargainJudge
from duologue.envs.games.forms import FormJudge
from duologue.envs.games.support import SupportJudge
from duologue.envs.games.tutoring import TutoringJudge
from duologue.envs.interfaces.one_phase import directed
from duologue.envs.scenarios.loading import load_scenarios
from duologue.envs.scenarios.scenario import SPLITS
from duologue.inference import InferenceClient
from duologue.plugins import plugins
from duologue.plugins.judge import Abstain, Failure, Turn
from duologue.plugins.publish import publish

JUDGES = {"bargain": BargainJudge, "forms": FormJudge, "support": SupportJudge, "tutoring": TutoringJudge}


def play(name, scenario, moves, max_turns=8):
    """The messages of a dialogue in which the assistant makes these moves, and the last turn as judges see it."""
    game = make_game(name)
    messages = [{"role": "system", "content": scenario.system or ""}, {"role": "user", "content": scenario.user[0]}]
    for index in range(max_turns):
        reply = game.answer(messages, moves(index, messages))
        turn = Turn(tuple(messages), reply, hidden=scenario.hidden, index=index)
        messages.append({"role": "assistant", "content": reply})
        said = game.reply(scenario.hidden, messages)
        if said is None:
            return messages, turn
        messages.append({"role": "user", "content": said})
    return messages, turn


@pytest.mark.parametrize("name", GAMES)
def test_no_two_splits_share_a_scenario_whatever_their_seeds(name):
    drawn = {
        (split, seed): {(s.system, s.user) for s in generate(name, split, 150, seed)}
        for split in SPLITS
        for seed in (0, 1)
    }
    for (split, seed), texts in drawn.items():
        assert len(texts) == 150
        for (other, _), others in drawn.items():
            assert split == other or not texts & others
        assert texts != drawn[split, 1 - seed]


@pytest.mark.parametrize("name", GAMES)
def test_the_same_seed_draws_the_same(name):
    generate.cache_clear()
    first = generate(name, "test", 20, 3)
    generate.cache_clear()
    assert generate(name, "test", 20, 3) == first == tuple(load_scenarios(f"{name}:3", "test", 20))


def test_more_than_there_are_is_refused_with_how_many_there_are():
    with pytest.raises(ConfigError, match=r"`forms` has no more than about \d+ scenarios in `test`: ask for fewer"):
        generate("forms", "test", 100_000)
    with pytest.raises(ConfigError, match="`bargain:x`: after the colon comes a whole number"):
        load_scenarios("bargain:x", "test")
    with pytest.raises(ConfigError, match="did you mean `bargain`"):
        load_scenarios("bargian", "test")


@pytest.mark.parametrize("name", GAMES)
def test_every_line_of_play_ends_with_a_verdict_in_range(name):
    rng = random.Random(5)
    game, judge = make_game(name), JUDGES[name]()
    for scenario in generate(name, "train", 60):
        _, turn = play(name, scenario, lambda index, messages: rng.randrange(len(game.directives)))
        (score,) = asyncio.run(judge.score([turn]))
        assert -1 <= score.value <= 1


@pytest.mark.parametrize("name", GAMES)
def test_the_answer_of_the_user_depends_on_nothing_but_the_dialogue(name):
    scenario = generate(name, "train", 1)[0]
    first, _ = play(name, scenario, lambda index, messages: 1 + index % 3)
    again, _ = play(name, scenario, lambda index, messages: 1 + index % 3)
    assert first == again


@pytest.mark.parametrize("name", GAMES)
def test_the_experiment_is_the_game_as_it_is_defined(name, tmp_path):
    """Its user, directives, judges and number of turns, by the configuration and by name alone; also on other scenarios."""
    game = make_game(name)
    publish(plugins())
    with initialize_config_module("duologue.conf", version_base="1.3"):
        overrides = [f"experiment={name}", "inference=rules", f"inference.cassette.path={tmp_path / 'c.sqlite'}"]
        composed = OmegaConf.to_container(compose("run", overrides), resolve=True)
    client = InferenceClient.from_settings(composed["inference"])
    try:
        by_configuration = build_task(composed, client)
        by_name = Task.build(scenarios=name, client=client)
    finally:
        client.close()
    for task in (by_configuration, by_name):
        assert task.user.name == name
        assert task.interface.directives == game.directives
        assert task.reward.entries["outcome"].when == game.judges["outcome"]["when"]
        assert (task.max_turns, task.system) == (game.max_turns, "")
    assert composed["evaluation"]["judge"]["name"] == game.judges["outcome"]["name"]
    assert with_directives("strategy", game_of("own.jsonl", {"name": "rule", "game": name})) == {
        "name": "strategy",
        "directives": list(game.directives),
    }


@pytest.mark.parametrize("name", GAMES)
def test_every_game_is_an_environment_by_its_own_name(name):
    """With its rules as the model: what it says leads to another turn or to an outcome."""
    env = gymnasium.make(f"duologue/{name.capitalize()}-v0", limit=3)
    assert env.action_space.n == len(make_game(name).directives)
    env.reset(seed=0)
    rewards, over = [], False
    while not over:
        _, reward, terminated, truncated, _ = env.step(1)
        rewards.append(reward)
        over = terminated or truncated
    assert len(rewards) > 1 or name == "forms"
    assert all(-1 <= reward <= 1 for reward in rewards)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"game": "bargain", "scenarios": "forms"}, "`game=bargain` and `scenarios=forms` are two games"),
        ({"scenarios": "bargain", "user": "scripted"}, "`env.user` never answers in a dialogue of the game `bargain`"),
        ({"scenarios": "bargain", "user": {"name": "rule", "game": "forms"}}, "rules of `forms` need the hidden fact"),
        ({"user": {"name": "rule", "game": "bargain"}}, "the rules of `bargain` need the hidden fact `asked`"),
        ({"game": "bargian"}, "there is no game `bargian`: did you mean `bargain`"),
    ],
)
def test_parts_that_make_no_game_are_refused(parts, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        gymnasium.make("duologue/Dialogue-v0", **parts)


def test_a_game_as_env_brings_its_judges(tmp_path):
    """Alone, and beside an agent that brings an interface of its own."""
    with initialize_config_module("duologue.conf", version_base="1.3"):
        publish(plugins())
        for overrides in (["env=bargain"], ["env=bargain", "agent=grpo"]):
            assert set(compose("train", overrides).judges) == {"outcome"}
        assert "reference" in compose("train", ["env=bargain", "judging=answers"]).judges


@pytest.mark.parametrize("name", GAMES)
def test_the_scripted_model_follows_a_directive_and_without_one_the_seed(name):
    game, answer = make_game(name), scripted_answer(name)
    scenario = generate(name, "train", 1)[0]
    messages = [{"role": "system", "content": scenario.system or "x"}, {"role": "user", "content": scenario.user[0]}]
    for move, directive in enumerate(game.directives[1:], 1):
        assert answer(directed(messages, directive), 0) == game.answer(messages, move)
    assert answer(messages, 1) == answer(messages, 1)
    assert len({answer(messages, seed) for seed in range(20)}) > 2


def test_a_deal_is_worth_the_share_of_the_gap_that_the_buyer_keeps():
    hidden = {"value": 100, "reserve": 60}
    seller = ({"role": "user", "content": "I ask $90."}, {"role": "assistant", "content": "$70?"},
              {"role": "user", "content": "I could go down to $80."})  # fmt: skip
    turns = [Turn(seller, reply, hidden=hidden) for reply in (
        "Deal at $80.", "Deal at $79.", "I would pay $80.", "deal at $ 85, then", "Deal at $1,200!")]  # fmt: skip
    scores = asyncio.run(BargainJudge().score(turns))
    assert [score.value for score in scores] == [0.5, 0.0, 0.0, 0.375, -1.0]
    assert [score.components["deal"] for score in scores] == [1, 0, 0, 1, 1]


def test_a_buyer_who_waits_for_the_last_word_of_a_calm_seller_pays_the_least():
    scenario = next(s for s in generate("bargain", "train", 50) if s.hidden["mood"] == "calm")

    def patient(index, messages):
        return 5 if "last word" in messages[-1]["content"] else 4

    messages, turn = play("bargain", scenario, patient)
    (score,) = asyncio.run(BargainJudge().score([turn]))
    (at_once,) = asyncio.run(BargainJudge().score([play("bargain", scenario, lambda index, messages: 5)[1]]))
    assert messages[-1]["content"].startswith("Deal at $")
    assert score.value > at_once.value


def test_a_student_who_is_led_is_worth_more_than_one_who_is_told():
    scenario = next(s for s in generate("tutoring", "train", 50) if s.hidden["missing"] == 1)
    led = play("tutoring", scenario, lambda index, messages: 3)[1]
    asked = play("tutoring", scenario, lambda index, messages: 1 if index == 0 else 3)[1]
    told = play("tutoring", scenario, lambda index, messages: 6)[1]
    wrong = play("tutoring", scenario, lambda index, messages: 2)[1]
    scores = asyncio.run(TutoringJudge().score([led, asked, told, wrong]))
    assert [round(score.value, 6) for score in scores] == [1.0, 0.9, 0.1, 0.0]


def test_half_of_the_details_are_a_quarter_of_the_case():
    scenario = next(s for s in generate("support", "train", 50) if s.tags[1:] == ("late", "calm"))
    complete = play("support", scenario, lambda index, messages: 1 + min(index, 1))[1]
    half = play("support", scenario, lambda index, messages: 1)[1]
    at_once = play("support", scenario, lambda index, messages: 6)[1]
    scores = asyncio.run(SupportJudge(turn_cost=0.0).score([complete, half, at_once]))
    assert [score.value for score in scores] == [1.0, 0.25, 1.0]


def test_an_upset_customer_wants_to_hear_that_one_is_sorry():
    scenario = next(s for s in generate("support", "train", 200) if s.tags[1:] == ("late", "upset"))
    cold = play("support", scenario, lambda index, messages: 6)[1]
    kind = play("support", scenario, lambda index, messages: 7)[1]
    scores = asyncio.run(SupportJudge(turn_cost=0.0).score([cold, kind]))
    assert [score.value for score in scores] == [0.0, 1.0]


def test_judges_abstain_where_the_facts_are_missing_and_fail_where_they_are_wrong():
    turn = Turn(({"role": "user", "content": "Hello"},), "Hello")
    for judge in JUDGES.values():
        assert isinstance((asyncio.run(judge().score([turn])))[0], Abstain)
    (bad,) = asyncio.run(FormJudge().score([Turn(turn.messages, "Hello", hidden={"form": "sonnet"})]))
    assert isinstance(bad, Failure)
    (bad,) = asyncio.run(BargainJudge().score([Turn(turn.messages, "Hello", hidden={"value": 5, "reserve": 5})]))
    assert isinstance(bad, Failure)
