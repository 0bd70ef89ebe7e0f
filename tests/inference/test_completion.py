"""How answers are read, from bytes as servers send them."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.core.errors import Unreadable
from duologue.inference import CallFailed, Endpoint, EndpointRefused, InferenceError, Price, TokenLogprob, TopLogprob
from duologue.inference.completion import read_completion, read_embeddings

SHAPES = [
    *("choices", "message", "content", "text", "type", "reasoning", "refusal", "finish_reason", "logprobs", "token"),
    *("logprob", "top_logprobs", "tokens", "token_logprobs", "usage", "prompt_tokens", "completion_tokens", "error"),
    *("errors", "code", "detail", "status"),
]

ENDPOINT = Endpoint("http://127.0.0.1:1/v1", "m", price=Price(0.5, 1e6, 2e6))


def body(message, **choice):
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop", **choice}], "usage": usage}).encode()


def read(raw, logprobs=False):
    return read_completion(raw, ENDPOINT, logprobs=logprobs, latency_s=0.25)


def test_a_plain_answer():
    answer = read(body({"role": "assistant", "content": " Hi there. \n"}, finish_reason="length"))
    assert answer.text == "Hi there."
    assert answer.finish_reason == "length"
    assert answer.reasoning == ""
    assert answer.logprobs is None
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 2)
    assert answer.cost_usd == pytest.approx(0.5 + 3 * 1 + 2 * 2)
    assert answer.latency_s == 0.25
    assert not answer.reused


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": "Four.", "reasoning_content": "2+2"}, "Four.", "2+2"),
        ({"content": "Four.", "reasoning": "2+2"}, "Four.", "2+2"),
        ({"content": "<think>\n2+2\n</think>\n\nFour."}, "Four.", "2+2"),
        ({"content": "<think></think>Four."}, "Four.", ""),
        ({"content": "  <think>a <b> c</think> Four."}, "Four.", "a <b> c"),
        ({"content": "<think>cut before the end"}, "", "cut before the end"),
        ({"content": "The tag <think>x</think> is text here."}, "The tag <think>x</think> is text here.", ""),
        ({"content": None, "refusal": "I cannot."}, "I cannot.", ""),
        ({"content": ""}, "", ""),
    ],
)
def test_text_and_reasoning_come_apart(message, text, reasoning):
    answer = read(body(message))
    assert (answer.text, answer.reasoning) == (text, reasoning)


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls"])
def test_an_answer_may_end_without_content(reason):
    answer = read(body({"content": None, "reasoning_content": "only thought"}, finish_reason=reason))
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("", "only thought", reason)


@pytest.mark.parametrize("message", [{"content": None}, {}, {"content": None, "reasoning_content": "only thought"}])
def test_an_answer_that_says_nothing_for_no_reason_is_none(message):
    with pytest.raises(Unreadable, match="without content"):
        read(body(message))


@given(thought=st.text(), text=st.text())
def test_no_thought_ever_reaches_the_text(thought, text):
    thought, text = thought.replace("</think>", ""), text.replace("<think>", "")
    answer = read(body({"content": f"<think>{thought}</think>{text}"}))
    assert (answer.reasoning, answer.text) == (thought.strip(), text.strip())


def test_logprobs_are_read_with_their_alternatives():
    tokens = [{"token": "Hi", "logprob": -0.5, "bytes": [72], "top_logprobs": [{"token": "Yo", "logprob": -1.5}]}]
    answer = read(body({"content": "Hi"}, logprobs={"content": tokens}), logprobs=True)
    assert answer.logprobs == (TokenLogprob("Hi", -0.5, (TopLogprob("Yo", -1.5),)),)


def test_logprobs_not_asked_for_are_left_out():
    assert read(body({"content": "Hi"}, logprobs={"content": [{"token": "Hi", "logprob": -0.5}]})).logprobs is None


def test_an_empty_answer_has_no_logprobs_and_that_is_no_fault():
    assert read(body({"content": ""}, logprobs={"content": []}), logprobs=True).logprobs == ()


@pytest.mark.parametrize("choice", [{}, {"logprobs": None}, {"logprobs": {}}, {"logprobs": {"content": None}}])
def test_missing_logprobs_refuse_the_endpoint_and_name_the_setting(choice):
    with pytest.raises(EndpointRefused) as refused:
        read(body({"content": "Hi"}, **choice), logprobs=True)
    assert "model `m` at http://127.0.0.1:1/v1 returned no logprobs" in str(refused.value)
    assert "`interface.logprobs=false`" in str(refused.value)


def test_missing_usage_counts_nothing_but_the_request():
    answer = read(json.dumps({"choices": [{"message": {"content": "Hi"}}], "usage": None}).encode())
    assert (answer.prompt_tokens, answer.completion_tokens, answer.cost_usd) == (0, 0, 0.5)
    assert answer.finish_reason == "stop"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe\x00garbage",
        b"null",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": null}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b'{"choices": [{"message": {"content": "cut',
        b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n',
    ],
)
def test_what_is_no_completion_is_a_failed_call_that_shows_its_start(raw):
    with pytest.raises(CallFailed) as failed:
        read(raw)
    text = str(failed.value)
    assert "http://127.0.0.1:1/v1" in text
    assert "answered with no chat completion" in text
    assert repr(raw[:80].decode("utf-8", "replace")) in text
    assert "\n" not in text


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_failed_call(raw):
    with pytest.raises(CallFailed):
        read(raw)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(SHAPES) | st.text(max_size=3), inner, max_size=4)
        ),
    )
)
def test_no_json_raises_anything_but_an_error_of_a_call(value):
    for raw in (value, {"choices": [value]}, {"choices": [{"message": value, "logprobs": value}], "usage": value}):
        with contextlib.suppress(InferenceError):
            answer = read(json.dumps(raw).encode(), logprobs=True)
            (answer.text + answer.reasoning + answer.finish_reason).encode()
            assert answer.prompt_tokens >= 0
            assert answer.completion_tokens >= 0


def vectors(*pairs, **more):
    return json.dumps({"data": [{"index": i, "embedding": v} for i, v in pairs], **more}).encode()


def test_embeddings_are_put_in_the_order_of_the_texts():
    raw = vectors((1, [3, 4.5]), (0, [1, 2]), usage={"prompt_tokens": 9})
    assert read_embeddings(raw, ["a", "b"]) == [[1, 2], [3, 4.5]]


@pytest.mark.parametrize(
    "raw",
    [
        b"<html>",
        b"{}",
        vectors(),
        vectors((0, [1.0])),
        vectors((0, [1.0]), (0, [1.0])),
        vectors((1, [1.0]), (2, [1.0])),
        vectors((0, [1.0]), (1, [1.0]), (2, [1.0])),
        vectors((0, [1.0, 2.0]), (1, [1.0])),
        vectors((0, "AAAA"), (1, "AAAA")),
    ],
)
def test_embeddings_that_do_not_fit_the_texts_are_refused(raw):
    with pytest.raises(ValueError, match=r".+"):
        read_embeddings(raw, ["a", "b"])
