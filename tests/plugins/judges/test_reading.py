"""Grades are read from what judge models really say, and only where they are certain."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.inference.completion import TokenLogprob, TopLogprob
from duologue.plugins import Failure, JudgeContext, Score, Turn
from duologue.plugins.judges.llm import LLMJudge
from duologue.plugins.judges.reading import expected_grade, read_grade, refuses


def read_score(text, low=0, high=10):
    found = read_grade(text, low, high)
    if found is not None:  # the place is that of the number
        assert float(text[found.start : found.end]) == found.value
    return None if found is None else found.value


ANSWERS = {
    # what was asked for
    "Score: 7": 7,
    "It is correct and short.\nScore: 7": 7,
    "It is correct.\n\nScore: 7\n": 7,
    "Score: 0": 0,
    "Score: 10": 10,
    "Score: 10 (perfect)": 10,
    "Score: 7.5": 7.5,
    "Score: 0.5": 0.5,
    "Score: 7.0": 7,
    "score:8": 8,
    "SCORE: 8": 8,
    "Score: 8.": 8,
    "Score: 8!": 8,
    "Score = 8": 8,
    "Score\uff1a8": 8,  # the full-width colon
    "Score:\n8": 8,
    "Score: 8 because it is right": 8,
    "Score: 8 - good": 8,
    "Score: 8, and well put": 8,
    "Score: 8\n2 small errors": 8,
    "Score: 8. It has 2 small errors.": 8,
    "Final Score: 9": 9,
    "Overall grade: 4": 4,
    # with the scale
    "8/10": 8,
    "8 / 10.": 8,
    "8 out of 10": 8,
    "Score: 8/10": 8,
    "Score: 8/10.0": 8,
    "Score: 8 out of 10": 8,
    "Score: 8 out of ten.": 8,
    "Score: 7 (out of 10)": 7,
    "Rating: 7 of 10": 7,
    "Score: 10/10": 10,
    "Score (0-10): 7": 7,
    "Score (out of 10): 7": 7,
    "Score (0 to 10): 7/10": 7,
    "Score (overall): 7": 7,
    # decorated
    "**Rating: 7**": 7,
    "**Score:** 7": 7,
    "**Score**: 7/10": 7,
    "Score: **8**/10": 8,
    "__Score__: _8_": 8,
    "### Score: 7": 7,
    "* Score: 7": 7,
    "- Score: 7": 7,
    "`Score: 7`": 7,
    "Score: $7$": 7,
    "Rating: [[5]]": 5,
    "[Score]: 5": 5,
    'Score: "6"': 6,
    '{"reason": "2 errors", "score": 8}': 8,
    '{"score": 8, "reason": "2 errors"}': 8,
    '{\n  "score": 8,\n  "errors": 2\n}': 8,
    "Score: 7 (on a scale from 0 to 10)": 7,
    "Score: 7 on a scale of 0 to 10.": 7,
    "Score: \uff18": 8,
    "Score\uff1a\uff18\uff0f\uff11\uff10": 8,
    "\u8a55\u5206: 8": 8,  # Chinese labels
    "\u8bc4\u5206\uff1a8\u5206": 8,
    "\u6700\u7d42\u8a55\u5206: 8/10": 8,
    "\u30b9\u30b3\u30a2: 8": 8,  # Japanese
    "\uc810\uc218: 8\uc810": 8,  # Korean
    "\u6700\u9ad8\u8a55\u5206: 10": None,  # the highest that there is
    "Score: 7 (on a scale from 1 to 10)": None,
    "Score: 7 (on a scale from 0 to 100)": None,
    # nothing but the number
    "10": 10,
    "0": 0,
    " 7 \n": 7,
    "7.": 7,
    "**7**": 7,
    # in a sentence
    "The score is 8.": 8,
    "My rating is 8/10.": 8,
    "I think the grade is **6**.\nIt is good.": 6,
    # the last label wins
    "Score: 3\nOn reflection:\nScore: 8": 8,
    "Score: 8. Rating: 3": 3,
    "The score is 2 points lower than it could be.\nScore: 6": 6,
    "Score: 6\nThe reply says that the film's rating is 9.": 6,
    "Write `Score: N`, it says. So:\nScore: 5": 5,
    "Score: 7 to 8, so\nScore: 7": 7,
    # thoughts are no answers
    "<think>Perhaps 3. Score: 3</think>Score: 8": 8,
    "<think>Score: 3</think>I cannot say.": None,
    "<think>Score: 3": None,
    "So, Score: 3</think>I cannot say.": None,
    "So, Score: 3</think>\nScore: 9": 9,
    "Well. <think>Score: 3</think>Score: 9": 9,
    "Well. <think>Score: 3": None,
    # out of range
    "Score: 11": None,
    "Score: 10.5": None,
    "Score: 100": None,
    "Score: 1000000000000": None,
    "11": None,
    # negative
    "Score: -3": None,
    "Score: \u22123": None,
    "Score: \u20133": None,
    "Score: - 3": None,
    "The score is -3.": None,
    "-5": None,
    "- 5": None,
    # another scale
    "Score: 7/5": None,
    "Score: 4/5": None,
    "Score: 7/100": None,
    "Score: 7/10.5": None,
    "Score: 8 out of 5": None,
    "Score: 4 out of five": None,
    "Score: 8 of 20": None,
    "Score (1-5): 4": None,
    "Score (out of 5): 4": None,
    "Score (out of five): 4": None,
    "Score: 7%": None,
    "Score: 7 %": None,
    "Score: 70%": None,
    "Score: 7 percent": None,
    "Score: 4 stars": None,
    "Score: 4 \u2605": None,
    "4/5": None,
    "7%": None,
    "Score: 10/10/2024": None,
    # more than one number
    "Score: 7-8": None,
    "Score: 7 - 8": None,
    "Score: 7\u20138": None,
    "Score: 7 to 8": None,
    "Score: 7 or 8": None,
    "Score: 7 or maybe 8": None,
    "Score: 7, perhaps 8": None,
    "Score: 7 (or 8)": None,
    "Score: 7 and a half": None,
    "Score: between 6 and 8": None,
    "Score: 8/10 or 7/10": None,
    "The score is 7-8.": None,
    "The score is 3 points lower than it could be.": None,
    "7-8": None,
    "7 8": None,
    "0-10": None,
    "Score: 8 (max score: 10)": None,
    "Score: 8. Maximum score: 10.": None,
    '{"score": 8, "max_score": 10}': None,
    '{"score": 8, "max_score": 5}': None,
    "Score: 0 (useless) to 10 (perfect)": None,
    "`Score: N`, where N is a number from 0 (useless) to 10 (perfect).": None,
    # no number that can be read for certain
    "": None,
    "none": None,
    "Score: N": None,
    "Score: N/A": None,
    "Score: 6\nScore: N/A": None,
    "Score: seven": None,
    "Score: A+": None,
    "Score: 7+": None,
    "Score: ~7": None,
    "Score: >7": None,
    "Score: about 7": None,
    "Score: 7,5": None,
    "Score: .5": None,
    "Score: 7\u00bd": None,
    "Score: 1e1": None,
    "Score: 2nd": None,
    "Score: 7.5.2": None,
    "Score: 8th grade": None,
    "Score: unclear, but 8 facts are right": None,
    "The score is not 8.": None,
    "A score of 10 would be too high.": None,
    "I would give 3": None,
    "I would give it 3/10.": None,
    "The reply is written for grade 8.": None,
    "underscore: 5": None,
    "score_of_style: 5": None,
    "Upgrade: 3": None,
    "There are 3 errors.": None,
    "1. The reply is good.": None,
    "2024": None,
    # what models of several families say
    "The reply is accurate, concise and directly answers the question.\n\n**Score: 9/10**": 9,
    "## Evaluation\n\n- Correct\n- Clear\n\n## Score\n\nScore: 8": 8,
    "Reasoning: It names the capital.\nScore: 10": 10,
    "Rationale: fine.\n\nRating: 6/10": 6,
    "Overall, this is good. Final rating: **8**": 8,
    "Score:8/10\n\nThe reply is good.": 8,
    "SCORE: 3/10.": 3,
    "Score - 7": None,
    "Score 7": None,
    "Score: **7**/10 - clear": 7,
    "Score: **7/10**": 7,
    "Score: **10/10**": 10,
    "*Score:* 4": 4,
    "***Score: 4***": 4,
    "> Score: 4": 4,
    "1. Score: 4": 4,
    "(Score: 4)": 4,
    "[Score: 4]": 4,
    "Score: (4)": 4,
    "Score: [4]": 4,
    "Score: {4}": 4,
    "Score: 04": 4,
    "Score: 8.25": 8.25,
    "Score: 9.0/10.0": 9,
    "Score\n: 7": 7,
    "Score : 7": 7,
    "Score:\t7": 7,
    "Score:\u00a07": 7,
    "Score: 7\r\nThank you.": 7,
    "Score: 7\n\n(Out of 10.)": 7,
    "Score: 7 out of a possible 10": None,
    "The final score is: 7": 7,
    "My final grade: 7": 7,
    "The overall rating is 7.": 7,
    "The overall rating is 7 out of 10.": 7,
    "I rate this 7/10.": None,
    "A 7.": None,
    "7 out of 10": 7,
    "7 of 10": 7,
    "(7)": 7,
    "[[7]]": 7,
    '"7"': 7,
    '{"score": 7}': 7,
    "{'score': 7}": 7,
    '{"score": "7"}': 7,
    '{"score": "7/10"}': 7,
    '{"rating": 7.5, "why": "fine"}': 7.5,
    '{"reasoning": "It has 3 parts.", "final_score": 5}': None,
    '{"reasoning": "It has 3 parts.", "final score": 5}': 5,
    '{"score": null}': None,
    '{"score": true}': None,
    '{"score": [7, 8]}': None,
    '{"score": {"value": 7}}': None,
    '{"score": 7, "score_range": "0-10"}': 7,
    '```json\n{"score": 6}\n```': 6,
    "```\nScore: 6\n```": 6,
    'Here is my evaluation:\n```json\n{\n  "reason": "ok",\n  "score": 2\n}\n```': 2,
    "<score>7</score>": None,
    "Score: <7>": None,
    "$\\boxed{7}$": None,
    "Score: \u2b50\u2b50\u2b50": None,
    "Score: 8\u2b50": None,
    "Score: VII": None,
    "Score: eight/10": None,
    "Note: 7": None,
    "Punkte: 7": None,
    "\u8bc4\u5206: 7": 7,
    "Score: 7\n\nScore: 7": 7,
    "Initial score: 5. After a second look, final score: 6.": 6,
    "Correctness score: 8\nClarity score: 6\nOverall score: 7": 7,
    "Score: 8\n\nNote: the maximum score is 10.": 8,
    "The lowest score is 0. Score: 4": 4,
    "Subscore: 4\nScore: 7": None,
    "Sub-score: 4\nScore: 7": None,
    "Scores: 7": None,
    "Scored: 7": None,
    "Rated: 7": None,
    "Grading: 7": None,
    "Grade: B": None,
    "Grade: 9 (A)": 9,
    "Rating: 7 (good)": 7,
    "Rating: good (7)": None,
    "Score: 6 -> 7": None,
    "Score: 6/7": None,
    "Score: 3x": None,
    "Score: x3": None,
    "Score: #3": None,
    "Score: 3rd": None,
    "Score: 3!!": 3,
    "Score: 3?": 3,
    "Score: 3\u2026": 3,
    "Score: 7. The other reply would be an 8.": 7,
    "Score: 7, since 2 of 3 facts are right": None,
    "Score: 7; it is short.": 7,
    "Score: 7 as it is short.": 7,
    "Score: 7, as it is short.": 7,
    "Score: 0.": 0,
    "Score: 00": 0,
    "Score: 10.": 10,
    "Score: 10.01": None,
    "Score: +7": None,
    "Score: <think>5</think> 7": 7,
    "<think>\nIt says Paris. Score: 2?\n</think>\n\nIt is right.\nScore: 9": 9,
    "<think></think>7": 7,
    "<think></think>\n\n7/10": 7,
    "<thinking>Score: 3</thinking>Score: 8": 8,
    "I'm sorry, but I can't grade this reply.": None,
    "I cannot assist with that request.": None,
    "As an AI, I have no opinions. Score: N/A": None,
    "I won't rate this.": None,
    " ": None,
    "\n": None,
    "...": None,
    "N/A": None,
    "null": None,
    "Error: 429": None,
    "Score: 429": None,
    "The score will follow.": None,
    "Score:": None,
    "Score: ": None,
    "Score: \nReason: 2 facts are wrong.": None,
    "Score: not applicable": None,
    "Score: 8 or 9? I say 8.": None,
    "10 out of 10, no notes!": None,
    "10/10!": 10,
    "10/10\n": 10,
}


@pytest.mark.parametrize(("answer", "expected"), ANSWERS.items())
def test_a_score_is_read_only_where_it_is_certain(answer, expected):
    assert read_score(answer) == expected


ON_OTHER_SCALES = {
    (1, 5): {
        "Score: 4": 4,
        "Score: 4/5": 4,
        "Score: 4 out of 5": 4,
        "Score: 4 out of five.": 4,
        "Score (1-5): 4": 4,
        "Score (out of 5): 4": 4,
        "**Rating: 5**": 5,
        "[[3]]": 3,
        "3": 3,
        "3/5": 3,
        '{"score": 2}': 2,
        "Score: 0": None,
        "Score: 6": None,
        "Score: 4/10": None,
        "4/10": None,
        "Score: 4 out of 10": None,
        "Score: 4 stars": None,
        "Score: 4.5": 4.5,
        "0": None,
        "5.5": None,
    },
    (0, 100): {
        "Score: 85": 85,
        "Score: 85/100": 85,
        "Score: 100": 100,
        "Score: 85 out of a hundred": None,
        "Score: 85 out of hundred": 85,
        "85/100": 85,
        "Score: 101": None,
        "Score: 85%": None,
        "Score: 8/10": None,
        "Score: 0": 0,
        "Score (0-100): 7": 7,
    },
    (0, 1): {
        "Score: 0.7": 0.7,
        "Score: 1": 1,
        "1/1": 1,
        "Score: 0": 0,
        "Score: 2": None,
        "Score: .7": None,
        "0.35": 0.35,
        "Score: 70%": None,
    },
    (0, 9): {"9": 9, "10": None, "Score: 9/9": 9, "Score: 9/10": None},
    (1, 7): {"Rating: 7/7": 7, "Rating: 3 of 7": 3, "Rating: 8": None, "Rating: 3/10": None},
}


@pytest.mark.parametrize(
    ("scale", "answer", "expected"),
    [(scale, answer, value) for scale, answers in ON_OTHER_SCALES.items() for answer, value in answers.items()],
)
def test_other_scales_are_read_as_strictly(scale, answer, expected):
    assert read_score(answer, *scale) == expected


def test_there_are_replies_enough():
    assert len(ANSWERS) + sum(map(len, ON_OTHER_SCALES.values())) >= 300


@given(st.text())
def test_whatever_a_judge_says_gives_a_number_in_range_or_none(text):
    value = read_score(text)
    assert value is None or 0 <= value <= 10


@given(st.integers(0, 100).map(lambda tenths: tenths / 10), st.text("abc .\n*", max_size=20))
def test_what_was_asked_for_is_always_read(value, reasons):
    assert read_score(f"{reasons}\nScore: {value}") == value


@given(st.from_regex(r"Score: -?[0-9]{1,4}([.,/:-][0-9]{1,4}){0,3}", fullmatch=True))
def test_figures_with_anything_unexpected_between_them_give_none(text):
    digits = text.removeprefix("Score: ").removesuffix("/10")
    plain = digits.replace(".", "", 1).isdigit() and float(digits) <= 10
    assert (read_score(text) is not None) == plain


def test_a_long_answer_is_read_in_linear_time():
    """A pattern that tries every start again would take minutes for these."""
    for part in ("<think>", "_", "max ", "Score ", "Score (", "7 ", "( ", "grade\n"):
        assert read_score(part * 20_000) is None


def test_every_answer_of_the_table_becomes_a_tenth_of_its_grade_or_a_failure(server, client, endpoint):
    server.answer = lambda body: body["messages"][0]["content"]
    judge = LLMJudge(JudgeContext(client, {"assistant": endpoint}), prompt="{reply}", logprobs="never")
    verdicts = client.run(judge.score([Turn((), reply) for reply in ANSWERS]))
    for (answer, expected), verdict in zip(ANSWERS.items(), verdicts, strict=True):
        if expected is None:
            assert isinstance(verdict, Failure), answer
        else:
            assert isinstance(verdict, Score), answer
            assert (verdict.value, verdict.components) == (expected / 10, {"grade": expected, "expected": 0.0})


@given(st.integers(0, 99), st.integers(1, 100), st.data())
def test_a_grade_on_any_scale_is_read_with_and_without_its_limit(low, span, data):
    high = min(100, low + span)
    grade = data.draw(st.integers(low, high))
    for text in (f"Score: {grade}", f"Score: {grade}/{high}", f"{grade} out of {high}", f'{{"score": {grade}}}'):
        assert read_score(text, low, high) == grade
    assert read_score(f"Score: {high + 1}", low, high) is None


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't do that.",
        "I am unable to grade this.",
        "I cannot rate it.",
        "Sorry, no.",
        "As an AI, I have no taste.",
        "<think>Hm.</think>I won\u2019t say.",
    ],
)
def test_refusals_are_told_from_answers_that_cannot_be_read(text):
    assert refuses(text)
    assert not refuses("The reply says: I'm sorry. Score: 3")


def tokens(*entries):
    """Tokens, each a text or a text with its probability and the alternatives'."""
    made = []
    for entry in entries:
        text, own, others = entry if isinstance(entry, tuple) else (entry, 1.0, {})
        listed = {text: own, **others}
        tops = tuple(TopLogprob(other, math.log(p)) for other, p in listed.items())
        made.append(TokenLogprob(text, math.log(own), tops))
    return made


