"""Hands requests on to the frozen model's server, and its answers back as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from .upstream import Upstream

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
) -> Response:
    """Hands a request on, and the answer back as it comes: a stream event by event, an error with its status.

    Args:
        upstream: Who is asked.
        path: After the address.
        body: The request.
        headers: Of the response, beside those that are handed on.
        model: The name that the answer carries; None for the one that it comes with.

    Raises:
        Problem: If the server cannot be reached, or does not answer in time.
    """
    own = dict(headers or {})
    if not body.get("stream"):
        reply = await upstream.post(path, body)
        content = reply.content if model is None or not reply.ok else renamed(reply.content, model)
        return Response(content, reply.status, {**reply.headers, **own})
    stack = AsyncExitStack()
    try:
        response = await stack.enter_async_context(upstream.open(path, body))
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
    """A completion, or a chunk of one, under a model's name; what is no JSON object is left alone."""
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
    """Hands a stream on, and tells what was in it if it came to its end and holds at most so many bytes."""
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
