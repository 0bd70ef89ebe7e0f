"""What is said of an API is what its answers show."""

import pytest

from duologue.inference import EndpointRefused, InferenceClient
from duologue.inference.capabilities import probe
from duologue.tests.conftest import chat_body


@pytest.fixture
def asked(endpoint):
    """Returns the capabilities by name."""

    def ask() -> dict:
        client = InferenceClient()
        try:
            return {found.name: found for found in client.run(probe(client, endpoint))}
        finally:
            client.close()

    return ask


def test_a_server_that_ignores_fields_is_seen_through(server, asked):
    server.logprobs = False
    found = asked()
    assert found["chat"].works
    assert "with token counts" in found["chat"].text
    assert [found[name].works for name in ("n", "logprobs", "top_logprobs", "seed")] == [False, False, False, True]
    assert found["logprobs"].text == "ignored"
    assert len(server.requests) == 6


def test_a_server_that_can_do_everything(server, asked):
    def answer(body):
        full = chat_body("one", logprobs=bool(body.get("logprobs")))
        if "top_logprobs" in body:
            full["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = [{"token": "a", "logprob": -1.0}] * 2
        full["choices"] = full["choices"] * body.get("n", 1)
        return full

    server.answer = answer
    assert all(found.works for found in asked().values())


def test_a_field_that_is_refused_is_no_failure_of_the_endpoint(server, asked):
    refusal = (400, {"error": {"message": "logprobs are not supported"}})
    server.answer = lambda body: refusal if body.get("logprobs") or "logit_bias" in body else "one"
    found = asked()
    assert found["logprobs"].works is not True
    assert "logprobs are not supported" in found["logprobs"].text
    assert found["seed"].works


def test_an_endpoint_that_does_not_answer_at_all_is_an_error(server, asked):
    server.answer = lambda body: (401, {"error": {"message": "wrong key"}})
    with pytest.raises(EndpointRefused, match="wrong key"):
        asked()
