"""The HTTP surface: routes, keys, limits, and what happens when a client hangs up."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from .chat_request import checked
from .completions import Service
from .feedback import Feedback
from .forwarding import forward
from .problem import ClientGone, Problem


@dataclass(frozen=True)
class Limits:
    """What one server takes on.

    Attributes:
        max_body_bytes: Of a request.
        max_messages: Of a chat request.
        max_concurrency: Requests under way at once; more are answered with 429.
        keys: Bearer keys that are accepted; empty for no keys at all.
    """

    max_body_bytes: int = 4_000_000
    max_messages: int = 500
    max_concurrency: int = 1000
    keys: Sequence[str] = field(default=(), repr=False)


class _Door:
    """Lets requests in, one by one."""

    def __init__(self, service: Service, limits: Limits) -> None:
        self.service, self.limits = service, limits
        self._under_way = 0

    async def __call__(self, request: Request, handle: Callable[[Any], Awaitable[Response]]) -> Response:
        """Checks a request, answers it and counts it."""
        metrics, began, model = self.service.metrics, time.perf_counter(), "unknown"
        self._under_way += 1
        metrics.in_flight.inc()
        streaming = False
        try:
            self._check_key(request)
            if self._under_way > self.limits.max_concurrency:
                raise Problem(
                    429, f"{self.limits.max_concurrency} requests are under way: try again", "rate_limit_error"
                )
            body = await self._body(request)
            if isinstance(body, dict) and body.get("model") in (*self.service.own, *self.service.base_models):
                model = body["model"]
            response = await unless_gone(request, handle(body))
            if isinstance(response, StreamingResponse):
                streaming = True
                response.body_iterator = self._counted(response.body_iterator)
        except Problem as problem:
            response = problem.response()
        except ClientGone:
            metrics.clients_gone.inc()
            response = Response(status_code=499)
        finally:
            if not streaming:
                self._leave()
        metrics.requests.labels(model, str(response.status_code)).inc()
        metrics.seconds.labels(model).observe(time.perf_counter() - began)
        return response

    def _leave(self) -> None:
        self._under_way -= 1
        self.service.metrics.in_flight.dec()

    async def _counted(self, parts: Any) -> AsyncIterator[bytes]:
        """A stream is under way until its end, or until its client hangs up, which ends the call to the model."""
        try:
            async for part in parts:
                yield part
        finally:
            self._leave()
            await parts.aclose()

    def _check_key(self, request: Request) -> None:
        if not self.limits.keys:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        known = [hmac.compare_digest(given.strip().encode(), key.encode()) for key in self.limits.keys]  # all of them
        if scheme.lower() != "bearer" or not any(known):
            raise Problem(401, "Incorrect API key provided", "authentication_error", "invalid_api_key")

    async def _body(self, request: Request) -> Any:
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > self.limits.max_body_bytes:
                raise Problem(413, f"The body is longer than {self.limits.max_body_bytes:,} bytes")
        try:
            return msgspec.json.decode(bytes(content))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Problem(400, f"The body is no JSON: {error}") from error


async def unless_gone(request: Request, work: Awaitable[Response]) -> Response:
    """Does the work, or breaks it off when the client hangs up.

    Raises:
        ClientGone: If it did.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def build_app(service: Service, limits: Limits | None = None, feedback: Feedback | None = None) -> Starlette:
    """The ASGI application.

    Args:
        service: What answers.
        limits: What is taken on.
        feedback: Keeps what people thought of answers; None for no such route.
    """
    door = _Door(service, limits or Limits())
    started = int(time.time())

    async def chat(request: Request) -> Response:
        async def handle(body: Any) -> Response:
            return await service.answer(checked(body, door.limits.max_messages, service.max_choices))

        return await door(request, handle)

    async def embeddings(request: Request) -> Response:
        async def handle(body: Any) -> Response:
            if not isinstance(body, dict):
                raise Problem(400, f"The body must be a JSON object, not {type(body).__name__}")
            upstream = service.base_models.get(str(body.get("model"))) or next(iter(service.upstreams.values()), None)
            if upstream is None:
                raise Problem(404, "No model here makes embeddings", code="model_not_found", param="model")
            return await forward(upstream, "/embeddings", body)

        return await door(request, handle)

    async def rated(request: Request) -> Response:
        assert feedback is not None
        return await door(request, feedback.add)

    async def models(request: Request) -> Response:
        try:
            door._check_key(request)
        except Problem as problem:
            return problem.response()
        owners = {**dict.fromkeys(service.base_models, "upstream"), **dict.fromkeys(service.own, "duologue")}
        data = [
            {"id": name, "object": "model", "created": started, "owned_by": owner} for name, owner in owners.items()
        ]
        return _json({"object": "list", "data": data})

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def healthy(request: Request) -> Response:
        return _json({"status": "ok"})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.ready = True
        yield
        app.state.ready = False
        if service.watch is not None:
            await service.watch.aclose()
        await asyncio.gather(*(one.aclose() for one in [*service.upstreams.values(), *service.routes.values()]))

    async def ready(request: Request) -> Response:
        up = getattr(request.app.state, "ready", False)
        return _json({"status": "ready" if up else "starting"}, 200 if up else 503)

    routes = [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/embeddings", embeddings, methods=["POST"]),
        Route("/v1/models", models),
        Route("/metrics", metrics),
        Route("/healthz", healthy),
        Route("/readyz", ready),
        *([Route("/v1/feedback", rated, methods=["POST"])] if feedback is not None else []),
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: _unknown, 405: _unknown, 500: _broken})


async def _unknown(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return Problem(status, f"There is no {request.method} {request.url.path} here", code="unknown_url").response()


async def _broken(request: Request, error: Exception) -> Response:
    return Problem(500, "The server failed; its log says why", "api_error").response()


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
