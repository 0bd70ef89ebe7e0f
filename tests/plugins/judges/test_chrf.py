import asyncio
import sys

import pytest

from duologue.core.errors import ConfigError
from duologue.plugins import Abstain, Turn
from duologue.plugins.judges.chrf import ChrfJudge

sacrebleu = pytest.importorskip("sacrebleu")

PAIRS = [
    ("The cat sat on the mat.", "The cat is on the mat."),
    ("Rain falls because air cools.", "It rains when moist air rises and cools."),
    ("Ja, natürlich!", "Ja, natürlich."),
    ("x", "A long reference that shares nothing"),
    ("", "Something."),
]


def score(reply: str, reference: str | None, **settings):
    (verdict,) = asyncio.run(ChrfJudge(**settings).score([Turn((), reply, reference)]))
    return verdict


@pytest.mark.parametrize(("reply", "reference"), PAIRS)
@pytest.mark.parametrize("settings", [{}, {"word_order": 2}, {"beta": 1}])
def test_the_score_is_a_hundredth_of_sacrebleus_own(reply, reference, settings):
    own = sacrebleu.sentence_chrf(reply, [reference], **settings).score
    assert score(reply, reference, **settings).value == pytest.approx(own / 100, abs=1e-12)


def test_by_hand():
    """ "abc" against "abd": the unigrams share 2 of 3, the bigrams 1 of 2, the trigrams none.

    Precision and recall are both (2/3 + 1/2 + 0) / 3 = 7/18, and so is their mean, whatever beta.
    """
    assert score("abc", "abd").value == pytest.approx(7 / 18)
    assert score("abc", "abd", beta=1).value == pytest.approx(7 / 18)


def test_a_perfect_reply_scores_one_and_a_foreign_one_zero():
    assert score("The cat sat.", "The cat sat.").value == pytest.approx(1.0)
    assert score("xyz", "The cat sat.").value == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("reference", [None, ""])
def test_it_abstains_where_there_is_no_reference(reference):
    assert score("Yes.", reference) == Abstain("the scenario has no reference")


def test_a_batch_is_scored_in_order():
    turns = [Turn((), "a b c", "a b c"), Turn((), "a"), Turn((), "x y z", "a b c")]
    same, none, other = asyncio.run(ChrfJudge().score(turns))
    assert same.value == pytest.approx(1.0)
    assert isinstance(none, Abstain)
    assert other.value < 0.1


def test_without_sacrebleu_the_cure_is_named(monkeypatch):
    for module in [name for name in sys.modules if name.partition(".")[0] == "sacrebleu"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ConfigError, match=r"needs sacrebleu: run `pip install 'duologue\[local\]'`"):
        ChrfJudge()
