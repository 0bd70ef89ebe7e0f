"""A local model with an adapter behind the API: nobody else is asked, and the same request gets the same answer."""

import json

import pytest
from starlette.testclient import TestClient

from duologue.commands.serve import Settings, make_service
from duologue.inference import ConfigError, InferenceClient
from duologue.serving import Limits, build_app
from duologue.tests.agents.lora.conftest import configured_for, tiny  # noqa: F401


@pytest.fixture
def adapter(configured_for, tmp_path):  # noqa: F811
    from duologue.agents.lora import train

    train(configured_for("grpo", "agent.save_strategy=no", "agent.learning_rate=0.0001"), tmp_path / "trained")
    return tmp_path / "trained"


@pytest.fixture
def api(adapter):
    client = InferenceClient()
    service = make_service(Settings(policy=str(adapter), alias="mine"), client)
    with TestClient(build_app(service, Limits()), "http://localhost") as made:
        yield made
    client.close()


def ask(api, **fields):
    return api.post(
        "/v1/chat/completions", json={"model": "mine", "messages": [{"role": "user", "content": "old"}], **fields}
    )


def test_it_answers_by_the_api(api):
    body = ask(api, max_tokens=5).json()
    assert (body["object"], body["model"]) == ("chat.completion", "mine")
    assert body["choices"][0]["message"]["role"] == "assistant"
    usage = body["usage"]
    assert 0 < usage["completion_tokens"] <= 5
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert ask(api, max_tokens=5).json()["choices"] == body["choices"]
    assert [model["id"] for model in api.get("/v1/models").json()["data"]] == ["mine"]


def test_choices_and_seeds_are_samples_of_their_own(api):
    texts = [choice["message"]["content"] for choice in ask(api, n=4).json()["choices"]]
    assert len(set(texts)) > 1
    assert ask(api, seed=7).json()["choices"] != ask(api).json()["choices"]
    greedy = [choice["message"]["content"] for choice in ask(api, n=3, temperature=0).json()["choices"]]
    assert len(set(greedy)) == 1


def test_a_stream_says_the_same(api):
    plain = ask(api, max_tokens=5).json()["choices"][0]
    response = ask(api, max_tokens=5, stream=True)
    *chunks, done = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert done == "[DONE]"
    deltas = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert "".join(delta["delta"].get("content") or "" for delta in deltas) == plain["message"]["content"]
    assert deltas[-1]["finish_reason"] == plain["finish_reason"]


@pytest.mark.parametrize("fields", [{"temperature": -1}, {"top_p": 2}, {"temperature": "hot"}])
def test_what_cannot_be_sampled_is_refused(api, fields):
    response = ask(api, **fields)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_it_has_no_frozen_model_behind_it(adapter):
    client = InferenceClient()
    with pytest.raises(ConfigError, match="there is no frozen model behind it: leave `upstream`"):
        make_service(Settings(policy=str(adapter), alias="mine", canary=0.5), client)
    client.close()
