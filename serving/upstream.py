"""The way to the frozen model: bodies go as they are, answers come back as they are. A refused request is not sent again.

Clients of an API try again by themselves; a server in the middle that does so, too, multiplies the load when it is highest.
Only a request that met a connection which the server had already closed is sent once more, on a new connection, and one that
was refused for a parameter of ours, without it.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiohttp
import msgspec

from ..core.errors import DuologueError
from ..inference.embedded import embedded_urls
from ..inference.endpoint import NO_KEY, Endpoint, joined
from ..inference.refusals import read_refusal
from ..inference.transport.connections import ConnectionPool
from ..inference.transport.parameters import Parameters
from .requests import Inflater, Problem, TooLarge

_LOG = logging.getLogger("duologue.serving")

_PASSED = ("content-type", "retry-after", "x-request-id", "openai-processing-ms")
"""Headers of an answer that are handed on."""

_MAX_ANSWER_BYTES = 2**26
"""An answer that is longer, once decompressed, is not read: no completion is so long."""


@dataclass(frozen=True)
class Reply:
    """The upstream's answer: status, forwarded headers, body."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is a success."""
        return self.status == 200


class Incoming:
    """An answer that is being read.

    Attributes:
        status: The HTTP status: a success (2xx) or a refusal (4xx, 5xx).
        headers: Forwarded headers.
    """

    def __init__(self, response: aiohttp.ClientResponse, key: str) -> None:
        self.status = response.status
        self.headers = {
            name: value
            for name in _PASSED
            if (value := response.headers.get(name)) and value.isascii() and value.isprintable()
        }
        self._response = response
        self._key = b"" if key == NO_KEY else key.encode()
        self._content: bytes | None = None

    async def parts(self) -> AsyncIterator[bytes]:
        """Yields the decompressed body as it arrives.

        The key that was sent is replaced, since some servers repeat it in what they refuse.

        Raises:
            Problem: If it cannot be decompressed.
        """
        if self._content is not None:
            yield self._content
            return
        encoding = self._response.headers.get("content-encoding", "identity").lower()
        pieces = self._response.content.iter_any()
        if encoding == "identity":
            async for piece in pieces:
                yield self._without_key(piece)
            return
        if encoding not in Inflater.ENCODINGS:
            raise Problem(502, "The frozen model's server sent a compression that was not asked for", "api_error")
        inflater = Inflater(_MAX_ANSWER_BYTES)
        try:
            async for piece in pieces:
                yield self._without_key(inflater.feed(piece))
        except (TooLarge, zlib.error) as error:
            raise _unreadable() from error

    async def read(self) -> bytes:
        """The whole body, without the key.

        Raises:
            Problem: If it is too long, or cannot be decompressed.
        """
        content = bytearray()
        async for piece in self.parts():
            content += piece
            if len(content) > _MAX_ANSWER_BYTES:
                raise _unreadable()
        self._content = self._without_key(bytes(content))
        return self._content

    def _without_key(self, content: bytes) -> bytes:
        return content.replace(self._key, b"***") if self._key and self._key in content else content


