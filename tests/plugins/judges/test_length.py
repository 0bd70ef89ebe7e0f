import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.plugins import Turn
from duologue.plugins.judges.length import LengthJudge


def score(words: int, **settings):
    (verdict,) = asyncio.run(LengthJudge(**settings).score([Turn((), "word " * words)]))
    return verdict


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (0, 0.0),
        (1, 0.25),
        (3, 0.75),
        (4, 1.0),
        (7, 1.0),
        (10, 1.0),
        (11, 0.9),
        (15, 0.5),
        (20, 0.0),
        (21, 0.0),
        (99, 0.0),
    ],
)
def test_the_band_of_four_to_ten_words_and_its_edges(words, value):
    verdict = score(words, low=4, high=10)
    assert verdict.value == pytest.approx(value)
    assert verdict.components == {"words": words}


def test_the_default_band_is_eight_to_forty_words():
    assert [score(words).value for words in (4, 8, 40, 60, 80)] == pytest.approx([0.5, 1, 1, 0.5, 0])


def test_a_band_of_one_length_only():
    assert [score(words, low=2, high=2).value for words in (1, 2, 3, 4)] == pytest.approx([0.5, 1, 0.5, 0])


def test_words_are_what_white_space_separates():
    (verdict,) = asyncio.run(LengthJudge(1, 9).score([Turn((), " well-known\n\n it's\tso ")]))
    assert verdict.components == {"words": 3}


@given(st.integers(0, 200), st.integers(1, 50), st.integers(0, 50))
def test_every_length_scores_within_the_unit_interval_and_the_band_scores_one(words, low, width):
    value = score(words, low=low, high=low + width).value
    assert 0 <= value <= 1
    assert (value == 1) == (low <= words <= low + width)


@pytest.mark.parametrize(("low", "high"), [(0, 5), (-1, 5), (6, 5)])
def test_an_impossible_band_is_refused(low, high):
    with pytest.raises(ValueError, match=f"1 <= low <= high, not {low} and {high}"):
        LengthJudge(low, high)