def test_the_expectation_is_the_mean_grade_by_the_listed_probabilities():
    found = expected_grade(tokens("Score", ":", (" 4", 0.6, {" 5": 0.3, " 3": 0.1})), 1, 5)
    assert found == pytest.approx(4 * 0.6 + 5 * 0.3 + 3 * 0.1)


def test_what_is_no_grade_is_left_out_and_the_rest_renormalised():
    listed = {" 2": 0.2, " The": 0.1, " 9": 0.1, "\n": 0.0999, "4": 0.0001}
    found = expected_grade(tokens("Score:", (" 4", 0.5, listed)), 1, 5)
    assert found == pytest.approx((4 * 0.5001 + 2 * 0.2) / 0.7001)


def test_digits_of_the_reasons_do_not_count():
    found = expected_grade(tokens("It has", (" 2", 0.9, {" 1": 0.1}), " errors.\n", "Score", ":", " ", "3"), 1, 5)
    assert found == 3


def test_thoughts_do_not_count():
    said = tokens("<think>", "Score: ", ("1", 0.9, {"2": 0.1}), "</think>", "Score: ", ("5", 0.8, {"4": 0.2}))
    assert expected_grade(said, 1, 5) == pytest.approx(4.8)


def test_decorated_tokens_are_read():
    assert expected_grade(tokens("**Rating", ": ", ("**4", 0.9, {"**5": 0.1}), "**"), 1, 5) == pytest.approx(4.1)