class Upstream:
    """Connections to one endpoint; made on the loop that first uses it.

    Args:
        endpoint: Endpoint of the request.
        connect_s: Seconds that a connection may take.
    """

    def __init__(self, endpoint: Endpoint, connect_s: float = 10.0) -> None:
        self.endpoint = endpoint
        self._connect_s = connect_s
        self._starting = asyncio.Lock()
        self._sessions: tuple[aiohttp.ClientSession, ...] = ()
        self._urls: list[str] = []
        self._turn = count()
        self._key = NO_KEY
        self._parameters = Parameters()

    async def post(self, path: str, body: Mapping[str, Any], keep: Collection[str] | None = None) -> Reply:
        """Asks once and reads the whole answer.

        Args:
            path: After the address.
            body: The request.
            keep: See `open`.

        Returns:
            The whole answer.

        Raises:
            Problem: If the server cannot be reached, does not answer in time, or answers with what cannot be read.
        """
        async with self.open(path, body, keep) as response:
            return Reply(response.status, response.headers, await response.read())

    @asynccontextmanager
    async def open(
        self, path: str, body: Mapping[str, Any], keep: Collection[str] | None = None
    ) -> AsyncIterator[Incoming]:
        """Asks once; the caller reads the answer. Leaving the context ends the call.

        Args:
            path: After the address.
            body: The request.
            keep: The fields that the client set itself. All others are left out or renamed where the server does not take
                them, and a request that is refused for one of them is sent again. None leaves every request as it is.

        Yields:
            The answer as it arrives.

        Raises:
            Problem: If the server cannot be reached, or does not answer in time; also while the answer is read.
        """
        model = self.endpoint.model
        if not self._sessions:
            try:
                await self._start()
            except DuologueError as error:
                _LOG.warning("%s: %s", model, error)
                raise Problem(502, f"`{model}` cannot be asked; the server's log says why", "api_error") from error
        try:
            refused = True
            while refused:
                sent = body if keep is None else self._parameters.adapt(body, keep)
                url = joined(self._urls[next(self._turn) % len(self._urls)], path)
                async with await self._send(url, _encoded(sent)) as response:
                    if not (200 <= response.status < 300 or 400 <= response.status < 600):
                        raise Problem(502, f"`{model}`'s server answered with status {response.status}", "api_error")
                    incoming = Incoming(response, self._key)
                    refused = keep is not None and response.status >= 400 and await self._learn(incoming, sent, keep)
                    if not refused:
                        yield incoming
        except (TimeoutError, aiohttp.ServerTimeoutError) as error:
            raise Problem(504, f"`{model}` did not answer in time", "api_error", "timeout") from error
        except aiohttp.ClientError as error:  # its text holds addresses, which are for the log alone
            _LOG.warning("%s: no answer (%s: %s)", model, type(error).__name__, error)
            raise Problem(502, f"`{model}` cannot be reached ({type(error).__name__})", "api_error") from error

    async def _learn(self, refused: Incoming, sent: Mapping[str, Any], keep: Collection[str]) -> bool:
        """Learns from a refusal whether the request can be sent again without a parameter."""
        return self._parameters.learn(read_refusal(refused.status, await refused.read()), sent, keep)

    async def _send(self, url: str, content: bytes) -> aiohttp.ClientResponse:
        session, fresh = self._sessions
        reused: list[bool] = []
        try:
            return await session.post(url, data=content, allow_redirects=False, trace_request_ctx=reused)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not reused:
                raise
        return await fresh.post(url, data=content, allow_redirects=False)

    async def _start(self) -> None:
        async with self._starting:
            if self._sessions:
                return
            self._urls = await embedded_urls(self.endpoint) if self.endpoint.embedded else [self.endpoint.base_url]
            self._key = self.endpoint.api_key()
            proxy = ConnectionPool(self._urls[0], trust_env=not self.endpoint.embedded).proxy
            self._sessions = self._session(proxy, reuse=True), self._session(proxy, reuse=False)

    def _session(self, proxy: str | None, reuse: bool) -> aiohttp.ClientSession:
        watch = aiohttp.TraceConfig()
        watch.on_connection_reuseconn.append(_note_reuse)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, **({"keepalive_timeout": 30} if reuse else {"force_close": True})),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s, sock_read=self.endpoint.timeout_s),
            headers={
                "Authorization": f"Bearer {self._key}",
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",
            },
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=proxy,
            trace_configs=[watch] if reuse else None,
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        sessions, self._sessions = self._sessions, ()
        for session in sessions:
            await session.close()
        await asyncio.sleep(0)


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(body)
    except (RecursionError, OverflowError) as error:
        raise Problem(400, "The body is nested too deeply, or holds a number that is too large") from error


async def _note_reuse(session: aiohttp.ClientSession, context: Any, parameters: object) -> None:
    context.trace_request_ctx.append(True)


def _unreadable() -> Problem:
    return Problem(502, "The frozen model's server sent an answer that is too long or damaged", "api_error")
