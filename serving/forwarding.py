"""Hands requests on to the frozen model's server, and its answers back as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from .upstream import Upstream, passed


async def forward(
    upstream: Upstream, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Response:
    """Hands a request on, and the answer back as it comes: a stream event by event, an error with its status.

    Raises:
        Problem: If the server cannot be reached, or does not answer in time.
    """
    own = dict(headers or {})
    if not body.get("stream"):
        reply = await upstream.post(path, body)
        return Response(reply.content, reply.status, {**reply.headers, **own})
    stack = AsyncExitStack()
    try:
        response = await stack.enter_async_context(upstream.open(path, body))
        if response.status != 200:
            content = await response.read()
            await stack.aclose()
            return Response(content, response.status, {**passed(response), **own})
    except BaseException:
        await stack.aclose()
        raise

    async def chunks() -> AsyncIterator[bytes]:
        async with stack:
            try:
                async for chunk in response.content.iter_any():
                    yield chunk
            except Exception as error:  # noqa: BLE001  (the status is sent: only the stream itself can say it)
                message = f"the stream of `{upstream.endpoint.model}` broke off ({type(error).__name__})"
                problem = {"error": {"message": message, "type": "api_error", "param": None, "code": "stream_broken"}}
                yield b"data: " + msgspec.json.encode(problem) + b"\n\n"

    return StreamingResponse(chunks(), 200, {**passed(response), **own})


async def overheard(parts: Any, tell: Callable[[bytes], None]) -> AsyncIterator[bytes]:
    """Hands a stream on, and tells what was in it if it came to its end."""
    heard = []
    try:
        async for part in parts:
            heard.append(part)
            yield part
    finally:
        await parts.aclose()
    tell(b"".join(heard))
