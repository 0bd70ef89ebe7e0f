"""The pool of HTTP connections (aiohttp), and the time limits of thousands of requests kept by one timer.

Most requests end in time, and most have the same limit: a timer each, as `asyncio.timeout` and aiohttp set it, is a
noticeable part of what a request costs.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from multidict import CIMultiDict
from yarl import URL


class Deadlines:
    """Time limits of running requests on one event loop."""

    def __init__(self) -> None:
        self._running: set[Limit] = set()
        self._timer: asyncio.TimerHandle | None = None

    def limit(self, seconds: float) -> Limit:
        """A context that raises TimeoutError after so many seconds, as `asyncio.timeout` does."""
        return Limit(self, seconds)

    def _begin(self, limit: Limit) -> None:
        self._running.add(limit)
        if self._timer is None or limit.at < self._timer.when():
            self._set(limit.at)

    def _end(self, limit: Limit) -> None:
        self._running.discard(limit)

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at, self._look)

    def _look(self) -> None:
        """Ends expired requests and sets the timer for the next one."""
        self._timer, now = None, asyncio.get_running_loop().time()
        for limit in [limit for limit in self._running if limit.at <= now]:
            self._running.discard(limit)
            limit.expire()
        if self._running:
            self._set(min(limit.at for limit in self._running))


class Limit:
    """The time limit of the task that enters it; see `Deadlines.limit`."""

    __slots__ = ("_cancelling", "_deadlines", "_expired", "_seconds", "_task", "at")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self._expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task that it can end")
        self._task, self._cancelling = task, task.cancelling()
        self.at = asyncio.get_running_loop().time() + self._seconds
        self._deadlines._begin(self)
        return self

    def expire(self) -> None:
        """Ends the task's wait."""
        self._expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines._end(self)
        # cancelled by us alone, not by somebody else at the same time
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error


_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=60.0)
"""Generous to connections, because a busy loop must not be mistaken for a dead server; the whole has a `Limit`."""

_KEEPALIVE_S = 30.0
"""Idle seconds after which a connection is dropped. One that the server closes first is noticed and not used again."""

_MAX_HEADER_BYTES = 2**16
_READ_BUFFER_BYTES = 2**20  # an answer with logprobs in one piece: a small buffer stops and starts the socket
MOST_BYTES = 2**28
"""An answer that is longer, or becomes so when it is decompressed, is not read to its end: it would fill the memory."""


