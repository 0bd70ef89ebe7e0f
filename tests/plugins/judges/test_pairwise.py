"""Which reply is better: verdicts are read where they are certain, and weighed where their probabilities are known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.envs import Scenario
from duologue.evaluation.contestants import Answer
from duologue.evaluation.referee import Referee
from duologue.plugins import Failure, Preference, Turn
from duologue.plugins.judges.pairwise import PairwiseLLMJudge, read_choice

A, B, TIE = "first", "second", "tie"

REPLIES = {
    "Verdict: A": A,
    "Verdict: B": B,
    "Verdict: tie": TIE,
    "Verdict: Tie.": TIE,
    "Verdict: C": TIE,
    "Verdict: a tie": TIE,
    "Verdict: draw": TIE,
    "Both are right.\nVerdict: tie": TIE,
    "A names the city, B does not.\nVerdict: A": A,
    "**Verdict: B**": B,
    "**Verdict:** B": B,
    "Verdict: **B**": B,
    "Verdict: Reply B": B,
    "Verdict: Response A.": A,
    "Verdict = A": A,
    "Verdict: [A]": A,
    "Verdict: (A)": A,
    'Verdict: "A"': A,
    "Winner: B": B,
    "The winner is B.": B,
    "The winner is: Assistant B": B,
    "My preference: A": A,
    "Final answer: A": A,
    "[[A]]": A,
    "[[B]]": B,
    "[[C]]": TIE,
    "[[tie]]": TIE,
    "A is longer. B is right. [[B]]": B,
    '{"winner": "A"}': A,
    '{"reason": "B is wrong", "verdict": "A"}': A,
    '{"verdict": "tie"}': TIE,
    "A": A,
    "B": B,
    "b": B,
    "tie": TIE,
    "A tie": TIE,
    "C": TIE,
    "A.": A,
    "**A**": A,
    "Reply A": A,
    "Response B.": B,
    "Reply A is better.": A,
    "Response B is clearly better than Response A.": B,
    "I think that Assistant A is the winner.": A,
    "Reply B is slightly stronger.": B,
    "Verdict: A\nWait. Verdict: B": B,
    "<think>Verdict: A</think>Verdict: B": B,
    "<think>Verdict: A</think>\n\nB": B,
    # comparisons, in both directions
    "Verdict: A > B": A,
    "Verdict: B > A": B,
    "Verdict: A < B": B,
    "Verdict: A<B": B,
    "Verdict: A=B": TIE,
    "Verdict: A = B": TIE,
    "[[A>>B]]": A,
    "[[B>A]]": B,
    "[[A=B]]": TIE,
    "A=B": TIE,
    "A < B": B,
    "B << A": A,
    "Verdict: A is worse than B": B,
    "Verdict: A is better than B": A,
    "Verdict: A is slightly better than B.": A,
    "Reply A is worse than Reply B.": B,
    "Reply B is inferior to Reply A.": A,
    "Reply A is as good as Reply B.": TIE,
    "Verdict: \uff21": A,
    "The correct answer is C, so Reply A wins": A,
    "The right answer is C.\nVerdict: A": A,
    "Answer: B": B,
    "Verdict: A is better.": A,
    # denied, or no certain verdict
    "Verdict: A >= B": None,
    "Verdict: A != B": None,
    "Verdict: A = A": None,
    "Verdict: A \u2260 B": None,
    "Verdict: A is not better than B": None,
    "Verdict: A is worse": None,
    "Verdict: A loses": None,
    "Verdict: not A": None,
    "I would not say that Reply A is better.": None,
    "I can't claim Reply A is better.": None,
    "If brevity counts Reply A is better.": None,
    "Reply A isn't better.": None,
    "The correct answer is C.": None,
    "Verdict: A > B > A": None,
    "[[A>B]] or [[B>A]]": None,
    "": None,
    "Both have merits.": None,
    "Verdict: A or B": None,
    "Verdict: A, B": None,
    "Verdict: A/B": None,
    "Verdict: A+": None,
    "Verdict: neither": None,
    "Verdict: D": None,
    "`Verdict: A`, `Verdict: B` or `Verdict: tie`": None,
    "The answer is a good one.": None,
    "The answer is a bit long.": None,
    "Answer with A or B": None,
    "Reply A is not better.": None,
    "Reply A is worse.": None,
    "Reply A is better in style, Reply B is better in content.": None,
    "Reply A or Reply B": None,
    "A and B": None,
    "AB": None,
    "Apple": None,
    "Verdict: Apple": None,
    "1": None,
    "<think>Verdict: A": None,
    "I'm sorry, I can't compare them.": None,
}


@pytest.mark.parametrize(("text", "expected"), REPLIES.items())
def test_a_verdict_is_read_only_where_it_is_certain(text, expected):
    found = read_choice(text)
    assert (None if found is None else found.winner) == expected
    if found is not None:
        said = text[found.start : found.end].strip().lower()
        assert said in ("a", "b", "c", "tie", "a tie", "draw", "\uff41") or (found.compared and said[-1] in "ab")


@given(st.text())
def test_whatever_is_said_gives_a_verdict_or_none(text):
    found = read_choice(text)
    assert found is None or found.winner in (A, B, TIE)


def test_a_long_answer_is_read_in_linear_time():
    for part in ("<think>", "Verdict: ", "reply ", "[[", "**", "( "):
        assert read_choice(part * 20_000) is None


QUESTION = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"})


def compare(context, first, second, **settings):
    judge = PairwiseLLMJudge(context, **settings)
    pair = (Turn(QUESTION, first, "The reference."), Turn(QUESTION, second, "The reference."))
    return context.client.run(judge.compare([pair]))[0]


def test_the_judge_sees_the_dialogue_and_both_replies(server, context):
    server.answer = lambda body: "Because.\nVerdict: B"
    assert compare(context, "One {x}.", "Two.") == Preference("second", "Because.\nVerdict: B")
    asked = server.requests[0]["messages"][0]["content"]
    assert "[Reply A]\nOne {x}.\n\n[Reply B]\nTwo." in asked
    assert "user: Why?" in asked
    assert "Be brief." not in asked
    assert "The reference." not in asked


def test_the_probabilities_weigh_the_verdict(server, context, with_alternatives):
    server.answer = lambda body: with_alternatives("Verdict: ", ("A", {"A": 0.5, "B": 0.2, " tie": 0.2, "x": 0.1}))
    found = compare(context, "One.", "Two.")
    assert found.winner == "first"
    assert found.score == pytest.approx((0.5 + 0.1) / 0.9)


def test_a_comparison_has_no_probability_of_its_own(server, context, with_alternatives):
    """The first token of ``A < B`` names the loser: its probability is not the verdict's."""
    server.answer = lambda body: with_alternatives("Verdict: ", ("A", {"A": 0.9, "B": 0.1}), " < ", "B")
    found = compare(context, "One.", "Two.")
    assert (found.winner, found.score) == ("second", None)


