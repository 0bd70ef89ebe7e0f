"""What the endpoint can do is found out by the first question, and used no further than that."""

import pytest

from duologue.core.errors import CassetteMiss, EndpointRefused
from duologue.inference import Cassette, InferenceClient
from duologue.plugins import Failure, JudgeContext, Turn
from duologue.plugins.batched_judge import BatchedJudge
from duologue.plugins.judges.llm import LLMJudge
from duologue.plugins.judges.panel import make_panel
from duologue.plugins.judges.rubric import RubricJudge
from duologue.tests.conftest import chat_body
from duologue.tests.inference.fault_server import refuses

QUESTION = ({"role": "user", "content": "Why?"},)


def ask(context, *replies, make=LLMJudge, **settings):
    judge = make(context, **settings)
    return context.client.run(judge.score([Turn(QUESTION, reply) for reply in replies]))


def test_the_grade_is_its_expectation_where_the_alternatives_are_known(server, context, with_alternatives):
    server.answer = lambda body: with_alternatives("Score: ", ("4", {"4": 0.7, "5": 0.3}))
    (verdict,) = ask(context, "So.", scale=[1, 5])
    assert verdict.components == {"grade": pytest.approx(4.3), "expected": 1.0}
    assert verdict.value == pytest.approx(3.3 / 4)
    assert (server.requests[0]["logprobs"], server.requests[0]["top_logprobs"]) == (True, 20)


def test_never_asks_for_no_probabilities(server, context):
    server.answer = lambda body: "Score: 4"
    assert ask(context, "So.", logprobs="never")[0].value == 0.4
    assert "logprobs" not in server.requests[0]


def test_a_server_without_logprobs_is_read_from_the_text_and_that_is_said_once(server, context):
    server.logprobs = False
    server.answer = lambda body: "Score: 4"
    with pytest.warns(UserWarning, match="`fake` gives no logprobs: judges read its grades from the text") as caught:
        verdicts = ask(context, "So.", "Because.", "Well.")
    assert len(caught) == 1
    assert [verdict.components for verdict in verdicts] == [{"grade": 4.0, "expected": 0.0}] * 3


def test_always_refuses_a_server_without_logprobs(server, context):
    server.logprobs = False
    server.answer = lambda body: "Score: 4"
    with pytest.raises(EndpointRefused, match="returned no logprobs"):
        ask(context, "So.", logprobs="always")


def test_always_fails_where_the_grade_has_no_alternatives(server, context):
    server.answer = lambda body: "Score: 4"  # the fake's tokens list none
    (verdict,) = ask(context, "So.", logprobs="always")
    assert isinstance(verdict, Failure)
    assert "set `logprobs=auto`" in verdict.error


def rejects(field, refusal=None):
    """A server that does not know a field of the request."""

    def answer(body):
        if field in body:
            return refusal or (400, {"error": {"message": f"unknown field {field}"}})
        return 'Score: 4\n{"reason": "r", "correct": 4, "helpful": 4, "clear": 4}'

    return answer


@pytest.mark.filterwarnings("ignore:.*gives no logprobs")
@pytest.mark.parametrize("status", [400, 500, 501])
@pytest.mark.parametrize(("make", "field"), [(LLMJudge, "logprobs"), (RubricJudge, "response_format")])
def test_a_field_that_the_server_rejects_is_left_out_from_then_on(server, client, context, make, field, status):
    """Some servers fail at what they do not know, with an internal error that names nothing."""
    said = f"unknown field {field}" if status == 400 else "internal error"
    server.answer = rejects(field, (status, {"error": {"message": said}}))
    verdicts = ask(context, "So.", "Because.", "Well.", make=make)
    assert all(not isinstance(verdict, Failure) for verdict in verdicts)
    assert sum(field in body for body in server.requests) == (
        1 if status == 400 else 2
    )  # the others waited to hear of it


def test_what_is_to_be_used_always_is_an_error_where_it_is_refused(server, context):
    server.answer = rejects("response_format")
    ask(context, "So.", make=RubricJudge)
    (failed,) = ask(context, "Hm.", make=RubricJudge, structured="always")
    assert isinstance(failed, Failure)
    assert "unknown field response_format" in failed.error
    server.answer = rejects("logprobs")
    with pytest.raises(EndpointRefused, match="unknown field logprobs.*a judge's `logprobs=never`"):
        ask(context, "Hm.", logprobs="always")


@pytest.mark.parametrize("style", ["openai", "azure", "vllm"])
def test_a_judge_model_that_takes_no_temperature_grades(server, context, style):
    server.answer = refuses(style, "max_tokens", "temperature", answer="Score: 8")
    assert [verdict.value for verdict in ask(context, "So.", "Well.", logprobs="never")] == [0.8] * 2
    assert server.requests[-1].keys() == {"model", "messages", "max_completion_tokens", "seed"}


def test_a_judge_without_a_bound_of_its_own_has_the_endpoints(server, context):
    server.answer = lambda body: "Score: 8"
    ask(context, "So.", logprobs="never", max_tokens=None)
    assert server.requests[0]["max_tokens"] == 20


def test_a_judge_that_only_thought_is_a_failure_that_says_so(server, context):
    server.answer = lambda body: chat_body("", finish_reason="length", reasoning_content="Perhaps Score: 3")
    (failed,) = ask(context, "So.", logprobs="never", max_tokens=64)
    assert "the judge spent all 64 tokens on reasoning and said nothing: raise `max_tokens`" in failed.error


