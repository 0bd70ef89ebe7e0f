"""The least that a proxy in Starlette can do: hands a request on and the answer back. What `serving` is compared with.

Usage: python bare_proxy.py BASE_URL PORT
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

_TARGET = f"{sys.argv[1]}/chat/completions" if len(sys.argv) > 1 else ""
_SESSIONS: list[aiohttp.ClientSession] = []


async def handle(request: Request) -> Response:
    """Hands one request on."""
    if not _SESSIONS:
        _SESSIONS.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    content = await request.body()
    headers = {"Content-Type": "application/json"}
    if b'"stream":true' not in content:
        async with _SESSIONS[0].post(_TARGET, data=content, headers=headers) as response:
            return Response(await response.read(), response.status, media_type="application/json")
    upstream = await _SESSIONS[0].post(_TARGET, data=content, headers=headers)

    async def chunks() -> AsyncIterator[bytes]:
        async with upstream:
            async for chunk in upstream.content.iter_any():
                yield chunk

    return StreamingResponse(chunks(), upstream.status, media_type="text/event-stream")


if __name__ == "__main__":
    app = Starlette(routes=[Route("/v1/chat/completions", handle, methods=["POST"])])
    uvicorn.run(app, port=int(sys.argv[2]), log_config=None, access_log=False)
