"""Bandits: the regressions by hand, and a task that they can solve."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from duologue.agents.bandits import Bandit, BanditSettings, discounted
from duologue.agents.policies import LinearPolicy
from duologue.envs import Task
from duologue.envs.games import make_game
from duologue.inference import ConfigError, Endpoint, InferenceClient


def policy(**boxes):
    space = {"message": (2,), "history": (2,), "scalars": (1,), **boxes}
    boxed = spaces.Dict({name: spaces.Box(-1, 1, shape, np.float32) for name, shape in space.items()})
    return LinearPolicy(boxed, spaces.Discrete(3), lambda _: 0.0, ridge=0.5)


def seen(**rows):
    return {name: th.tensor(values, dtype=th.float32) for name, values in rows.items()}


def test_every_action_has_a_ridge_regression_of_its_own():
    network = policy()
    rows = np.array(
        [[1, 0.5, -0.5, 0.2], [1, 0.1, 0.3, -0.4], [1, -0.7, 0.2, 0.6], [1, 0.0, 0.9, 0.1]]
    )  # 1, message, scalars
    returns = np.array([1.0, -0.5, 2.0, 0.3])
    observation = seen(message=rows[:, 1:3], scalars=rows[:, 3:], history=rows[:, 1:3])
    network.observe(observation, th.tensor([0, 2, 0, 2]), th.from_numpy(returns))
    means, spread = network.expected(observation)
    for arm, chosen in ((0, [0, 2]), (2, [1, 3])):
        x, y = rows[chosen], returns[chosen]
        moments = x.T @ x + 0.5 * np.eye(4)
        np.testing.assert_allclose(means[:, arm], rows @ np.linalg.solve(moments, x.T @ y), atol=1e-6)
        np.testing.assert_allclose(spread[:, arm] ** 2, np.diag(rows @ np.linalg.inv(moments) @ rows.T), atol=1e-6)
    np.testing.assert_allclose(means[:, 1], 0)  # never tried: nothing expected, and the widest doubt
    assert (spread[:, 1] >= spread[:, 0]).all()


def test_candidates_share_one_regression_and_reordering_them_reorders_what_is_expected():
    network = policy(candidates=(3, 2))
    candidates = np.array([[[0.1, 0.2], [0.5, -0.2], [0.0, 0.9]]])
    both = [seen(message=[[0, 0]], scalars=[[0]], candidates=c) for c in (candidates, candidates[:, ::-1].copy())]
    network.observe(both[0], th.tensor([1]), th.tensor([2.0], dtype=th.float64))
    first, again = (network.expected(observation)[0].numpy() for observation in both)
    np.testing.assert_allclose(first[:, ::-1], again)
    assert first.argmax() == 1


def test_the_return_of_a_turn_is_what_comes_from_it_on():
    np.testing.assert_allclose(discounted(np.array([1.0, 0.0, 2.0]), 0.5), [1.5, 1.0, 2.0])
    np.testing.assert_allclose(discounted(np.array([1.0, 0.0, 2.0]), 0.0), [1.0, 0.0, 2.0])


@pytest.fixture
def forms():
    """The game `forms`, whose scripted model is a server on this machine."""
    client = InferenceClient()
    game = make_game("forms")
    endpoint = Endpoint("embedded://forms", "rules", api_key_env=None)
    yield Task.build(
        client=client,
        endpoints={"assistant": endpoint},
        interface={"name": "strategy", "directives": list(game.directives)},
        encoder={"name": "hashing", "dim": 64},
        judges={"form": {"name": "form"}},
        scenarios="forms",
        user={"name": "rule", "game": "forms"},
    )
    client.close()


@pytest.mark.parametrize("rule", ["linucb", "thompson"])
def test_it_learns_which_directive_a_request_wants(forms, rule):
    bandit = Bandit(forms, BanditSettings(total_timesteps=2500), rule, seed=0)
    curve = []
    bandit.learn(lambda turns, reward: curve.append((turns, reward)), lambda: None)
    assert bandit.turns == curve[-1][0] >= 2500
    assert curve[0][1] < 0.3  # one in eight by chance, and a third for the best constant
    assert curve[-1][1] > 0.8


def test_a_draw_has_the_covariance_of_one_parameter_vector():
    """Candidates share their parameters: those with equal features always get equal returns."""
    space = spaces.Dict({"candidates": spaces.Box(-5, 5, (4, 3), np.float32)})
    policy = LinearPolicy(space, spaces.Discrete(4), lambda _: 0.0, ridge=0.5)
    table = th.tensor([[[1.0, 0.0, 2.0], [1.0, 0.0, 2.0], [0.0, -1.0, 0.5], [3.0, 1.0, -1.0]]])
    policy.observe({"candidates": table}, th.tensor([3]), th.tensor([1.0]))
    many = {"candidates": table.expand(20_000, -1, -1)}
    normal = th.randn(20_000, 4, dtype=th.float64, generator=th.Generator().manual_seed(0))
    means, spread = policy.expected(many)
    drawn = policy.drawn(many, normal, 2.0)
    assert th.allclose(drawn[:, 0], drawn[:, 1])
    assert th.allclose(drawn.mean(0), means[0], atol=0.05)
    assert th.allclose(drawn.std(0), 2 * spread[0], rtol=0.05)
    rows = policy.features({"candidates": table})[0]
    assert th.allclose(th.cov(drawn.T), 4 * rows @ policy.inverse[0] @ rows.T, rtol=0.05, atol=0.3)


def test_equal_seeds_learn_equal_weights(forms):
    learnt = []
    for _ in range(2):
        bandit = Bandit(forms, BanditSettings(total_timesteps=300), "thompson", seed=3)
        bandit.learn(lambda turns, reward: None, lambda: None)
        learnt.append(bandit.policy.weights)
    assert th.equal(*learnt)


def test_several_choices_at_once_are_refused(server, make_task):
    with pytest.raises(ConfigError, match=r"`agent.name=linucb` needs one discrete choice"):
        Bandit(make_task(interface="decode"), BanditSettings(total_timesteps=10), "linucb", 0)
