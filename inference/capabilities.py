"""Probes the capabilities of an endpoint's API by a few short requests, bypassing the cassette."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..core.errors import InferenceError
from .client import InferenceClient
from .endpoint import Endpoint
from .transport.bounds import LONGEST
from .transport.limiter import OVERLOADED

_SHORT, _LONGER = "Say one word.", "Invent a village: its name, and in one sentence what grows there."
_TOKENS, _MORE_TOKENS = 8, 24
"""What is asked, and how many tokens are asked for where the endpoint's sampling bounds them."""


@dataclass(frozen=True)
class Capability:
    """One thing that an API can do or not.

    Attributes:
        name: Such as ``n``.
        works: Whether the answer shows it; None if the request failed in a way that says nothing about it.
        text: The observed text.
        matters: What needs it, and what to set where it is missing.
    """

    name: str
    works: bool | None
    text: str
    matters: str


async def probe(client: InferenceClient, endpoint: Endpoint) -> list[Capability]:
    """Asks an endpoint for each capability that Duologue can make use of; seven requests, more where it refuses parameters.

    Args:
        client: One without a cassette, since old answers say nothing.
        endpoint: Endpoint with its own sampling.

    Returns:
        The capability ``chat`` first, and ``parameters`` after it if there are some that the endpoint does not take.

    Raises:
        InferenceError: If it does not answer at all.
    """
    began = time.monotonic()
    body = await _ask(client, endpoint, {})
    told = f"answers in {time.monotonic() - began:.1f} s, with{'' if body.get('usage') else 'out'} token counts"
    if _thought_only(body):
        told += f"; spent all {_TOKENS} tokens on reasoning, so every `max_tokens` must leave room for that"
    found = [
        Capability("chat", True, told, "everything; without token counts costs by token are not known"),
        await _tried(client, endpoint, "n", {"n": 2}, "nothing: candidates are asked for one by one"),
        await _tried(
            client,
            endpoint,
            "logprobs",
            {"logprobs": True},
            "candidate features of `select`, expected grades of `llm`; without: interface.logprobs=false",
        ),
        await _tried(
            client, endpoint, "top_logprobs", {"logprobs": True, "top_logprobs": 2}, "interface.top_logprobs above 0"
        ),
        await _tried(client, endpoint, "seed", {"seed": 7}, "answers that the server could give again"),
        await _differing(client, endpoint),
    ]
    parameters = client.meter.parameters.get(endpoint.identity)
    if parameters is not None and parameters.changes:
        matters = "nothing: requests are adapted after the first refusal"
        found.insert(1, Capability("parameters", False, str(parameters), matters))
    return found


async def _tried(
    client: InferenceClient, endpoint: Endpoint, name: str, fields: Mapping[str, Any], matters: str
) -> Capability:
    try:
        body = await _ask(client, endpoint, fields, keep=fields)
    except InferenceError as error:
        return _refused(name, error, matters)
    works, text = _shown(name, body)
    return Capability(name, works, text, matters)


async def _differing(client: InferenceClient, endpoint: Endpoint) -> Capability:
    """Whether two samples of one question differ; they do not if the server ignores `temperature`."""
    name, matters = (
        "different samples",
        "`select` and every comparison of candidates: equal ones leave nothing to choose",
    )
    try:
        bodies = [await _ask(client, endpoint, {"temperature": 1.0}, question=_LONGER, sample=i) for i in range(2)]
    except InferenceError as error:
        return _refused(name, error, matters)
    texts = [(body["choices"][0].get("message") or {}).get("content") for body in bodies]
    if not all(texts):
        return Capability(name, None, "no text to compare", matters)
    if texts[0] == texts[1]:
        return Capability(name, False, f"two samples of one question are equal: {str(texts[0])[:60]!r}", matters)
    return Capability(name, True, "two samples of one question differ", matters)


def _refused(name: str, error: InferenceError, matters: str) -> Capability:
    """The capability whose request failed: a refusal shows that it is missing, anything else shows nothing."""
    said = " ".join(str(error).split())
    if error.status is None or error.status in OVERLOADED:
        return Capability(name, None, f"no answer ({said[:200]})", matters)
    return Capability(name, False, f"refused ({said[:200]})", matters)


def _thought_only(body: Mapping[str, Any]) -> bool:
    """Whether an answer was cut before its text began."""
    choice = body["choices"][0]
    return choice.get("finish_reason") == "length" and not (choice.get("message") or {}).get("content")


def _shown(name: str, body: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether an answer shows a capability; an ignored field leaves its part of the answer empty."""
    choices = body.get("choices") or [{}]
    content = (choices[0].get("logprobs") or {}).get("content") or [{}]
    match name:
        case "n":
            return len(choices) > 1, f"{len(choices)} answers to one request of two"
        case "logprobs":
            works = "logprob" in content[0]
            return works, "given" if works else "ignored"
        case "top_logprobs":
            works = bool(content[0].get("top_logprobs"))
            return works, f"{len(content[0]['top_logprobs'])} alternatives" if works else "ignored"
        case _:
            return True, "accepted; whether it is heeded cannot be seen"


async def _ask(
    client: InferenceClient,
    endpoint: Endpoint,
    fields: Mapping[str, Any],
    *,
    question: str = _SHORT,
    sample: int = 0,
    keep: Collection[str] = (),
) -> dict[str, Any]:
    """One request with the endpoint's own sampling, its bound on tokens made small."""

    def read(raw: bytes) -> dict[str, Any]:
        body = msgspec.json.decode(raw, type=dict[str, Any])
        if not body.get("choices"):
            raise ValueError("no `choices`")
        return body

    tokens = _TOKENS if question == _SHORT else _MORE_TOKENS
    own = {
        name: min(value, tokens) if name in LONGEST and isinstance(value, int) else value
        for name, value in endpoint.sampling.body(sample).items()
    }
    body = {"messages": [{"role": "user", "content": question}], **own, **fields}
    answer, _ = await client.post(endpoint, "/chat/completions", body, read, keep=keep, role="doctor")
    return answer
