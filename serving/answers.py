"""Answers of the server: forwarded from the upstream as they come, or sent whole, plain or as a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from .upstream import Reply, Upstream

_COUNTED = ("prompt_tokens", "completion_tokens", "total_tokens")


def merge(chosen: Sequence[Reply], asked: Sequence[Reply], logprobs: bool) -> dict[str, Any]:
    """Merges the chosen candidates into one chat completion.

    Args:
        chosen: One for each choice.
        asked: All candidates: ``usage`` is what they took together, for that is what was billed.
        logprobs: Whether the client asked for logprobs; those that the policy needed are left out else.

    Returns:
        The completion, as JSON values.
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
    """The numbers in a server's ``usage``."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**53 else 0


def as_asked(completion: Mapping[str, Any], body: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    """Sends a completion in the form that the request asked for: JSON or a stream.

    Args:
        completion: See `merge`.
        body: The request.
        headers: Headers of the response.

    Returns:
        The response.
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
    """Sends a completion as server-sent events: per choice its role, content and end.

    Args:
        completion: See `merge`.
        with_usage: Whether a last chunk without choices carries the usage.

    Yields:
        Events as bytes.
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


_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
"""Reads an object's names and leaves its values as they are."""

_LINE_BYTES = 2**22
"""Of a stream's event, at most."""


async def forward(
    upstream: Upstream,
    path: str,
    body: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
    model: str | None = None,
    keep: Collection[str] | None = None,
) -> Response:
    """Forwards a request, and the answer as it comes: a stream event by event, an error with its status.

    Args:
        upstream: The frozen model's server.
        path: After the address.
        body: The request.
        headers: Headers of the response besides forwarded ones.
        model: The name that the answer carries; None for the one that it comes with.
        keep: See `Upstream.open`.

    Returns:
        The response.

    Raises:
        Problem: If the server cannot be reached, or does not answer in time.
    """
    own = dict(headers or {})
    if not body.get("stream"):
        reply = await upstream.post(path, body, keep)
        content = reply.content if model is None or not reply.ok else renamed(reply.content, model)
        return Response(content, reply.status, {**reply.headers, **own})
    stack = AsyncExitStack()
    try:
        response = await stack.enter_async_context(upstream.open(path, body, keep))
        if response.status != 200:
            content = await response.read()
            await stack.aclose()
            return Response(content, response.status, {**response.headers, **own})
    except BaseException:
        await stack.aclose()
        raise

    async def chunks() -> AsyncIterator[bytes]:
        async with stack:
            try:
                parts = response.parts()
                async for chunk in parts if model is None else _renamed_stream(parts, model):
                    yield chunk
            except Exception as error:  # noqa: BLE001  (the status is sent: only the stream itself can say it)
                message = f"the stream of `{upstream.endpoint.model}` broke off ({type(error).__name__})"
                problem = {"error": {"message": message, "type": "api_error", "param": None, "code": "stream_broken"}}
                yield b"\n\ndata: " + msgspec.json.encode(problem) + b"\n\n"  # what broke off ends with its line

    return StreamingResponse(chunks(), 200, {**response.headers, **own})


def renamed(content: bytes, model: str) -> bytes:
    """Sets the model's name in a completion or a chunk; anything but a JSON object stays unchanged."""
    try:
        fields: dict[str, Any] = _FIELDS.decode(content)
        return msgspec.json.encode({**fields, "model": model}) if "model" in fields else content
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return content


async def _renamed_stream(parts: AsyncIterator[bytes], model: str) -> AsyncIterator[bytes]:
    """Server-sent events under a model's name, line by line: a line is held back until it is whole."""
    rest = b""
    async for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) > _LINE_BYTES:
            raise ValueError("an event of the stream is too long")
        if lines:
            yield b"\n".join([*(_renamed_line(line, model) for line in lines), b""])
    if rest:
        yield _renamed_line(rest, model)


def _renamed_line(line: bytes, model: str) -> bytes:
    if not line.startswith(b"data:") or b"{" not in line:
        return line
    return b"data: " + renamed(line[5:].strip(), model)


async def overheard(parts: Any, tell: Callable[[bytes], None], most: int) -> AsyncIterator[bytes]:
    """Forwards a stream, and reports its content if it is complete and not too long."""
    heard = bytearray()
    try:
        async for part in parts:
            if len(heard) <= most:
                heard += part
            yield part
    finally:
        await parts.aclose()
    if len(heard) <= most:
        tell(bytes(heard))
