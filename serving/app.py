"""The HTTP surface: routes, keys, limits, and what happens when a client hangs up."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import math
import re
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from .completions import Service
from .feedback import Feedback
from .requests import ClientGone, Inflater, Problem, TooLarge, checked, inflated

_LOG = logging.getLogger("duologue.serving")


@dataclass(frozen=True)
class Limits:
    """Limits and access rules of a server.

    Attributes:
        max_body_bytes: Decompressed bytes of a request.
        max_header_bytes: Bytes of a request's head.
        max_messages: Messages of a chat request.
        max_concurrency: Whole requests under way at once; more are answered with 429.
        max_connections: Open connections; beyond it, or beyond half of the files that the process may open, the one that
            has waited longest without a request under way is closed.
        client_timeout_s: Seconds that a client may take to send a request, and to read what it is sent.
        keys: Bearer keys that are accepted; empty for no keys at all.
        cors: Origins of web pages that may ask, such as ``https://app.example``; ``*`` for all.
        public_metrics: Whether `/metrics` is answered without a key.
    """

    max_body_bytes: int = 4_000_000
    max_header_bytes: int = 65_536
    max_messages: int = 500
    max_concurrency: int = 1000
    max_connections: int = 10_000
    client_timeout_s: float = 30.0
    keys: Sequence[str] = field(default=(), repr=False)
    cors: Sequence[str] = ()
    public_metrics: bool = False

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_header_bytes", "max_messages", "max_concurrency", "max_connections"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, not {getattr(self, name)}")
        if not 0 < self.client_timeout_s < math.inf:
            raise ValueError(f"`client_timeout_s` must be a number above 0, not {self.client_timeout_s}")
        for origin in self.cors:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"`cors` must hold origins like https://app.example, not {origin!r}")
        if "*" in self.cors and not self.keys:
            raise ValueError("`cors=['*']` would let any web page ask without a key: set keys, or name the origins")


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]+")
_UNFINISHED = 64
"""Unfinished bodies that are held at once, counted in bodies of full length. Bodies that come in one piece are not counted."""


class _Door:
    """Lets requests in, one by one."""

    def __init__(self, service: Service, limits: Limits) -> None:
        self.service, self.limits = service, limits
        self._under_way = 0
        self._unfinished_bytes = 0

    async def __call__(self, request: Request, handle: Callable[[Any], Awaitable[Response]]) -> Response:
        """Checks a request, answers it and counts it."""
        metrics, began, model = self.service.metrics, time.perf_counter(), "unknown"
        entered = streaming = False
        try:
            self.admit(request)
            content = await self._content(request)
            if self._under_way >= self.limits.max_concurrency:
                raise Problem(
                    429, f"{self.limits.max_concurrency} requests are under way: try again", "rate_limit_error"
                )
            entered = True
            self._under_way += 1
            metrics.in_flight.inc()
            body = _decoded(content)
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
        except Exception:  # noqa: BLE001  (what nobody foresaw is logged and counted, too)
            _LOG.exception("a request failed")
            response = _failed().response()
        finally:
            if entered and not streaming:
                self._leave()
        metrics.requests.labels(model, str(response.status_code)).inc()
        metrics.seconds.labels(model).observe(time.perf_counter() - began)
        return response

    def _leave(self) -> None:
        self._under_way -= 1
        self.service.metrics.in_flight.dec()

    async def _counted(self, parts: Any) -> AsyncIterator[bytes]:
        """Counts a stream until its end or until the client hangs up, which ends the call to the model."""
        try:
            async for part in parts:
                yield part
        finally:
            self._leave()
            await parts.aclose()

    def admit(self, request: Request) -> None:
        """Checks the key; without keys, refuses requests from foreign web pages.

        A page in a browser on this machine can send requests here, and can have its own name resolve to this machine.
        Browsers name the page in ``Origin`` and the name in ``Host``.

        Raises:
            Problem: If they may not.
        """
        if not self.limits.keys:
            origin = request.headers.get("origin")
            if origin is not None and origin not in self.limits.cors:
                raise Problem(
                    403,
                    f"Web pages of {origin[:200]} may not ask here: name it in `cors`, or set keys",
                    "permission_error",
                    "origin_not_allowed",
                )
            host = request.headers.get("host", "")
            if host and not on_loopback(urlsplit(f"//{host}").hostname or ""):
                raise Problem(
                    403,
                    f"Without keys this server is asked as localhost, not as {host[:200]}: set keys to use other names",
                    "permission_error",
                    "host_not_allowed",
                )
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        known = [hmac.compare_digest(given.strip().encode(), key.encode()) for key in self.limits.keys]  # all of them
        if scheme.lower() != "bearer" or not any(known):
            raise Problem(401, "Incorrect API key provided", "authentication_error", "invalid_api_key")

    async def _content(self, request: Request) -> bytes:
        """The body, decompressed.

        Raises:
            Problem: If it is too long or cannot be read.
            ClientGone: If the client hangs up before it is whole.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and kind != "application/json" and not kind.endswith("+json"):
            raise Problem(415, f"Send the body as `Content-Type: application/json`, not {kind[:100]}")
        content = await self._read(request)
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding == "identity":
            return content
        if encoding not in Inflater.ENCODINGS:
            raise Problem(415, f"Send the body with `Content-Encoding: gzip` or without, not {encoding[:100]}")
        try:
            return inflated(content, self.limits.max_body_bytes)
        except TooLarge:
            raise self._too_long() from None
        except zlib.error as error:
            raise Problem(400, f"The body cannot be decompressed: {error}") from error

    async def _read(self, request: Request) -> bytes:
        content, held = bytearray(), 0
        try:
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                content += message.get("body", b"")
                if len(content) > self.limits.max_body_bytes:
                    raise self._too_long()
                if not message.get("more_body", False):
                    return bytes(content)
                self._unfinished_bytes += len(content) - held
                held = len(content)
                if self._unfinished_bytes > _UNFINISHED * self.limits.max_body_bytes:
                    raise Problem(429, "Too many requests are being received: try again", "rate_limit_error")
        finally:
            self._unfinished_bytes -= held

    def _too_long(self) -> Problem:
        return Problem(413, f"The body is longer than {self.limits.max_body_bytes:,} bytes")


