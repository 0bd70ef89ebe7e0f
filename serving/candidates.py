"""Answers that are whole before they are sent: one chosen among candidates, plain or as a stream's events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from .upstream import Reply

_COUNTED = ("prompt_tokens", "completion_tokens", "total_tokens")


def merge(chosen: Sequence[Reply], asked: Sequence[Reply], logprobs: bool) -> dict[str, Any]:
    """One chat completion of the chosen candidates.

    Args:
        chosen: One for each choice.
        asked: All candidates: ``usage`` is what they took together, for that is what was billed.
        logprobs: Whether the client asked for logprobs; those that the policy needed are left out else.
    """
    bodies = [msgspec.json.decode(reply.content) for reply in chosen]
    choices = []
    for index, body in enumerate(bodies):
        choice = {**body["choices"][0], "index": index}
        if not logprobs:
            choice["logprobs"] = None
        choices.append(choice)
    usages = [msgspec.json.decode(reply.content).get("usage") for reply in asked]
    usage = {name: sum(_count(found, name) for found in usages) for name in _COUNTED}
    return {**bodies[0], "choices": choices, "usage": usage}


def _count(usage: object, name: str) -> int:
    """What a server says it took, as far as it says it in numbers."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**53 else 0


def as_asked(completion: Mapping[str, Any], body: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    """A completion as its request wants it: as JSON, or as a stream.

    Args:
        completion: See `merge`.
        body: The request.
        headers: Of the response.
    """
    if not body.get("stream"):
        return Response(msgspec.json.encode(completion), 200, headers, "application/json")
    with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    made = list(events(completion, with_usage))  # before the status is sent

    async def parts() -> AsyncIterator[bytes]:
        for part in made:
            yield part

    return StreamingResponse(parts(), 200, headers, "text/event-stream")


def events(completion: Mapping[str, Any], with_usage: bool) -> Iterator[bytes]:
    """The same as a stream of server-sent events: for each choice its role, its content and its end.

    Args:
        completion: See `merge`.
        with_usage: Whether a last chunk without choices carries the usage.
    """
    head = {name: completion[name] for name in ("id", "created", "model", "system_fingerprint") if name in completion}
    head["object"] = "chat.completion.chunk"
    for choice in completion["choices"]:
        message = {name: value for name, value in choice["message"].items() if value is not None}
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            message["tool_calls"] = [
                {"index": number, **call} for number, call in enumerate(calls) if isinstance(call, dict)
            ]
        role = message.pop("role", "assistant")
        content = message.pop("content", None)
        first: dict[str, Any] = {"role": role, "content": "" if content is not None else None, **message}
        yield _event(head, choice["index"], first, None, None)
        if content:
            yield _event(head, choice["index"], {"content": content}, None, choice.get("logprobs"))
        yield _event(head, choice["index"], {}, choice.get("finish_reason"), None)
    if with_usage:
        yield b"data: " + msgspec.json.encode({**head, "choices": [], "usage": completion["usage"]}) + b"\n\n"
    yield b"data: [DONE]\n\n"


def _event(head: Mapping[str, Any], index: int, delta: Mapping[str, Any], finish: str | None, logprobs: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
    return b"data: " + msgspec.json.encode({**head, "choices": [choice]}) + b"\n\n"
