"""The error bodies of a dozen servers, as they are, with their right reading: `servers/errors_*.json`."""

import json
from pathlib import Path

import pytest

from duologue.inference.refusals import read_refusal
from duologue.inference.transport.parameters import Parameters, refused_parameter

SENT = {
    "model": "m",
    "messages": [],
    "temperature": 0.2,
    "top_p": 1.0,
    "max_tokens": 20,
    "logprobs": True,
    "top_logprobs": 20,
    "seed": 0,
    "stop": ["x"],
    "n": 1,
    "presence_penalty": 0.1,
}
CASES = [
    pytest.param(case, id=f"{path.stem.removeprefix('errors_')}-{number}")
    for path in sorted((Path(__file__).parent / "servers").glob("errors_*.json"))
    for number, case in enumerate(json.loads(path.read_text(encoding="utf-8")))
]


@pytest.mark.parametrize("case", CASES)
def test_a_refusal_is_read_as_it_is_meant(case):
    body = case["body"]
    refusal = read_refusal(case["status"], body.encode() if isinstance(body, str) else json.dumps(body).encode())
    assert case["says"] in refusal.text
    assert refused_parameter(refusal, SENT) == case.get("parameter")
    assert refusal.meaning.name == case["meaning"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b'"only text"', b"[" * 100_000, b"\xff\xfe", b'{"error": 7}']
)
def test_any_body_has_some_words(body):
    refusal = read_refusal(400, body)
    assert refusal.text
    assert len(refusal.text) < 320
    assert refused_parameter(refusal, SENT) is None


def test_a_parameter_is_sent_under_its_other_name_or_left_out():
    parameters = Parameters({"max_tokens": "max_completion_tokens", "temperature": None, "logprobs": None})
    assert parameters.adapt(SENT, keep=["temperature"]) == {
        "model": "m",
        "messages": [],
        "temperature": 0.2,
        "top_p": 1.0,
        "max_completion_tokens": 20,
        "seed": 0,
        "stop": ["x"],
        "n": 1,
        "presence_penalty": 0.1,
    }
    assert parameters.adapt({"model": "m"}) == {"model": "m"}


def test_a_bound_on_tokens_is_never_left_out():
    parameters = Parameters()
    unknown = [
        read_refusal(400, f"Unknown parameter: {name}".encode()) for name in ("max_tokens", "max_completion_tokens")
    ]
    assert parameters.learn(unknown[0], {"max_tokens": 5})
    assert not parameters.learn(unknown[1], {"max_completion_tokens": 5})
