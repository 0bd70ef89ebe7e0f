"""Which scenario an episode plays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.envs import Curriculum, Scenario
from duologue.inference import ConfigError


def numbered(n: int) -> list[Scenario]:
    return [Scenario(str(i), "train", (f"Question {i}?",)) for i in range(n)]


def order(curriculum: Curriculum, seed: int, count: int) -> list[str]:
    return [curriculum.episode(seed, number).scenario.id for number in range(count)]


@given(st.integers(1, 12), st.integers(0, 2**40), st.integers(0, 50))
def test_every_epoch_plays_each_scenario_once(n, seed, epoch):
    curriculum = Curriculum(numbered(n))
    played = [curriculum.episode(seed, epoch * n + place).scenario.id for place in range(n)]
    assert sorted(played) == sorted(s.id for s in numbered(n))


@given(st.integers(1, 12), st.integers(0, 2**32), st.lists(st.integers(0, 200), min_size=1, max_size=20))
def test_an_episode_depends_on_seed_and_number_only(n, seed, numbers):
    shared = Curriculum(numbered(n), draws=3)
    for number in numbers:  # whatever was asked before
        assert shared.episode(seed, number) == Curriculum(numbered(n), draws=3).episode(seed, number)
        assert shared.episode(seed, number).number == number


def test_epochs_and_seeds_have_orders_of_their_own():
    curriculum = Curriculum(numbered(8))
    orders = {tuple(order(curriculum, seed, 8)) for seed in range(20)}
    orders |= {tuple(order(curriculum, 0, 8 * 20)[8 * epoch : 8 * epoch + 8]) for epoch in range(1, 20)}
    assert len(orders) == 39  # of 40320; a clash by chance has a probability of 2%, and the outcome is fixed


@pytest.mark.parametrize(
    ("draws", "expected"), [(1, [0, 0, 0, 0, 0]), (2, [0, 1, 0, 1, 0]), (3, [0, 1, 2, 0, 1]), (None, [0, 1, 2, 3, 4])]
)
def test_draws_cycle_with_the_epochs(draws, expected):
    curriculum = Curriculum(numbered(3), draws)
    found = [[curriculum.episode(7, 3 * epoch + place).draw for place in range(3)] for epoch in range(5)]
    assert found == [[draw] * 3 for draw in expected]


def test_fewer_than_one_draw_is_refused():
    with pytest.raises(ConfigError, match=r"`env\.draws` must be at least 1, or null, not 0"):
        Curriculum(numbered(1), 0)
