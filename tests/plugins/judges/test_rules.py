import asyncio
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.plugins import Turn
from duologue.plugins.judges.rules import BANNED, RulesJudge, repetition


def score(reply: str, finish_reason: str = "stop", **settings):
    turn = replace(Turn((), reply), finish_reason=finish_reason)
    (verdict,) = asyncio.run(RulesJudge(**settings).score([turn]))
    return verdict


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("one two", 0.0),  # no trigram
        ("one two three", 0.0),
        ("a b c d e", 0.0),
        ("a b c a b c", 0.25),  # abc bca cab abc: one of four was there before
        ("a a a a a", 2 / 3),  # three times aaa
        ("A, b! C? a b c", 0.25),  # neither case nor punctuation counts
        ("go on " * 50, 1 - 2 / 98),  # 100 words, 98 trigrams, 2 different ones
    ],
)
def test_repetition_is_the_share_of_trigrams_that_were_there_before(text, share):
    assert repetition(text) == pytest.approx(share)


def test_repetition_of_other_lengths():
    assert repetition("a b a b", n=2) == pytest.approx(1 / 3)  # ab ba ab
    assert repetition("a a a", n=1) == pytest.approx(2 / 3)


@given(st.text())
def test_repetition_is_a_share(text):
    assert 0 <= repetition(text) < 1


def test_a_good_reply_has_all_four_components():
    verdict = score("It rains because the air cools.")
    assert verdict.value == 1.0
    assert verdict.components == {"repetition": 1.0, "finished": 1.0, "banned": 1.0, "format": 1.0}


def test_the_score_is_the_mean_of_the_components():
    # repetition 1 - 0.25, not finished, banned, the format matches: (0.75 + 0 + 0 + 1) / 4
    verdict = score("a b c a b c", banned=["b"], format="[a-c ]+")
    assert verdict.components == {"repetition": 0.75, "finished": 0.0, "banned": 0.0, "format": 1.0}
    assert verdict.value == pytest.approx(0.4375)


@pytest.mark.parametrize(
    "reply", ["Yes.", "Yes!", "Why?", "Well\u2026", 'He said "yes."', "(Yes.)", "**Yes.**", "Yes.  \n"]
)
def test_a_reply_that_ends_a_sentence_is_finished(reply):
    assert score(reply).components["finished"] == 1.0


@pytest.mark.parametrize("reply", ["Yes", "Yes,", "Yes. And", "One: two;", "The 3.5"])
def test_a_reply_that_does_not_end_a_sentence_is_not_finished(reply):
    assert score(reply).components["finished"] == 0.0


def test_a_reply_that_was_cut_is_not_finished_whatever_it_ends_with():
    assert score("Yes.", finish_reason="length").components["finished"] == 0.0


@pytest.mark.parametrize("reply", ["", "   ", "\n\t"])
def test_an_empty_reply_scores_zero(reply):
    assert score(reply).value == 0.0


@pytest.mark.parametrize(
    "reply", ["As an AI, I think so.", "I'm sorry, but I can't do that.", "Well, I am sorry, but I cannot."]
)
def test_the_settings_own_patterns_ban_refusals(reply):
    assert score(reply, banned=BANNED).components["banned"] == 0.0


def test_the_settings_own_patterns_let_other_replies_pass():
    assert score("I am sorry to hear that. Asia is large.", banned=BANNED).components["banned"] == 1.0


@pytest.mark.parametrize(("reply", "value"), [("42", 1.0), ("4\n2", 1.0), ("42 apples", 0.0), ("It is 42", 0.0)])
def test_the_format_must_match_the_whole_reply(reply, value):
    assert score(reply, format=r"\d.?\d").components["format"] == value


@pytest.mark.parametrize("settings", [{"banned": ["ok", "("]}, {"format": "("}])
def test_a_pattern_that_is_no_regular_expression_is_quoted(settings):
    with pytest.raises(ValueError, match=re.escape("'(' is no regular expression: missing ), unterminated")):
        RulesJudge(**settings)


@given(st.text(), st.sampled_from(["stop", "length"]))
def test_every_reply_scores_within_the_unit_interval(reply, finish_reason):
    assert 0 <= score(reply, finish_reason, banned=["a"], format="x").value <= 1


def test_a_batch_is_scored_in_order():
    verdicts = asyncio.run(RulesJudge().score([Turn((), "Yes."), Turn((), ""), Turn((), "Yes")]))
    assert [verdict.value for verdict in verdicts] == [1.0, 0.0, 0.75]
