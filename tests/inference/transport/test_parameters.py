"""Parameters that an endpoint does not take are learnt from its refusals, for every role, and asked for once."""

import asyncio
import json
from dataclasses import replace

import pytest

from duologue.inference import BudgetSpent, Cassette, EndpointRefused, InferenceClient, Rejected, Sampling
from duologue.inference.budget.budget import Budget, Limits
from duologue.tests.inference.fault_server import refuses

HELLO = [{"role": "user", "content": "Hello"}]
FULL = Sampling(temperature=0.2, top_p=0.9, max_tokens=20, seed=0)
STYLES = ["openai", "azure", "vllm"]


@pytest.mark.parametrize("style", STYLES)
def test_what_is_refused_is_left_out_or_renamed_from_then_on(client, endpoint, server, style):
    server.answer = refuses(style, "max_tokens", "temperature", "seed")
    for i in range(3):
        assert client.run(client.chat(endpoint, HELLO, sampling=FULL, sample_index=i)).text == "Fine."
    assert len(server.requests) == 3 + 3
    assert server.requests[-1] == {"model": "fake", "messages": HELLO, "top_p": 0.9, "max_completion_tokens": 20}
    assert client.meter.summary()["parameters"] == {
        endpoint.identity: {
            "left_out": ["seed", "temperature"],
            "renamed": {"max_tokens": "max_completion_tokens"},
            "refused_requests": 3,
        }
    }
    assert client.meter.total.failed == 0


@pytest.mark.parametrize("status", [500, 501])
def test_an_internal_error_that_names_the_parameter_is_read_too(client, endpoint, server, status):
    refused = refuses("openai", "temperature")
    server.answer = lambda body: (status, refused(body)[1]) if "temperature" in body else "Fine."
    assert client.run(client.chat(endpoint, HELLO, sampling=FULL)).text == "Fine."
    assert len(server.requests) == 2


def test_all_roles_of_an_endpoint_know_it(client, endpoint, server):
    server.answer = refuses("openai", "temperature")
    for index, role in enumerate(["judge", "user", "baseline", "assistant"]):
        client.run(client.chat(endpoint, HELLO, sampling=FULL, role=role, sample_index=index))
    assert len(server.requests) == 4 + 1
    other = replace(endpoint, model="other")  # of which nothing is known
    client.run(client.chat(other, HELLO, sampling=FULL))
    assert len(server.requests) == 4 + 1 + 2


def test_of_many_calls_one_finds_out_what_else_is_refused(client, endpoint, server):
    """All that are under way may be refused once; after that one call learns, and the others wait for it."""
    server.answer = refuses("openai", "max_tokens", "temperature", "top_p", "seed")
    server.delay_s = lambda body: 0.02

    async def many():
        calls = (client.chat(endpoint, HELLO, sampling=FULL, sample_index=i) for i in range(200))
        return await asyncio.gather(*calls)

    assert {answer.text for answer in client.run(many())} == {"Fine."}
    assert len(server.requests) <= 200 + endpoint.max_concurrency + 3


def test_the_cassette_is_keyed_by_what_was_asked_for(tmp_path, endpoint, server):
    client = InferenceClient(Cassette(tmp_path / "c.sqlite"))
    client.run(client.chat(endpoint, HELLO, sampling=FULL))  # recorded by a server that takes everything
    server.answer = refuses("openai", "temperature")
    assert client.run(client.chat(endpoint, HELLO, sampling=FULL)).reused
    client.run(client.chat(endpoint, HELLO, sampling=FULL, sample_index=1))
    client.close()
    replay = InferenceClient(Cassette(tmp_path / "c.sqlite", "replay"))
    assert [replay.run(replay.chat(endpoint, HELLO, sampling=FULL, sample_index=i)).reused for i in range(2)] == [
        True
    ] * 2
    replay.close()


def test_a_refused_request_counts_in_the_budget_and_has_no_tokens(client, endpoint, server):
    server.answer = refuses("openai", "temperature", "top_p")
    client.bounds.budget = Budget(Limits(requests=4))
    client.run(client.chat(endpoint, HELLO, sampling=FULL))
    assert client.spent()["requests"] == 3
    assert client.spent()["tokens"] == 7 + 1
    client.run(client.chat(endpoint, HELLO, sampling=FULL, sample_index=1))
    with pytest.raises(BudgetSpent):
        client.run(client.chat(endpoint, HELLO, sampling=FULL, sample_index=2))
    assert len(server.requests) == 4


def test_a_run_that_goes_on_knows_what_it_had_learnt(tmp_path, endpoint, server):
    server.answer = refuses("openai", "temperature")
    for index in range(2):
        client = InferenceClient()
        with client.ledger(tmp_path / "ledger.json"):
            client.run(client.chat(endpoint, HELLO, sampling=FULL, sample_index=index))
        client.close()
    assert len(server.requests) == 2 + 1
    assert json.loads((tmp_path / "ledger.json").read_text())["parameters"] == {
        endpoint.identity: {"temperature": None}
    }


@pytest.mark.parametrize(
    ("name", "asked", "cure"),
    [
        ("logprobs", {"logprobs": True}, r"set `interface.logprobs=false`"),
        ("temperature", {"keep": ["temperature"]}, r"set it to null or leave it out"),
    ],
)
def test_what_the_caller_needs_is_an_error_with_the_cure(client, endpoint, server, name, asked, cure):
    server.answer = refuses("openai", name)
    with pytest.raises(EndpointRefused, match=rf"does not take `{name}` \(400: Unsupported.*{cure}"):
        client.run(client.chat(endpoint, HELLO, sampling=FULL, **asked))
    assert len(server.requests) == 1


def test_logprobs_that_are_only_welcome_are_done_without(client, endpoint, server):
    server.answer = refuses(
        "azure", "logprobs", answer=lambda body: "Fine." if "top_logprobs" not in body else (500, {})
    )
    answer = client.run(client.chat(endpoint, HELLO, logprobs=True, top_logprobs=5, logprobs_required=False))
    assert (answer.text, answer.logprobs) == ("Fine.", None)


def test_a_value_that_is_out_of_range_is_the_users_mistake(client, endpoint, server):
    said = "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead."
    server.answer = lambda body: (
        400,
        {"error": {"message": said, "param": "temperature", "code": "decimal_above_max_value"}},
    )
    with pytest.raises(Rejected, match="Expected a value <= 2"):
        client.run(client.chat(endpoint, HELLO, sampling=Sampling(temperature=3.0)))
    assert len(server.requests) == 1


def test_a_server_that_takes_neither_name_of_the_bound_is_not_asked_without_one(client, endpoint, server):
    server.answer = refuses("vllm", "max_tokens", "max_completion_tokens")
    with pytest.raises(EndpointRefused, match="does not take `max_completion_tokens`"):
        client.run(client.chat(endpoint, HELLO, sampling=FULL))
    assert len(server.requests) == 2
