import asyncio
from dataclasses import replace

import pytest

from duologue.core.errors import ConfigError, EndpointRefused
from duologue.inference import Price
from duologue.plugins import Failure, JudgeContext, Plugins, Reward, Score, Turn
from duologue.plugins.judges.llm import LLMJudge

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


def test_the_judge_sees_the_dialogue_without_the_system_prompt_and_answers_at_temperature_zero(server, context):
    server.answer = lambda body: "Fine.\nScore: 8"
    (verdict,) = say(context, "Yes {really}, {0}.", max_tokens=99)
    assert verdict == Score(0.8, {"grade": 8.0, "expected": 0.0}, "Fine.\nScore: 8")
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
    (verdict,) = say(context, "Yes.", max_tokens=3, logprobs="never")
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
