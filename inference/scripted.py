"""Endpoints that answer by a rule: an OpenAI-compatible server in this process, for tasks that need no model.

Address ``embedded://<name>`` for every registered name. It is a real server on a free loopback port, so that everything
between a policy and a model is the same as with one; only the thinking is missing.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from .completion import Message

Answer = Callable[[Sequence[Message], int, str], str]
"""From the messages, a seed and the model's name to the text of the answer."""

_dumps = json.JSONEncoder(separators=(",", ":")).encode


class ScriptedServer:
    """Serves an `Answer` on a separate thread and event loop.

    Args:
        answer: What it says.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted", daemon=True)
        self._thread.start()
        self._runner, self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def stop(self) -> None:
        """Closes the server and cuts running calls."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(timeout=5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    async def _start(self) -> tuple[web.AppRunner, str]:
        app = web.Application(client_max_size=16 * 1024**2)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._models)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        return runner, f"http://{host}:{port}/v1"

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = self._answer(body["messages"], int(body.get("seed") or 0), str(body.get("model")))
        most = body.get("max_tokens") or body.get("max_completion_tokens")
        words = text.split(" ")
        cut = most is not None and len(words) > most
        words = words[:most] if cut else words
        logprobs = _logprobs(words) if body.get("logprobs") else None
        message = {"role": "assistant", "content": " ".join(words)}
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "length" if cut else "stop"}
        asked = sum(len(m["content"].split()) for m in body["messages"])
        usage = {"prompt_tokens": asked, "completion_tokens": len(words), "total_tokens": asked + len(words)}
        answer = {"id": "scripted", "object": "chat.completion", "created": 0, "model": str(body.get("model"))}
        if body.get("stream"):
            with_usage = (body.get("stream_options") or {}).get("include_usage")
            return await _streamed(request, answer, choice, usage if with_usage else None)
        return web.json_response({**answer, "choices": [choice], "usage": usage}, dumps=_dumps)

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "rules", "object": "model"}]})


async def _streamed(
    request: web.Request, answer: Mapping[str, Any], choice: Mapping[str, Any], usage: Mapping[str, int] | None
) -> web.StreamResponse:
    """Streams an answer as server-sent events, one word each."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    words = choice["message"]["content"].split(" ")
    parts = [words[0], *(f" {word}" for word in words[1:])]
    deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}, *({"content": part} for part in parts), {}]
    head = {**answer, "object": "chat.completion.chunk"}
    for delta in deltas:
        reason = None if delta else choice["finish_reason"]
        await _event(response, {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
    if usage is not None:
        await _event(response, {**head, "choices": [], "usage": usage})
    await response.write(b"data: [DONE]\n\n")
    return response


async def _event(response: web.StreamResponse, chunk: Mapping[str, Any]) -> None:
    await response.write(f"data: {_dumps(chunk)}\n\n".encode())


def _logprobs(words: Sequence[str]) -> Mapping[str, Any]:
    """Certainty: a rule has no doubts."""
    return {"content": [{"token": word, "logprob": 0.0, "top_logprobs": []} for word in words]}
