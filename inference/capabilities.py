"""What an endpoint's API can do, by asking it: a few short requests past the cassette."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from .client import InferenceClient
from .endpoint import Endpoint
from .errors import CallFailed, InferenceError

QUESTION = {"messages": [{"role": "user", "content": "Say one word."}], "max_tokens": 8}
"""What is asked: everything that has tokens to bill is short."""


@dataclass(frozen=True)
class Capability:
    """One thing that an API can do or not.

    Attributes:
        name: Such as ``n``.
        works: Whether the answer shows it; None if the request failed in a way that says nothing about it.
        text: What was seen.
        matters: What needs it, and what to set where it is missing.
    """

    name: str
    works: bool | None
    text: str
    matters: str


async def probe(client: InferenceClient, endpoint: Endpoint) -> list[Capability]:
    """Asks an endpoint for each capability that Duologue can make use of; six requests.

    Args:
        client: One without a cassette, since old answers say nothing.
        endpoint: Who is asked.

    Returns:
        The capability ``chat`` first.

    Raises:
        InferenceError: If it does not answer at all.
    """
    began = time.monotonic()
    body = await _ask(client, endpoint, {})
    told = f"answers in {time.monotonic() - began:.1f} s, with{'' if body.get('usage') else 'out'} token counts"
    return [
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
        await _tried(client, endpoint, "logit_bias", {"logit_bias": {"1000": -100}}, "judges with single-token grades"),
    ]


async def _tried(
    client: InferenceClient, endpoint: Endpoint, name: str, fields: Mapping[str, Any], matters: str
) -> Capability:
    try:
        body = await _ask(client, endpoint, fields)
    except CallFailed as error:
        return Capability(name, None, f"no answer ({' '.join(str(error).split())[:120]})", matters)
    except InferenceError as error:
        return Capability(name, False, f"refused ({' '.join(str(error).split())[:120]})", matters)
    works, text = _shown(name, body)
    return Capability(name, works, text, matters)


def _shown(name: str, body: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether an answer shows a capability; a field that a server ignores shows in what is missing."""
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


async def _ask(client: InferenceClient, endpoint: Endpoint, fields: Mapping[str, Any]) -> dict[str, Any]:
    def read(raw: bytes) -> dict[str, Any]:
        body = msgspec.json.decode(raw, type=dict[str, Any])
        if not body.get("choices"):
            raise ValueError("no `choices`")
        return body

    answer, _ = await client.post(endpoint, "/chat/completions", {**QUESTION, **fields}, read, role="doctor")
    return answer
