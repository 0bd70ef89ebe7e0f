import asyncio

import pytest

from duologue.plugins import Abstain, Score, Turn
from duologue.plugins.judges.reference import ReferenceJudge

REFERENCE = "Water boils at one hundred degrees."


def scores(encoder: str, *pairs: tuple[str, str | None]) -> list:
    return asyncio.run(ReferenceJudge(encoder).score([Turn((), reply, reference) for reply, reference in pairs]))


def test_by_hand_with_hashed_words():
    """ "ab" is the gram of the word, "<ab", and "ab>"; "ab" and "ab" share all, "ab" and "cd" none."""
    same, other = scores("hashing", ("ab", "AB!"), ("ab", "cd"))
    assert same.value == pytest.approx(1.0)
    assert abs(other.value) < 1e-6


def test_the_closer_reply_scores_higher():
    near, far, none = scores(
        "hashing",
        ("Water boils at a hundred degrees.", REFERENCE),
        ("Whales are mammals.", REFERENCE),
        ("", REFERENCE),
    )
    assert 1 > near.value > far.value
    assert none.value == 0.0


def test_it_abstains_where_there_is_no_reference_and_keeps_the_order():
    first, second, third, fourth = scores(
        "hashing", ("Yes.", None), (REFERENCE, REFERENCE), ("Yes.", ""), ("Whales sing.", REFERENCE)
    )
    assert first == third == Abstain("the scenario has no reference")
    assert second.value == pytest.approx(1.0)
    assert isinstance(fourth, Score)
    assert fourth.value < 0.5


def test_a_batch_without_any_reference_abstains():
    assert all(isinstance(verdict, Abstain) for verdict in scores("hashing", ("a", None), ("b", None)))


@pytest.mark.model
def test_minilm_prefers_the_same_meaning_in_other_words_to_the_same_words_with_another_meaning():
    meaning, words, far = scores(
        "minilm",
        ("At 100 °C, H2O turns into steam.", REFERENCE),
        ("One hundred degrees were awarded at the water college.", REFERENCE),
        ("My sister plays the violin.", REFERENCE),
    )
    assert 1 >= meaning.value > words.value > far.value >= -1
