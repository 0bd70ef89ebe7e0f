"""Answers as servers really send them, one file each with its right reading, over HTTP through the client.

A file holds the server's ``body``; whether ``logprobs`` are asked for; and either what it ``reads`` as, or the error by which
it ``fails`` with a part of its message and the number of times that it is asked for.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from duologue.core import errors
from duologue.inference import CallFailed, EndpointRefused, InferenceError, Price, Unreadable
from duologue.inference.completion import read_embeddings

HELLO = [{"role": "user", "content": "Hello"}]
ANSWERS = {
    path.stem.removeprefix("answer_"): json.loads(path.read_text())
    for path in sorted((Path(__file__).parent / "servers").glob("answer_*.json"))
}
READ = {name: shape for name, shape in ANSWERS.items() if "reads" in shape and "kind" not in shape}
FAILED = {name: shape for name, shape in ANSWERS.items() if "fails" in shape}
EMBEDDINGS = {name: shape for name, shape in ANSWERS.items() if shape.get("kind") == "embeddings"}


@pytest.mark.parametrize("name", READ)
def test_what_a_person_could_read_is_read_and_kept(client, endpoint, server, name):
    shape, raw = READ[name], json.dumps(READ[name]["body"]).encode()
    server.answer = lambda body: raw
    endpoint = replace(endpoint, price=Price(0.0, 1e6, 2e6))
    for _ in range(2):
        answer = client.run(client.chat(endpoint, HELLO, logprobs=shape.get("logprobs", False)))
        found = {
            "text": answer.text,
            "reasoning": answer.reasoning,
            "finish_reason": answer.finish_reason,
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
        }
        if "logprobs" in shape["reads"]:
            tokens = answer.logprobs
            found["logprobs"] = tokens and [
                [token.token, token.logprob, [[top.token, top.logprob] for top in token.top_logprobs]]
                for token in tokens
            ]
            if found["logprobs"] == ():
                found["logprobs"] = []
        assert found == shape["reads"]
        assert answer.cost_usd == pytest.approx(answer.prompt_tokens + 2 * answer.completion_tokens)
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", FAILED)
def test_what_is_a_failure_is_never_a_reply_and_never_kept(client, endpoint, server, name):
    shape, raw = FAILED[name], json.dumps(FAILED[name]["body"]).encode()
    server.answer = lambda body: raw
    with pytest.raises(InferenceError) as caught:
        client.run(client.chat(endpoint, HELLO))
    assert type(caught.value) is getattr(errors, shape["fails"])
    assert shape["says"] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == shape["tries"]
    assert len(client.cassette) == 0


@pytest.mark.parametrize("name", [name for name, shape in FAILED.items() if "choices" not in shape["body"]])
def test_an_error_in_place_of_embeddings_is_worded_alike(client, endpoint, server, name):
    shape = FAILED[name]
    server.others["score"] = lambda body: shape["body"]
    with pytest.raises(InferenceError) as caught:
        client.run(
            client.post(endpoint, "/score", {"input": "x"}, lambda raw: read_embeddings(raw, ["x"]), role="judge")
        )
    assert type(caught.value) is getattr(errors, shape["fails"])
    assert shape["says"] in str(caught.value)


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings_are_put_in_the_order_of_the_texts(name):
    shape = EMBEDDINGS[name]
    assert read_embeddings(json.dumps(shape["body"]).encode(), ["a", "b"]) == shape["reads"]


PAGES = [b"<html>\n<title>Sign in</title></html>", b"  <!DOCTYPE html>", b"Ollama is running"]


@pytest.mark.parametrize("page", PAGES)
def test_a_web_page_from_a_new_address_ends_the_run_at_once_and_points_at_it(client, endpoint, server, page):
    server.answer = lambda body: page
    with pytest.raises(EndpointRefused, match=r"`base_url` must be the API's address, which ends in /v1"):
        client.run(client.chat(endpoint, HELLO))
    assert len(server.requests) == 1


@pytest.mark.parametrize("page", PAGES)
def test_a_web_page_from_an_address_that_answered_before_is_the_weather(client, endpoint, server, page):
    client.run(client.chat(endpoint, HELLO))
    server.answer = lambda body: page
    with pytest.raises(Unreadable, match="ends in /v1"):
        client.run(client.chat(endpoint, HELLO, sample_index=1))
    assert len(server.requests) == 1 + 2


@pytest.mark.parametrize(
    "raw",
    [
        b'{"choices": [{"message": {"content": "Hi \xff there."}}]}',
        b"[" * 100_000,
        b'{"choices": ' + b"[" * 100_000,
        b'{"choices": [{"message": {"content": ' + b'[{"text": ' * 5_000 + b'"x"' + b"}]" * 5_000 + b"}}]}",
    ],
)
def test_damage_is_unreadable_and_never_a_traceback(client, endpoint, server, raw):
    server.answer = lambda body: raw
    with pytest.raises(CallFailed):
        client.run(client.chat(endpoint, HELLO))
    assert client.meter.total.failed == 1


@pytest.mark.parametrize("count", [10**400, -5, 1e300, "9" * 30, True, [7]])
def test_absurd_counts_are_unknown(client, endpoint, server, count):
    usage = {"prompt_tokens": count, "completion_tokens": count, "total_tokens": count}
    body = {"choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}], "usage": usage}
    server.answer = lambda asked: body
    answer = client.run(client.chat(endpoint, HELLO))
    assert (answer.text, answer.prompt_tokens, answer.completion_tokens) == ("Hi.", 0, 0)


def test_a_lone_surrogate_in_a_prompt_is_replaced(client, endpoint, server):
    client.run(client.chat(endpoint, [{"role": "user", "content": "Hi \ud83d!"}]))
    assert server.requests[0]["messages"][0]["content"] == "Hi \ufffd!"
