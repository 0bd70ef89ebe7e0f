"""`text`: whoever acts writes the turn, and the assistant's endpoint is not asked."""

import json
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import duologue.envs  # noqa: F401  (registers the environment)
from duologue.agents import DialogueVecEnv
from duologue.agents.agent import build_agent
from duologue.envs import DialogueEnv, make_interface
from duologue.envs.vector import DialogueVectorEnv
from duologue.inference import Completion, ConfigError
from duologue.plugins import Reward, Score


class Longer:
    """Scores a reply by its words."""

    async def score(self, batch):
        return [Score(float(len(turn.reply.split()))) for turn in batch]

    async def aclose(self):
        pass


def test_what_is_written_is_the_turn_and_is_judged(server, make_task, scenarios):
    env = DialogueEnv(make_task(interface="text", reward=Reward({"longer": Longer()}), scenarios=scenarios[-1:]))
    _, info = env.reset(seed=0)
    assert [m["content"] for m in info["messages"]] == [env.task.system, "Hello 1."]
    rewards = []
    for text in ("Good day.", "Très bien - 你好!", ""):
        _, reward, terminated, _, info = env.step(text)
        rewards.append(reward)
        assert (info["reply"], info["action"]) == (text, "written")
    assert rewards == [2, 4, 0]
    assert terminated
    said = [m["content"] for m in info["messages"] if m["role"] == "user"]
    assert said == ["Hello 1.", "Go on.", "And then?"]
    assert server.requests == []


def test_a_completion_says_that_it_was_cut(make_task):
    env = DialogueEnv(make_task(interface="text"))
    env.reset(seed=0)
    *_, info = env.step(Completion("It is the", finish_reason="length"))
    assert (info["reply"], info["finish_reason"]) == ("It is the", "length")


@pytest.mark.parametrize("action", [3, None, "x" * 21])
def test_what_is_no_text_or_too_long_is_refused(make_task, action):
    env = DialogueEnv(make_task(interface={"name": "text", "max_length": 20}))
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="must be a text of at most 20 characters, not"):
        env.step(action)


def test_the_space_is_gymnasiums_and_the_environment_passes_its_checker(make_task):
    env = gymnasium.make("duologue/Dialogue-v0", task=make_task(interface={"name": "text", "max_length": 300}))
    assert isinstance(env.action_space, gymnasium.spaces.Text)
    assert "Ça va - 好" in env.action_space
    assert "x" * 301 not in env.action_space
    assert env.action_space.sample() in env.action_space
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not within the observation space|.*render")
        check_env(env.unwrapped, skip_render_check=True)


def test_several_dialogues_at_once(make_task):
    env = DialogueVectorEnv(2, make_task(interface="text", reward=Reward({"longer": Longer()})))
    env.reset(seed=0)
    _, rewards, *_ = env.step(("One.", "One and two."))
    np.testing.assert_array_equal(rewards, [1, 3])


def test_settings_build_the_same_interface():
    made = make_interface({"name": "text", "max_length": 500})
    assert make_interface(json.loads(json.dumps(made.settings))).settings == made.settings
    with pytest.raises(ConfigError, match="`max_length` must be at least 1"):
        make_interface({"name": "text", "max_length": 0})


def test_stable_baselines3_is_told_that_it_cannot(configured, make_task):
    with pytest.raises(ConfigError, match=r"no agent of Stable-Baselines3 writes texts.*`agent=grpo`"):
        DialogueVecEnv(2, make_task(interface="text"))
    with pytest.raises(ConfigError, match="no agent of Stable-Baselines3 writes texts"):
        build_agent(configured("train"), make_task(interface="text"))
