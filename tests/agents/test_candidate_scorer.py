import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from duologue.agents import CandidatePolicy


@pytest.fixture
def space():
    return spaces.Dict(
        {
            "message": spaces.Box(-1, 1, (6,), np.float32),
            "history": spaces.Box(-1, 1, (6,), np.float32),
            "scalars": spaces.Box(0, 1, (3,), np.float32),
            "candidates": spaces.Box(-5, 5, (4, 9), np.float32),
            "candidate_embeddings": spaces.Box(-1, 1, (4, 6), np.float32),
        }
    )


def network(space, **arguments):
    th.manual_seed(0)
    made = CandidatePolicy(space, spaces.Discrete(4), lambda _: 0.01, **arguments)
    with th.no_grad():
        for parameter in made.scorer.parameters():
            parameter.normal_()  # it starts uniform, where equivariance would be no news
    return made


def observation(space, batch=5):
    rng = np.random.default_rng(0)
    return {name: th.tensor(rng.uniform(-1, 1, (batch, *box.shape)), dtype=th.float32) for name, box in space.items()}


@pytest.mark.parametrize("arguments", [{}, {"hidden": (8,)}, {"hidden": (8, 8), "embeddings": True}], ids=str)
def test_reordering_candidates_reorders_probabilities_and_keeps_the_value(space, arguments):
    policy, seen = network(space, **arguments), observation(space)
    order = [2, 0, 3, 1]
    moved = seen | {name: seen[name][:, order] for name in ("candidates", "candidate_embeddings")}
    before, after = (policy.get_distribution(o).distribution.probs for o in (seen, moved))
    assert th.allclose(before[:, order], after, atol=1e-6)
    assert th.allclose(policy.predict_values(seen), policy.predict_values(moved), atol=1e-5)


def test_a_constant_added_to_every_candidate_changes_no_probability(space):
    policy, seen = network(space), observation(space)
    moved = seen | {"candidates": seen["candidates"] + 0.7}
    before, after = (policy.get_distribution(o).distribution.probs for o in (seen, moved))
    assert th.allclose(before, after, atol=1e-5)


def test_it_starts_as_the_uniform_policy(space):
    policy = CandidatePolicy(space, spaces.Discrete(4), lambda _: 0.01, hidden=(8,))
    assert th.allclose(policy.get_distribution(observation(space)).distribution.probs, th.full((5, 4), 0.25))


def test_forward_evaluate_and_predict_agree(space):
    policy, seen = network(space), observation(space)
    actions, values, log_probs = policy(seen, deterministic=True)
    again, same, entropy = policy.evaluate_actions(seen, actions)
    assert th.allclose(values, again)
    assert th.allclose(log_probs, same)
    assert entropy.shape == (5,)
    predicted, _ = policy.predict({name: rows.numpy() for name, rows in seen.items()}, deterministic=True)
    assert predicted.tolist() == actions.tolist()