@pytest.mark.parametrize(
    "said",
    [
        tokens("Score: ", ("1", 0.6, {"7": 0.4}), "0"),  # the number is two tokens
        tokens("Score: ", ("7", 0.6, {"1": 0.4})),  # "1" might have become "10"
        tokens("Score: ", ("7", 0.3, {"x": 0.4, "y": 0.3})),  # no grade is likely
        tokens("I", " refuse", "."),
        tokens("Score: ", "7", ".", "5"),
        [],
    ],
)
def test_where_the_tokens_do_not_tell_the_text_counts(said):
    assert expected_grade(said, 0, 10) is None


def test_a_tokenizer_with_tens_and_an_unlikely_half_are_no_obstacle():
    assert expected_grade(tokens("Score: ", ("10", 0.5, {"1": 0.1, "9": 0.4})), 0, 10) == pytest.approx(8.7)
    assert expected_grade(tokens("Score: ", ("7", 0.9, {"1": 0.005, "8": 0.095})), 0, 10) == pytest.approx(
        (0.9 * 7 + 0.095 * 8) / 0.995
    )


@given(st.lists(st.tuples(st.text(max_size=3), st.floats(0.001, 1)), max_size=6), st.integers(0, 9))
def test_an_expectation_is_on_the_scale_or_none(listed, grade):
    said = tokens("Score: ", (str(grade), 0.5, dict(listed)))
    found = expected_grade(said, 0, 9)
    assert found is None or 0 <= found <= 9