class Answer(NamedTuple):
    """An HTTP answer: status, original headers, decompressed body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def header(self, name: bytes) -> str | None:
        """The first header of this lower-case name."""
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == name), None)


class ConnectionPool:
    """The connections to one address.

    Bounds on concurrency are the caller's: the pool itself has none.

    Args:
        url: The address, for TLS and for the environment's proxy.
        trust_env: Whether ``HTTP_PROXY`` and its relatives are heeded.
    """

    def __init__(self, url: str, *, trust_env: bool = True) -> None:
        self._secure = url.startswith("https:")
        self.proxy = environment_proxy(url) if trust_env else None
        self._connector: aiohttp.TCPConnector | None = None
        self._deadlines = Deadlines()

    @property
    def can_carry(self) -> bool:
        """False behind a proxy that aiohttp does not support (SOCKS)."""
        return self.proxy is None or urlsplit(self.proxy).scheme in ("http", "https")

    def route(self, url: URL, headers: Iterable[tuple[str, str]]) -> Route:
        """Prepares a route for requests that differ only in their bodies.

        Args:
            url: Address.
            headers: All of them but those that frame the message.

        Returns:
            The route.
        """
        if self._connector is None:
            certificates = httpx2.create_ssl_context() if self._secure else True  # those that `openai` trusts
            self._connector = aiohttp.TCPConnector(
                limit=0, keepalive_timeout=_KEEPALIVE_S, ssl=certificates, ttl_dns_cache=60
            )
        return Route(self._connector, self._deadlines, url, headers, self.proxy)

    async def aclose(self) -> None:
        """Closes all connections; routes made later open new ones."""
        connector, self._connector = self._connector, None
        if connector is not None:
            await connector.close()


class Route:
    """Sends bodies to one address with the same headers; a context manager that counts its users.

    Args:
        connector: The pool of connections; not closed here.
        deadlines: Who watches the time.
        url: Address.
        headers: All of them but those that frame the message.
        proxy: The proxy's address, if there is one.
    """

    def __init__(
        self,
        connector: aiohttp.TCPConnector,
        deadlines: Deadlines,
        url: URL,
        headers: Iterable[tuple[str, str]],
        proxy: str | None = None,
    ) -> None:
        self._deadlines = deadlines
        self._url = url
        self._proxy = proxy
        self._users = 0
        self._retired = False
        prepared = CIMultiDict([*headers, ("Accept-Encoding", "gzip, deflate")])
        self._session = aiohttp.ClientSession(
            connector=connector,
            connector_owner=False,
            request_class=_request_class(prepared),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_TIMEOUT,
            read_bufsize=_READ_BUFFER_BYTES,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
        )

    async def post(self, content: bytes, timeout_s: float) -> Answer:
        """Sends one request; redirects are not followed.

        Args:
            content: The body.
            timeout_s: Seconds until the last byte of the answer.

        Returns:
            Status, headers and body.

        Raises:
            httpx2.RequestError: If there is no whole answer.
        """
        data = aiohttp.BytesPayload(content)
        try:
            with self._deadlines.limit(timeout_s):
                response = await self._session.post(self._url, data=data, allow_redirects=False, proxy=self._proxy)
                body = await _read(response)  # at its end the connection is free again; if it fails, it is closed
        except aiohttp.InvalidURL as error:
            raise httpx2.InvalidURL(str(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _foreign(error) from error
        return Answer(response.status, response.raw_headers, body)

    def __enter__(self) -> Self:
        self._users += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._users -= 1
        if self._retired:
            self.retire()

    def retire(self) -> None:
        """Accepts no new requests and closes after the last one."""
        self._retired = True
        if not self._users:
            self._session.detach()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The decompressed body, within `MOST_BYTES`."""
    parts, size = [], response.content_length or 0
    try:
        if size > MOST_BYTES:
            raise too_long(size)
        size = 0
        while part := await response.content.readany():
            size += len(part)
            if size > MOST_BYTES:
                raise too_long(size)
            parts.append(part)
    except BaseException:
        response.close()
        raise
    response.release()
    return parts[0] if len(parts) == 1 else b"".join(parts)


def too_long(size: int) -> httpx2.RequestError:
    """The error of an answer with too many bytes."""
    return httpx2.RemoteProtocolError(f"the answer has {size:,} bytes or more; at most {MOST_BYTES:,} are read")


def _request_class(prepared: CIMultiDict[str]) -> type[aiohttp.ClientRequest]:
    """Requests that differ in nothing but their bodies: their headers are copied at once and not gathered one by one."""

    class Request(aiohttp.ClientRequest):
        """Has these headers, and those that aiohttp frames the message with."""

        def update_headers(self, headers: object) -> None:
            """Takes the headers as they are, and names the host."""
            self.headers = prepared.copy()
            self.headers["Host"] = self.url.host_port_subcomponent or ""

        def update_auto_headers(self, skip_auto_headers: object) -> None:
            """Adds none: what aiohttp would add is there."""

    return Request


def environment_proxy(url: str) -> str | None:
    """The proxy that the environment names for an address."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _foreign(error: Exception) -> httpx2.RequestError:
    """The exception by which `httpx2` would have said the same."""
    text = " ".join(str(error).split()) or type(error).__name__
    match error:
        case aiohttp.ConnectionTimeoutError():
            return httpx2.ConnectTimeout(text)
        case TimeoutError():
            return httpx2.ReadTimeout(text)
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return httpx2.ProxyError(text)
        case aiohttp.ClientConnectorError() | aiohttp.ClientConnectorCertificateError() | ssl.SSLError():
            return httpx2.ConnectError(text)
        case OSError():
            return httpx2.ReadError(text)
        case _:
            return httpx2.RemoteProtocolError(text)
