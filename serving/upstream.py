"""The way to the frozen model: bodies go as they are, answers come back as they are. Nothing is tried twice.

Clients of an API try again by themselves; a server in the middle that does so, too, multiplies the load when it is highest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiohttp
import msgspec

from ..inference.embedded import embedded_urls
from ..inference.endpoint import Endpoint
from .problem import Problem

_PASSED = ("content-type", "retry-after", "x-request-id", "openai-processing-ms")
"""Headers of an answer that are handed on."""


@dataclass(frozen=True)
class Reply:
    """What the frozen model's server answered: status, headers that are handed on, body."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def ok(self) -> bool:
        """Whether it is an answer."""
        return self.status == 200


class Upstream:
    """Connections to one endpoint; made on the loop that first uses it.

    Args:
        endpoint: Who is asked.
        connect_s: Seconds that a connection may take.
    """

    def __init__(self, endpoint: Endpoint, connect_s: float = 10.0) -> None:
        self.endpoint = endpoint
        self._connect_s = connect_s
        self._session: aiohttp.ClientSession | None = None
        self._urls: list[str] = []
        self._turn = count()

    async def post(self, path: str, body: Mapping[str, Any]) -> Reply:
        """Asks once and reads the whole answer.

        Raises:
            Problem: If the server cannot be reached, or does not answer in time.
        """
        async with self.open(path, body) as response:
            return Reply(response.status, passed(response), await response.read())

    @asynccontextmanager
    async def open(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Asks once; the answer is read by the caller. Leaving the context ends the call.

        Raises:
            Problem: If the server cannot be reached, or does not answer in time; also while the answer is read.
        """
        session, url = await self._ready()
        try:
            async with session.post(url + path, data=msgspec.json.encode(body)) as response:
                yield response
        except (TimeoutError, aiohttp.ServerTimeoutError) as error:
            raise Problem(504, f"`{self.endpoint.model}` did not answer in time", "api_error", "timeout") from error
        except aiohttp.ClientError as error:
            reason = f"{type(error).__name__}: {error}"
            raise Problem(502, f"`{self.endpoint.model}` cannot be reached ({reason})", "api_error") from error

    async def _ready(self) -> tuple[aiohttp.ClientSession, str]:
        if self._session is None:
            self._urls = await embedded_urls(self.endpoint) if self.endpoint.embedded else [self.endpoint.base_url]
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s, sock_read=self.endpoint.timeout_s)
            key = {"Authorization": f"Bearer {self.endpoint.api_key()}", "Content-Type": "application/json"}
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=key, trust_env=True)
        return self._session, self._urls[next(self._turn) % len(self._urls)]

    async def aclose(self) -> None:
        """Closes the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
            await asyncio.sleep(0)


def passed(response: aiohttp.ClientResponse) -> dict[str, str]:
    """The headers that are handed on."""
    return {name: response.headers[name] for name in _PASSED if name in response.headers}
