import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.inference import Price
from duologue.inference.errors import ConfigError, EndpointRefused
from duologue.plugins import Failure, JudgeContext, Plugins, Reward, Score, Turn
from duologue.plugins.judges.llm import LLMJudge, read_score

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
}


@pytest.mark.parametrize(("answer", "expected"), ANSWERS.items())
def test_a_score_is_read_only_where_it_is_certain(answer, expected):
    assert read_score(answer) == expected


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


QUESTION = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "So."},
    {"role": "user", "content": "Really?"},
)


@pytest.fixture
def context(client, endpoint) -> JudgeContext:
    return JudgeContext(client, {"assistant": endpoint})


def say(context: JudgeContext, *replies: str, **settings):
    judge = LLMJudge(context, **settings)
    return context.client.run(judge.score([Turn(QUESTION, reply, "A reference.") for reply in replies]))


def test_every_answer_of_the_table_becomes_a_tenth_of_its_grade_or_a_failure(server, context):
    server.answer = lambda body: body["messages"][0]["content"]
    verdicts = say(context, *ANSWERS, prompt="{reply}")
    for (answer, expected), verdict in zip(ANSWERS.items(), verdicts, strict=True):
        if expected is None:
            assert isinstance(verdict, Failure), answer
        else:
            assert isinstance(verdict, Score), answer
            assert (verdict.value, verdict.components) == (expected / 10, {"grade": expected})


def test_the_judge_sees_the_dialogue_without_the_system_prompt_and_answers_at_temperature_zero(server, context):
    server.answer = lambda body: "Fine.\nScore: 8"
    (verdict,) = say(context, "Yes {really}, {0}.", max_tokens=99)
    assert verdict == Score(0.8, {"grade": 8.0}, "Fine.\nScore: 8")
    (body,) = server.requests
    (message,) = body["messages"]
    assert message["role"] == "user"
    assert "user: Why?\nassistant: So.\nuser: Really?" in message["content"]
    assert "Yes {really}, {0}." in message["content"]
    assert "Be brief." not in message["content"]
    assert "A reference." not in message["content"]
    assert (body["temperature"], body["max_tokens"]) == (0.0, 99)


def test_a_prompt_of_ones_own_may_hold_the_reference(server, context):
    server.answer = lambda body: "Score: 1"
    say(context, "Yes.", prompt="{question}|{reply}|{reference}")
    assert server.requests[0]["messages"][0]["content"].endswith("|Yes.|A reference.")


def test_the_judges_own_endpoint_is_asked_and_paid(server, client, endpoint):
    server.answer = lambda body: "Score: 5"
    judge_endpoint = replace(endpoint, model="stern", price=Price(per_request_usd=0.25))
    context = JudgeContext(client, {"assistant": endpoint, "judge": judge_endpoint})
    (verdict,) = say(context, "Yes.")
    assert server.requests[0]["model"] == "stern"
    assert verdict.cost_usd == 0.25
    assert client.meter.roles["judge"].paid == 1


def test_an_answer_that_was_cut_is_a_failure_because_a_one_may_have_been_a_ten(server, context):
    from duologue.inference import Completion

    assert Completion("x").finish_reason == "stop"
    server.answer = lambda body: {
        "choices": [{"index": 0, "message": {"content": "Score: 1"}, "finish_reason": "length"}]
    }
    (verdict,) = say(context, "Yes.", max_tokens=3)
    assert isinstance(verdict, Failure)
    assert "cut at 3 tokens: raise `max_tokens`" in verdict.error


def test_one_call_that_fails_leaves_the_others_their_scores(server, context):
    server.answer = lambda body: (500, {}) if "bad" in body["messages"][0]["content"] else "Score: 4"
    first, second, third = say(context, "good", "bad", "fine")
    assert first.value == third.value == 0.4
    assert isinstance(second, Failure)
    assert len(server.requests) == 4  # the endpoint's own retry


def test_a_call_that_failed_is_asked_again_by_the_reward(server, context):
    answers = iter([(500, {}), (500, {}), "Score: 4"])
    server.answer = lambda body: next(answers)
    reward = Reward({"llm": LLMJudge(context)}, registry=Plugins(discover=False))
    assert context.client.run(reward.judge(Turn(QUESTION, "Yes."))).reward == 0.4


def test_a_refused_key_is_not_the_weather(server, context):
    server.answer = lambda body: (401, {"error": {"message": "wrong key"}})
    with pytest.raises(EndpointRefused):
        say(context, "Yes.")


def test_an_unreadable_answer_is_quoted_in_the_failure(server, context):
    server.answer = lambda body: "I would rather not."
    (verdict,) = say(context, "Yes.")
    assert verdict == Failure("the judge's answer holds no score from 0 to 10: 'I would rather not.'")


def test_an_unreadable_answer_is_asked_for_again_and_not_read_from_the_cassette(server, context):
    answers = iter(["I would rather not.", "Score: 6"])
    server.answer = lambda body: next(answers)
    assert say(context, "Yes.")[0].value == 0.6
    assert [body["temperature"] for body in server.requests] == [0.0, 0.7]
    assert say(context, "Yes.")[0].value == 0.6  # both answers are kept: the second run asks nothing
    assert len(server.requests) == 2


@pytest.mark.parametrize("prompt", ["{answer}", "{0}", "{", "{question.text}", "{reply[0]}", '{"score": N}'])
def test_a_prompt_with_other_placeholders_is_refused(context, prompt):
    with pytest.raises(ConfigError, match=r"`judges\.x` was refused: `prompt` may only hold"):
        Plugins(discover=False).build({"name": "llm", "prompt": prompt}, "judges.x", context)


def test_closing_a_judge_leaves_the_shared_client_open(server, context):
    server.answer = lambda body: "Score: 4"
    asyncio.run(LLMJudge(context).aclose())
    assert say(context, "Yes.")[0].value == 0.4