@pytest.mark.filterwarnings("ignore:.*gives no logprobs")
def test_a_replay_meets_the_same_requests_whatever_the_order(server, endpoint, tmp_path):
    """The refusal was not recorded: the replay learns from the missing answer what the run had learnt."""
    server.answer = rejects("logprobs")
    for mode, replies in (("record", ["So.", "Because.", "Well."]), ("replay", ["Well.", "So.", "Because."])):
        client = InferenceClient(Cassette(tmp_path / "c.sqlite", mode=mode))
        try:
            verdicts = ask(JudgeContext(client, {"assistant": endpoint}), *replies)
        finally:
            client.close()
        assert [verdict.value for verdict in verdicts] == [0.4] * 3
    asked = len(server.requests)
    client = InferenceClient(Cassette(tmp_path / "c.sqlite", mode="replay"))
    with pytest.raises(CassetteMiss):
        ask(JudgeContext(client, {"assistant": endpoint}), "Never asked.")
    client.close()
    assert len(server.requests) == asked


def test_a_server_that_is_down_for_a_moment_keeps_its_capabilities(server, context, with_alternatives):
    answers = iter([(503, {}), (503, {})])
    server.answer = lambda body: next(answers, None) or with_alternatives("Score: ", ("4", {"4": 0.7, "5": 0.3}))
    judge = LLMJudge(context)
    first = context.client.run(judge.score([Turn(QUESTION, "So.")]))
    assert isinstance(first[0], Failure)
    assert context.client.run(judge.score([Turn(QUESTION, "Well.")]))[0].components["expected"] == 1.0


@pytest.mark.parametrize(
    ("text", "finish_reason", "said"),
    [
        ("I'm sorry, I can't grade that.", "stop", "the judge refused: \"I'm sorry"),
        ("Well.", "stop", "holds no score from 0 to 10: 'Well.'"),
        ("", "content_filter", "taken away by the endpoint's content filter"),
    ],
)
def test_what_is_no_grade_says_why(server, context, text, finish_reason, said):
    server.answer = lambda body: chat_body(text, finish_reason=finish_reason)
    (verdict,) = ask(context, "So.", logprobs="never")
    assert isinstance(verdict, Failure)
    assert said in verdict.error


def test_thoughts_that_came_apart_are_no_answer(server, context):
    server.answer = lambda body: chat_body("Score: 8", reasoning_content="Perhaps Score: 3")
    assert ask(context, "So.", logprobs="never")[0].value == 0.8
    server.answer = lambda body: chat_body("", reasoning_content="Score: 3")
    assert isinstance(ask(context, "Hm.", logprobs="never")[0], Failure)


def bench_of(context, retries, make=LLMJudge, **settings):
    return BatchedJudge("judge", make(context, logprobs="never", **settings), retries=retries)


@pytest.mark.parametrize(("retries", "asked"), [(0, 2), (1, 3), (5, 7)])
def test_a_retry_of_an_unreadable_verdict_is_a_new_sample(server, context, retries, asked):
    server.answer = lambda body: "I like it."
    bench = bench_of(context, retries)
    assert isinstance(context.client.run(bench.score(Turn(QUESTION, "So."))), Failure)
    assert len(server.requests) == asked
    assert len({body["seed"] for body in server.requests}) == asked
    assert [body["temperature"] for body in server.requests] == [0.0] + [0.7] * (asked - 1)


def test_a_retry_finds_the_verdict_that_an_earlier_sample_lacked(server, context):
    said = iter(["Hm.", "Hm.", "Score: 6"])
    server.answer = lambda body: next(said)
    bench = bench_of(context, 1)
    assert context.client.run(bench.score(Turn(QUESTION, "So."))).value == 0.6
    again = bench_of(context, 1)  # a later run meets the same samples and pays for none
    assert context.client.run(again.score(Turn(QUESTION, "So."))).value == 0.6
    assert len(server.requests) == 3


def test_repeats_and_retries_never_share_a_sample(server, client, endpoint):
    server.answer = lambda body: "Hm."
    for repeat in range(3):
        context = JudgeContext(client, {"assistant": endpoint}, repeat)
        client.run(bench_of(context, 2).score(Turn(QUESTION, "So.")))
    assert len({body["seed"] for body in server.requests}) == len(server.requests) == 12


def test_a_call_that_failed_is_made_again_as_it_was(server, context):
    """Only what was read and said nothing leads to another sample, so that a repeated run ends with the same one."""
    answers = iter([(503, {}), (503, {}), "Score: 4"])
    server.answer = lambda body: next(answers)
    assert context.client.run(bench_of(context, 1).score(Turn(QUESTION, "So."))).value == 0.4
    assert len({(body["seed"], body["temperature"]) for body in server.requests}) == 1


def test_a_panel_asks_again_only_the_member_that_failed(server, context):
    def answer(body):
        said = body["messages"][0]["content"]
        return "Score: 4" if "Grade" in said or body["seed"] > 1 else "Hm."

    server.answer = answer
    members = {
        "one": {"name": "llm", "logprobs": "never"},
        "two": {"name": "llm", "logprobs": "never", "prompt": "{reply}"},
    }
    bench = BatchedJudge("panel", make_panel(context, members), retries=2)
    assert context.client.run(bench.score(Turn(QUESTION, "So."))).value == 0.4
    assert len(server.requests) == 1 + 3


def test_without_a_cassette_a_retry_takes_only_the_new_sample(server, endpoint):
    server.answer = lambda body: "Hm."
    client = InferenceClient()
    try:
        client.run(bench_of(JudgeContext(client, {"assistant": endpoint}), 2).score(Turn(QUESTION, "So.")))
    finally:
        client.close()
    assert len({body["seed"] for body in server.requests}) == len(server.requests) == 4
