"""What is said of an API is what its answers show."""

import pytest

from duologue.inference import EndpointRefused, InferenceClient
from duologue.inference.capabilities import probe
from duologue.tests.conftest import chat_body
from duologue.tests.inference.fault_server import refuses


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
    assert len(server.requests) == 7


def test_a_server_that_can_do_everything(server, asked):
    def answer(body):
        full = chat_body(f"one {body['seed']}", logprobs=bool(body.get("logprobs")))
        if "top_logprobs" in body:
            full["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = [{"token": "a", "logprob": -1.0}] * 2
        full["choices"] = full["choices"] * body.get("n", 1)
        return full

    server.answer = answer
    assert all(found.works for found in asked().values())


@pytest.mark.parametrize(
    "refusal",
    [
        (400, {"error": {"message": "logprobs are not supported"}}),
        (400, {"error": {"message": "bad request: logprobs"}}),
        (500, {"error": {"message": "internal error: logprobs"}}),
    ],
)
def test_a_field_that_is_refused_is_no_failure_of_the_endpoint(server, asked, refusal):
    server.answer = lambda body: refusal if body.get("logprobs") else "one"
    found = asked()
    assert found["logprobs"].works is False
    assert found["logprobs"].text.startswith("refused (")
    assert refusal[1]["error"]["message"] in found["logprobs"].text
    assert found["seed"].works


def test_an_overloaded_server_says_nothing_of_a_field(server, asked):
    server.answer = lambda body: (503, {"error": {"message": "busy"}}) if body.get("logprobs") else "one"
    found = asked()
    assert found["logprobs"].works is None
    assert found["logprobs"].text.startswith("no answer (")


def test_parameters_that_the_endpoint_does_not_take_are_told(server, asked):
    server.answer = refuses("openai", "max_tokens", "temperature")
    found = asked()
    assert found["chat"].works
    assert found["parameters"].text == "`max_tokens` is sent as `max_completion_tokens`, `temperature` is left out"
    assert (
        server.requests[-1]["max_completion_tokens"] == 20
    )  # the endpoint's own, which is below the 24 of this question


def test_a_server_that_gives_the_same_sample_twice_is_found(server, asked):
    server.answer = lambda body: "Ever the same."
    found = asked()
    assert found["different samples"].works is False
    assert "two samples of one question are equal: 'Ever the same.'" in found["different samples"].text


def test_a_model_that_only_thinks_within_the_bound_is_told(server, asked):
    server.answer = lambda body: chat_body("", finish_reason="length", reasoning_content="Hm. So.")
    found = asked()
    assert "spent all 8 tokens on reasoning" in found["chat"].text
    assert found["different samples"].works is None


def test_an_endpoint_that_does_not_answer_at_all_is_an_error(server, asked):
    server.answer = lambda body: (401, {"error": {"message": "wrong key"}})
    with pytest.raises(EndpointRefused, match="wrong key"):
        asked()
