"""The judge keeps its side of the bargain, and says what it should."""

from duologue.plugins.testing import check_judge, turn


def test_it_keeps_the_contract() -> None:
    check_judge("politeness")


def test_it_finds_the_words() -> None:
    kind, rude = check_judge("politeness", turns=[turn("Thank you!"), turn("Go away.")])
    assert (kind.value, rude.value) == (1.0, 0.0)


def test_the_words_can_be_set() -> None:
    assert check_judge("politeness", turns=[turn("Go away.")], words="go")[0].value == 1.0
