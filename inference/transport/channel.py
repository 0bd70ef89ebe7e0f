"""Requests to one address with one key: the `openai` package prepares them, aiohttp carries them.

The `openai` client builds the first request of each kind for a transport that sends nothing; the address and the headers are
kept as a template. Requests then go over one pool of connections with the template and a new body. Only the public
interface of the package is used. What aiohttp cannot carry (redirects, SOCKS proxies) is sent by the package's HTTP client.
A request is sent once: `inference.transport.transport` decides on retries.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

import httpx2
import openai
from openai import RequestOptions
from yarl import URL

from ..endpoint import NO_KEY
from .attempts import Attempts
from .connections import MOST_BYTES, Answer, ConnectionPool, Route, too_long

log = logging.getLogger(__name__)

_FRAMING = frozenset(("host", "connection", "content-length", "transfer-encoding", "accept-encoding"))
"""Headers that belong to one connection or message; aiohttp writes its own."""

_RETRY_COUNT = "x-stainless-retry-count"
"""Where the `openai` client counts a call's attempts, from 0."""

_REDIRECTS = frozenset((301, 302, 303, 307, 308))

_SHORTEST_KEY = 8
"""Characters of a key that is masked in answers; a shorter one may be an ordinary word."""


_Slot = tuple[str, float]
"""What a template is for: a path and a timeout, which the `openai` client puts into a header."""


@dataclass(frozen=True)
class _Template:
    route: Route
    address: str
    key: str


class Channel:
    """Requests to one address with one key.

    Args:
        url: The address, up to and including ``/v1``; it may have a query, which every request then has.
        key: Gives the API key; asked at every request, so that it may rotate.
        trust_env: Whether the environment's proxies are heeded.

    Attributes:
        under_way: Calls that have not ended, as far as its user counts them.

    Raises:
        httpx2.ProxyError: If the environment names a proxy that `httpx2` cannot use.
        httpx2.InvalidURL: If there can be no such address.
    """

    def __init__(self, url: str, key: Callable[[], str], *, trust_env: bool = True) -> None:
        self.under_way = 0
        self._key = key
        self._trust_env = trust_env
        self._templates: dict[_Slot, _Template] = {}
        self._redirected: set[str] = set()
        self._pool = ConnectionPool(url, trust_env=trust_env)
        self._stock: httpx2.AsyncClient | None = None
        if not self._pool.can_carry:
            self._stock_client()

        async def fresh_key() -> str:
            return key()

        parts = urlsplit(url)
        self._client = openai.AsyncOpenAI(
            api_key=fresh_key,
            base_url=parts._replace(query="").geturl(),
            default_query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(transport=_Drafts(), trust_env=False),
        )

    async def send(self, path: str, content: bytes, attempts: Attempts) -> Answer:
        """Sends JSON once.

        Args:
            path: After the address, such as ``/chat/completions``.
            content: The body.
            attempts: How long it may take, and how often the call was sent before.

        Returns:
            The answer of any status; the API key is masked in its body.

        Raises:
            httpx2.RequestError: If there is no whole answer.
            httpx2.InvalidURL: If there can be no such address.
        """
        slot = path, attempts.timeout_s
        key = self._key()
        template = self._templates.get(slot)
        if attempts.retries or template is None or template.key != key:
            answer = await self._send_new(slot, key, content, attempts)
        else:
            answer = await _send(template.route, content, attempts)
            if answer.status in _REDIRECTS:
                answer = await self._redirect(slot, template.address, answer, content, attempts)
        return _masked(answer, key)

    async def aclose(self) -> None:
        """Closes all connections."""
        for slot in list(self._templates):
            self._forget(slot)
        await self._pool.aclose()
        await self._client.close()
        if self._stock is not None:
            await self._stock.aclose()

    async def _send_new(self, slot: _Slot, key: str, content: bytes, attempts: Attempts) -> Answer:
        """Sends a request that has no template yet, or a retry, whose header counts it."""
        draft = await self._draft(slot[0], content, attempts)
        address = str(draft.url)
        if not self._pool.can_carry or address in self._redirected:
            return await self._send_stock(draft, attempts.bound_s)
        route = self._pool.route(URL(address, encoded=True), _portable(draft.headers))
        if not attempts.retries:
            self._forget(slot)
            self._templates[slot] = _Template(route, address, key)
        try:
            answer = await _send(route, content, attempts)
        finally:
            if attempts.retries:
                route.retire()
        if answer.status in _REDIRECTS:
            return await self._redirect(slot, address, answer, content, attempts)
        return answer

    async def _draft(self, path: str, content: bytes, attempts: Attempts) -> httpx2.Request:
        """The request as the `openai` client builds it."""
        options: RequestOptions = {
            "headers": {"Content-Type": "application/json", _RETRY_COUNT: str(attempts.retries)},
            "timeout": httpx2.Timeout(attempts.timeout_s),
        }
        response = await self._client.post(path, content=content, cast_to=httpx2.Response, options=options)
        return response.request

    def _forget(self, slot: _Slot) -> None:
        if (template := self._templates.pop(slot, None)) is not None:
            template.route.retire()

    async def _redirect(self, slot: _Slot, address: str, answer: Answer, content: bytes, attempts: Attempts) -> Answer:
        """Follows a redirect by `httpx2`, now and from now on: it drops the key where the origin changes."""
        self._forget(slot)
        if address not in self._redirected:
            self._redirected.add(address)
            log.warning(
                "%s redirects to %s: set `base_url` to the new address, requests are slower this way",
                address,
                answer.header(b"location"),
            )
        return await self._send_stock(await self._draft(slot[0], content, attempts), attempts.bound_s)

    def _stock_client(self) -> httpx2.AsyncClient:
        if self._stock is None:
            try:
                self._stock = openai.DefaultAsyncHttpxClient(trust_env=self._trust_env)
            except (ImportError, ValueError) as error:
                raise httpx2.ProxyError(str(error)) from error
        return self._stock

    async def _send_stock(self, request: httpx2.Request, seconds: float) -> Answer:
        parts, size = [], 0
        try:
            async with asyncio.timeout(seconds):
                response = await self._stock_client().send(request, stream=True)
                try:
                    async for part in response.aiter_bytes():
                        size += len(part)
                        if size > MOST_BYTES:
                            raise too_long(size)
                        parts.append(part)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise httpx2.ReadTimeout("no whole answer in time") from error
        return Answer(response.status_code, tuple(response.headers.raw), b"".join(parts))


async def _send(route: Route, content: bytes, attempts: Attempts) -> Answer:
    with route:
        return await route.post(content, attempts.bound_s)


def _masked(answer: Answer, key: str) -> Answer:
    """The answer without the API key, which some servers repeat: answers are stored, shown and handed on."""
    if len(key) < _SHORTEST_KEY or key == NO_KEY or (secret := key.encode()) not in answer.body:
        return answer
    return answer._replace(body=answer.body.replace(secret, b"***"))


def _portable(headers: httpx2.Headers) -> list[tuple[str, str]]:
    """The headers as they were written, less those that frame a message."""
    written = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.raw)
    return [(name, value) for name, value in written if name.lower() not in _FRAMING]


class _Drafts(httpx2.AsyncBaseTransport):
    """Sends nothing: its answer leads to the request that the `openai` client built."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """An empty answer."""
        return httpx2.Response(200, request=request)
