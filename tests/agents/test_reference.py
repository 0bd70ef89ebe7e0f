"""Held near a reference policy: the divergence by hand, and what it does to learning."""

import math

import numpy as np
import pytest
import torch as th

from duologue.agents import DialoguePPO, DialogueVecEnv
from duologue.inference import ConfigError


@pytest.fixture
def agent(server, make_task):
    def make(**options):
        task = make_task(interface="strategy", judges={"length": {"name": "length", "low": 1, "high": 2}})
        return DialoguePPO("MultiInputPolicy", DialogueVecEnv(4, task), n_steps=4, batch_size=8, seed=0, **options)

    return make


def test_the_divergence_is_that_of_the_two_distributions(agent):
    made = agent(kl_coef=0.5)
    bias = made.policy.action_net.bias
    with th.no_grad():
        made.policy.action_net.weight.zero_()
        made.reference._policy.action_net.weight.zero_()
        bias.copy_(th.log(th.tensor([0.3] + [0.1] * 7)))
        made.reference._policy.action_net.bias.copy_(th.zeros(8))
    observation = {name: th.zeros(2, *box.shape) for name, box in made.observation_space.items()}
    expected = 0.3 * math.log(0.3 / 0.125) + 0.7 * math.log(0.1 / 0.125)
    divergence = made.reference.divergence(made.policy, observation).detach()
    np.testing.assert_allclose(divergence, [expected] * 2, rtol=1e-5)


def test_before_it_learns_it_costs_nothing(agent):
    made = agent(kl_coef=0.5)
    observation = {name: th.rand(3, *box.shape) for name, box in made.observation_space.items()}
    np.testing.assert_allclose(made.reference.divergence(made.policy, observation).detach(), 0, atol=1e-6)


def test_the_dearer_the_nearer(server, agent):
    server.answer = lambda body: (
        "Short now." if "plain sentence" in body["messages"][0]["content"] else "This is a long answer."
    )
    spread = []
    for kl_coef in (0.001, 3.0):
        made = agent(kl_coef=kl_coef, learning_rate=0.01)
        made.learn(256)
        observation = {name: th.zeros(1, *box.shape) for name, box in made.observation_space.items()}
        spread.append(made.reference.divergence(made.policy, observation).item())
    assert spread[0] > 3 * spread[1]


def test_bad_settings_are_named(agent, tmp_path):
    with pytest.raises(ConfigError, match="`kl_coef` must be at least 0, not -1"):
        agent(kl_coef=-1)
    with pytest.raises(ConfigError, match="is no bundle"):
        agent(kl_coef=1.0, kl_reference=str(tmp_path))
    assert agent(kl_reference=str(tmp_path)).reference is None  # not read where it costs nothing


def test_without_divergence_the_update_is_that_of_ppo(server, agent):
    """A coefficient too small for any bit leaves Stable-Baselines3's own update, entropy included."""
    learnt = []
    for options in ({}, {"kl_coef": 1e-30}):
        made = agent(ent_coef=0.05, **options)
        made.learn(64)
        learnt.append(made.policy.state_dict())
    for name, values in learnt[0].items():
        np.testing.assert_allclose(values, learnt[1][name], atol=1e-6)
