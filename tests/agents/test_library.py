"""Agents of the libraries: each trains on dialogues, and what it learnt acts the same from its bundle."""

import json

import numpy as np
import pytest

from duologue.agents import load_bundle
from duologue.agents.library import LIBRARY, LibraryAgent
from duologue.agents.policies import TorchPolicy
from duologue.agents.training import train, warn_of_one_rollout
from duologue.agents.vec_env import DialogueVecEnv
from duologue.commands.bench import bench
from duologue.commands.evaluate import train_and_evaluate
from duologue.commands.plan import plan
from duologue.envs import DialogueEnv
from duologue.inference import ConfigError, EndpointRefused

SMALL = {"total_timesteps": 24, "n_envs": 4}
AGENTS = {
    "a2c": {"n_steps": 2},
    "dqn": {"learning_starts": 4, "batch_size": 4},
    "maskable_ppo": {"n_steps": 2, "batch_size": 4, "n_epochs": 1},
    "linucb": {"n_steps": 2},
}


@pytest.mark.parametrize("name", AGENTS)
def test_it_trains_and_its_bundle_acts(configured, make_task, tmp_path, name):
    config = configured("train") | {"interface": {"name": "strategy"}, "agent": {"name": name, **SMALL, **AGENTS[name]}}
    summary = train(config, tmp_path / "run")
    assert summary["timesteps"] >= 24
    bundle = load_bundle(tmp_path / "run")
    record = json.loads((tmp_path / "run/bundle/policy.json").read_text())
    assert record["network"]["name"] == {"linucb": "linear", **{n: o.network for n, o in LIBRARY.items()}}[name]
    env = DialogueEnv(make_task(interface="strategy"))
    observation, _ = env.reset(seed=0)
    probabilities = bundle.policy.probabilities(observation)[0]
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert bundle.policy.act(observation) == probabilities.argmax()


def test_a_recurrent_policy_learns_and_says_why_it_makes_no_bundle(make_task, tmp_path):
    agent = LibraryAgent(
        make_task(interface="strategy"),
        "recurrent_ppo",
        {"total_timesteps": 8, "n_envs": 2, "n_steps": 2, "batch_size": 2},
        0,
    )
    curve = []
    agent.learn(lambda turns, reward: curve.append(reward), lambda: None)
    assert agent.turns >= 8
    assert agent.network is None


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("a2c", {"lerning_rate": 1}, r"`agent.lerning_rate` is not a setting of A2C: did you mean `learning_rate`"),
        ("dqn", {"n_envs": 0}, "`agent.n_envs` must be a whole number of at least 1, not 0"),
        ("a2c", {"n_steps": "many"}, "`agent` was refused"),
    ],
)
def test_bad_settings_are_named(make_task, name, settings, message):
    with pytest.raises(ConfigError, match=message):
        LibraryAgent(make_task(interface="strategy"), name, {"total_timesteps": 8, "n_envs": 2, **settings}, 0)


def test_dqn_needs_one_discrete_choice(make_task):
    with pytest.raises(ConfigError, match="`agent` was refused"):
        LibraryAgent(make_task(interface="decode"), "dqn", {"total_timesteps": 8, "n_envs": 2}, 0)


class TestMasks:
    """An empty candidate is never sent where there is another."""

    @pytest.fixture
    def env(self, server, make_task):
        answers = iter(["", "Four words are here.", "", ""] * 40)
        server.answer = lambda body: next(answers)
        return DialogueEnv(make_task(interface="select"))

    def test_the_environment_tells(self, env):
        env.reset(seed=0)
        assert env.action_masks().sum() == 1

    def test_a_policy_heeds_it(self, env):
        from duologue.agents.policies import CandidatePolicy

        observation, _ = env.reset(seed=0)
        network = CandidatePolicy(
            env.observation_space, env.action_space, lambda _: 0.0
        )  # uniform: the first wins ties
        assert TorchPolicy(network, env.task.interface.mask).act(observation) == np.flatnonzero(env.action_masks())[0]

    def test_all_or_none_empty_is_no_mask(self, server, make_task):
        server.answer = lambda body: ""
        env = DialogueEnv(make_task(interface="select"))
        env.reset(seed=0)
        assert env.action_masks().all()

    def test_several_choices_have_one_entry_each(self, make_task):
        env = DialogueEnv(make_task(interface="decode"))
        env.reset(seed=0)
        assert env.action_masks().shape == (sum(env.action_space.nvec),)


@pytest.mark.parametrize(
    "agent", [{"name": "linucb"}, {"name": "maskable_ppo", "n_steps": 2, "batch_size": 4}], ids=str
)
def test_an_api_that_lacks_what_the_interface_requires_is_asked_once(server, configured, tmp_path, agent):
    server.logprobs = False
    config = configured("train") | {"agent": {**SMALL, **agent}}
    with pytest.raises(EndpointRefused, match="interface.logprobs=false"):
        train(config, tmp_path / "run")
    assert len(server.requests) == 1


def test_without_a_bundle_the_curve_is_kept_and_what_needs_one_is_refused_before_it_is_paid(
    configured, server, tmp_path, capsys
):
    agent = {"name": "recurrent_ppo", "total_timesteps": 8, "n_envs": 2, "n_steps": 2, "batch_size": 2}
    for command in (train_and_evaluate, bench):
        name = {"train_and_evaluate": "run", "bench": "bench"}[command.__name__]
        with pytest.raises(ConfigError, match="`agent=recurrent_ppo` leaves no bundle"):
            command(configured("run") | {"interface": {"name": "strategy"}, "agent": agent}, tmp_path / name)
    assert server.requests == []
    train(configured("train") | {"interface": {"name": "strategy"}, "agent": agent}, tmp_path / "train")
    summary = json.loads((tmp_path / "train" / "summary.json").read_text())
    assert (summary["status"], "bundle" in summary) == ("done", False)
    assert (tmp_path / "train" / "progress.csv").exists()
    assert "there is no bundle" in capsys.readouterr().out


def test_an_agent_without_rollouts_is_planned(configured, server, tmp_path):
    agent = {"name": "dqn", **SMALL, **AGENTS["dqn"]}
    assert plan(configured("plan") | {"interface": {"name": "strategy"}, "agent": agent}, tmp_path)["requests"] > 0


@pytest.mark.parametrize(("steps", "warned"), [(3, True), (8, True), (9, False)])
def test_a_training_of_one_rollout_says_what_its_figures_cannot_show(configured, capsys, steps, warned):
    warn_of_one_rollout(configured("train"), steps)
    assert ("one rollout of about 8 turns" in capsys.readouterr().out) is warned


def test_options_of_a_vec_env_choose_the_scenario_and_others_are_refused(make_task):
    env = DialogueVecEnv(2, make_task(interface="plain"))
    env.seed(3)
    env.set_options({"scenario": "one-4"})
    env.reset()
    *_, infos = env.step(np.zeros(2, int))
    assert [info["scenario"] for info in infos] == ["one-4", "one-4"]
    env.set_options({"level": 3})
    with pytest.raises(ConfigError, match="`level` is no option of a reset"):
        env.reset()
