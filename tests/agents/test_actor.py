"""What is chosen for one dialogue does not depend on the others that happen to be ready."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from duologue.agents import CandidatePolicy
from duologue.agents.actor import ROWS, Actor, draw
from duologue.agents.policies import NETWORKS
from duologue.envs.observation import Observer


@pytest.fixture(params=["strategy", "select"])
def network(request, make_task):
    task = make_task(interface=request.param, encoder={"name": "hashing", "dim": 256})
    th.manual_seed(0)
    kind = CandidatePolicy if request.param == "select" else NETWORKS["multi_input"]
    network = kind(Observer(task.encoder, task.interface).space, task.interface.action_space, lambda _: 0.0)
    for parameter in network.parameters():  # not the uniform policy that it starts as
        th.nn.init.normal_(parameter, std=0.3)
    return network


def observations(network, count, seed=0):
    rng = np.random.default_rng(seed)
    boxes = network.observation_space
    return [
        {name: rng.normal(size=box.shape).astype(np.float32).clip(box.low, box.high) for name, box in boxes.items()}
        for _ in range(count)
    ]


def test_a_rows_probabilities_are_the_same_bits_wherever_it_stands_and_whoever_stands_beside_it(network):
    actor = Actor(network)
    rows = observations(network, ROWS)
    (alone,) = zip(*(actor.log_probabilities([row])[0] for row in rows), strict=True)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(ROWS)
        (together,) = actor.log_probabilities([rows[i] for i in order])
        for place, i in enumerate(order):
            assert (together[place] == alone[i]).all()


@pytest.mark.parametrize("count", [1, ROWS, ROWS + 1, 3 * ROWS - 5])
def test_actions_and_their_log_probabilities_are_those_of_the_network(network, count):
    rows = observations(network, count, seed=1)
    noise = np.random.default_rng(2).random((count, 1))
    actions, log_probs = Actor(network).act(rows, noise)
    batch = {name: th.as_tensor(np.stack([row[name] for row in rows])) for name in rows[0]}
    with th.no_grad():
        distribution = network.get_distribution(batch)
        expected = distribution.log_prob(th.as_tensor(np.array(actions)))
        cumulative = distribution.distribution.probs.double().cumsum(-1).numpy()
    np.testing.assert_allclose(log_probs, expected, atol=1e-5)
    for action, row, u in zip(actions, cumulative, noise[:, 0], strict=True):
        assert (row[action - 1] if action else 0) <= u + 1e-6
        assert u - 1e-6 <= row[action]


def test_drawing_by_hand():
    log_probs = np.log([[0.2, 0.3, 0.5]] * 5)
    assert draw(log_probs, np.array([0.0, 0.19, 0.21, 0.51, 0.999])).tolist() == [0, 0, 1, 2, 2]


def test_a_probability_of_zero_is_never_drawn():
    with np.errstate(divide="ignore"):
        log_probs = np.log([[0.0, 0.5, 0.5, 0.0]] * 3)
    assert draw(log_probs, np.array([0.0, 0.6, 1 - 1e-16])).tolist() == [1, 2, 2]


def test_several_choices_in_one_action(make_task):
    space = spaces.Dict({"message": spaces.Box(-1, 1, (8,), np.float32)})
    network = NETWORKS["multi_input"](space, spaces.MultiDiscrete([3, 4]), lambda _: 0.0)
    rows = observations(network, 6)
    actions, log_probs = Actor(network).act(rows, np.random.default_rng(0).random((6, 2)))
    assert np.array(actions).shape == (6, 2)
    batch = {"message": th.as_tensor(np.stack([row["message"] for row in rows]))}
    with th.no_grad():
        expected = network.get_distribution(batch).log_prob(th.as_tensor(np.array(actions)))
    np.testing.assert_allclose(log_probs, expected, atol=1e-5)