def _decoded(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, f"The body is no JSON: {error}") from error
    except RecursionError as error:
        raise Problem(400, "The body is nested too deeply") from error


def _failed() -> Problem:
    return Problem(500, "The server failed; its log says why", "api_error")


def on_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost")


async def unless_gone(request: Request, work: Awaitable[Response]) -> Response:
    """Runs the work, and cancels it when the client hangs up.

    Args:
        request: The client's request.
        work: What makes the response.

    Returns:
        The response.

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
    """Builds the ASGI application.

    Args:
        service: The service.
        limits: Limits of the server.
        feedback: Keeps what people thought of answers; None for no such route.

    Returns:
        The application.
    """
    door = _Door(service, limits or Limits())
    started = int(time.time())

    async def chat(request: Request) -> Response:
        async def handle(body: Any) -> Response:
            asked = checked(body, door.limits.max_messages, service.max_choices)
            return await service.answer(asked, request.headers.get("x-session-id", ""))

        return await door(request, handle)

    async def embeddings(request: Request) -> Response:
        return await door(request, service.embeddings)

    async def rated(request: Request) -> Response:
        assert feedback is not None
        return await door(request, feedback.add)

    async def models(request: Request) -> Response:
        door.admit(request)
        owners = {**dict.fromkeys(service.base_models, "upstream"), **dict.fromkeys(service.own, "duologue")}
        data = [
            {"id": name, "object": "model", "created": started, "owned_by": owner} for name, owner in owners.items()
        ]
        if (wanted := request.path_params.get("name")) is None:
            return _json({"object": "list", "data": data})
        if (found := next((model for model in data if model["id"] == wanted), None)) is None:
            raise service.unknown_model(wanted)
        return _json(found)

    async def metrics(request: Request) -> Response:
        if not door.limits.public_metrics:
            door.admit(request)
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
        Route("/v1/models/{name:path}", models),
        Route("/metrics", metrics),
        Route("/healthz", healthy),
        Route("/readyz", ready),
        *([Route("/v1/feedback", rated, methods=["POST"])] if feedback is not None else []),
    ]

    async def unknown(request: Request, error: Exception) -> Response:
        path, status = request.url.path, getattr(error, "status_code", 404)
        match = next((route for route in routes if route.path in (path, f"/v1{path}")), None)
        if match is not None and match.path != path:
            cure = f"use {match.path}: `base_url` ends in /v1"
        elif match is not None:
            cure = f"use {' or '.join(sorted((match.methods or set()) - {'HEAD'}))}"
        else:
            cure = "use POST /v1/chat/completions, which every client of OpenAI's API has a setting for"
        said = f"There is no {request.method[:20]} {path[:200]} here: {cure}"
        return Problem(status, said, code="unknown_url").response()

    shared = [
        Middleware(
            CORSMiddleware,
            allow_origins=door.limits.cors,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-duologue-alias", "x-duologue-action", "x-duologue-fallback", "x-duologue-canary"],
        )
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=shared if door.limits.cors else (),
        exception_handlers={404: unknown, 405: unknown, 500: _broken, Problem: _refused},
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _broken(request: Request, error: Exception) -> Response:
    return _failed().response()


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