def test_a_tie_may_begin_with_its_first_letters(server, context, with_alternatives):
    server.answer = lambda body: with_alternatives(("t", {"t": 0.6, "A": 0.4}), "ie")
    assert compare(context, "One.", "Two.").score == pytest.approx(0.3 + 0.4)


def test_a_rubric_and_a_prompt_of_ones_own(server, context):
    server.answer = lambda body: "A"
    compare(context, "One.", "Two.", prompt="{rubric}|{first}|{second}|{reference}|{question}", rubric="tutor")
    asked = server.requests[0]["messages"][0]["content"]
    assert asked.startswith("- leads: ")
    assert asked.endswith("|One.|Two.|The reference.|user: Why?")


def test_no_verdict_is_a_failure_after_a_second_question(server, context):
    server.answer = lambda body: "Both have merits."
    found = compare(context, "One.", "Two.")
    assert isinstance(found, Failure)
    assert "no verdict A, B or tie" in found.error
    assert len(server.requests) == 2


def answer(reply):
    return Answer(Scenario("s", "test", ("Why?",)), 0, (Turn(QUESTION, reply),), ())


def test_a_match_is_judged_in_both_orders_and_weighed(server, context, with_alternatives):
    """A judge that favours the first place: the two orders cancel out."""
    server.answer = lambda body: with_alternatives("Verdict: ", ("A", {"A": 0.8, "B": 0.2}))
    referee = Referee("pairwise", PairwiseLLMJudge(context))
    match = context.client.run(referee.decide(answer("One."), answer("Two.")))
    assert match.orders == pytest.approx((0.8, 0.2))
    assert match.score == pytest.approx(0.5)
    assert not match.consistent


def test_a_match_without_probabilities_counts_whole_points(server, context):
    def prefer_two(body):
        asked = body["messages"][0]["content"]
        return "Verdict: A" if asked.index("Two.") < asked.index("[Reply B]") else "Verdict: B"

    server.answer = prefer_two
    referee = Referee("pairwise", PairwiseLLMJudge(context))
    match = context.client.run(referee.decide(answer("One."), answer("Two.")))
    assert (match.orders, match.consistent, match.outcome) == ((0.0, 0.0), True, "loss")
