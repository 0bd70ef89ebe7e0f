"""The baselines that a trained policy must beat."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from duologue.envs import ConstantPolicy, RandomPolicy, make_interface
from duologue.envs.interfaces import Plain
from duologue.envs.policies import constant_policies

SPACES = [spaces.Discrete(4), spaces.MultiDiscrete([2, 3, 5])]
keys = st.tuples(*[st.integers(0, 2**32)] * 4)


@pytest.mark.parametrize("space", SPACES, ids=str)
@given(key=keys)
def test_a_random_action_is_in_the_space_and_the_same_for_the_same_key(space, key):
    action = RandomPolicy(space).act({}, key)
    assert space.contains(action)
    assert np.array_equal(action, RandomPolicy(space).act({"message": np.ones(3, np.float32)}, key))


def test_random_actions_are_uniform_over_the_keys():
    counts = np.bincount([RandomPolicy(spaces.Discrete(4)).act({}, (0, s, r, 0)) for s in range(50) for r in range(40)])
    assert counts.sum() == 2000
    assert np.abs(counts - 500).max() < 80  # 4 standard deviations; the outcome is fixed


def test_random_actions_differ_by_seed_scenario_repeat_and_turn():
    policy = RandomPolicy(spaces.Discrete(2**30))
    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    assert len({int(policy.act({}, key)) for key in keys}) == 5


def test_a_constant_policy_ignores_what_it_sees():
    policy = ConstantPolicy(3)
    assert policy.act({}, (1, 2)) == policy.act({"message": np.ones(3, np.float32)}, (3, 4)) == 3


def test_every_constant_policy_is_listed_by_its_action_in_words():
    policies = constant_policies(make_interface({"name": "strategy", "directives": ["", "Be brief.", "Be kind."]}))
    assert {name: policy.action for name, policy in policies.items()} == {
        "no directive": 0,
        "Be brief.": 1,
        "Be kind.": 2,
    }


@pytest.mark.parametrize("name", ["select", "propose_select"])
def test_samples_of_one_request_have_one_constant_policy(name):
    assert list(constant_policies(make_interface({"name": name, "n": 3}))) == ["plain sample"]


def test_there_is_no_list_of_constants_for_a_space_that_is_not_discrete():
    interface = Plain()
    interface.action_space = spaces.Box(0, 1)
    assert constant_policies(interface) == {}
