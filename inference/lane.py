"""The lane: the `openai` package decides, a lean path carries.

The first request to a path goes through the `openai` client, and the address and headers that it built are kept as a
template. Later requests go straight over the same connections with the template and a new body. Every outcome that is not a
clean 2xx is handed back to the `openai` client's own loop, as if it had met it itself, so that its rules for retries,
Retry-After and error types hold without being written again. Only its public interface is used.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
from openai import RequestOptions
from yarl import URL

from .attempt import Attempts
from .wire import Answer, Route, Wire

log = logging.getLogger(__name__)

_FRAMING = frozenset(("host", "connection", "content-length", "transfer-encoding", "accept-encoding"))
"""Headers that belong to one connection or message; aiohttp writes its own."""

_RETRY_COUNT = "x-stainless-retry-count"
"""Where the `openai` client counts a call's attempts, from 0."""

_REDIRECTS = frozenset((301, 302, 303, 307, 308))


@dataclass(frozen=True)
class _Template:
    route: Route
    key: str


@dataclass
class _Call:
    """One call on its way through the `openai` client's loop.

    Attributes:
        attempts: Their places and their time.
        slot: Where its template is kept.
        key: The API key when it began.
        outcome: What the lean path met and the `openai` client has still to be told.
    """

    attempts: Attempts
    slot: tuple[Any, ...]
    key: str
    outcome: Answer | httpx2.RequestError | None = None


_current: ContextVar[_Call] = ContextVar("duologue_lane_call")


class Lane:
    """Calls to one address with one key.

    Args:
        url: The address, up to and including ``/v1``.
        key: Gives the API key; asked at every call, so that it may rotate.
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
        self._templates: dict[tuple[Any, ...], _Template] = {}
        self._redirected: set[str] = set()
        self._wire = Wire(url, trust_env=trust_env)
        try:
            door = _Door(self, trust_env=trust_env)
        except (ImportError, ValueError) as error:
            raise httpx2.ProxyError(str(error)) from error

        async def fresh_key() -> str:
            return key()

        self._client = openai.AsyncOpenAI(api_key=fresh_key, base_url=url, http_client=door)

    async def post(
        self,
        path: str,
        content: bytes,
        attempts: Attempts,
        *,
        max_retries: int,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Sends JSON and returns the body of the answer.

        Args:
            path: After the address, such as ``/chat/completions``.
            content: The body.
            attempts: Where the attempts take their places, and how long they may take.
            max_retries: Further attempts, by the `openai` client's rules.
            headers: Further headers of this call.

        Raises:
            openai.APIError: As the `openai` client says it.
            TimeoutError: If the deadline is over.
            Halt: If the bounds of the client allow no further attempt.
            httpx2.InvalidURL: If there can be no such address.
        """
        slot = (path, attempts.timeout_s, *sorted(headers.items())) if headers else (path, attempts.timeout_s)
        key = self._key()
        template = self._templates.get(slot)
        outcome: Answer | httpx2.RequestError | None = None
        if template is not None and template.key == key:
            try:
                outcome = await _send(attempts, template.route, content)
            except httpx2.RequestError as error:
                if attempts.over:
                    raise TimeoutError from error
                outcome = error
            else:
                if 200 <= outcome.status < 300:
                    return outcome.body
        options: RequestOptions = {
            "headers": {"Content-Type": "application/json", **(headers or {})},
            "max_retries": max_retries,
            "timeout": httpx2.Timeout(attempts.timeout_s),
        }
        token = _current.set(_Call(attempts, slot, key, outcome))
        try:
            async with attempts.deadline():
                response = await self._client.post(path, content=content, cast_to=httpx2.Response, options=options)
        finally:
            _current.reset(token)
        return response.content

    async def aclose(self) -> None:
        """Closes all connections."""
        for slot in list(self._templates):
            self._forget(slot)
        await self._wire.aclose()
        await self._client.close()

    async def answer(
        self, request: httpx2.Request, follow: Callable[[], Awaitable[httpx2.Response]]
    ) -> httpx2.Response:
        """What the `openai` client gets for a request of its own: the outcome that is waiting for it, or a new attempt.

        Args:
            request: As the `openai` client built it.
            follow: Sends it the stock way, which follows redirects and speaks to every kind of proxy.

        Raises:
            httpx2.RequestError: The failure that the lean path met, or this attempt.
            Halt: If the bounds of the client allow no further attempt.
        """
        call = _current.get()
        outcome, call.outcome = call.outcome, None
        if request.headers.get(_RETRY_COUNT, "0") != "0":
            call.attempts.check_retry()
        if isinstance(outcome, httpx2.RequestError):
            outcome.request = request
            raise outcome
        address = str(request.url)
        if outcome is None and self._wire.can_carry and address not in self._redirected:
            outcome = await self._carry(call, address, request)
        if outcome is not None and outcome.status not in _REDIRECTS:
            return httpx2.Response(outcome.status, headers=outcome.plain_headers, content=outcome.body, request=request)
        if outcome is not None:
            self._redirect(call, address, outcome)
        return await self._stock(call, follow)

    async def _carry(self, call: _Call, address: str, request: httpx2.Request) -> Answer:
        """Sends what the `openai` client built; a first attempt becomes the template of those to come."""
        route = self._wire.route(URL(address, encoded=True), _portable(request.headers))
        if request.headers.get(_RETRY_COUNT) == "0":
            self._forget(call.slot)
            self._templates[call.slot] = _Template(route, call.key)
            return await _send(call.attempts, route, request.content)
        try:
            return await _send(call.attempts, route, request.content)
        finally:
            route.retire()

    def _forget(self, slot: tuple[Any, ...]) -> None:
        if (template := self._templates.pop(slot, None)) is not None:
            template.route.retire()

    def _redirect(self, call: _Call, address: str, answer: Answer) -> None:
        """From now on requests to this address go the stock way, which drops the key where the origin changes."""
        self._forget(call.slot)
        self._redirected.add(address)
        log.warning(
            "%s redirects to %s: set `base_url` to the new address, requests are slower this way",
            address,
            answer.header(b"location"),
        )

    async def _stock(self, call: _Call, follow: Callable[[], Awaitable[httpx2.Response]]) -> httpx2.Response:
        place = await call.attempts.begin()
        try:
            response = await follow()
        except BaseException as error:
            call.attempts.failed(place, error)
            raise
        call.attempts.answered(place, Answer(response.status_code, tuple(response.headers.raw), response.content))
        return response


async def _send(attempts: Attempts, route: Route, content: bytes) -> Answer:
    """One attempt over the lean path."""
    with route:
        place = await attempts.begin()
        try:
            answer = await route.post(content, attempts.bound_s)
        except BaseException as error:
            attempts.failed(place, error)
            raise
        attempts.answered(place, answer)
        return answer


def _portable(headers: httpx2.Headers) -> list[tuple[str, str]]:
    """The headers as they were written, less those that frame a message."""
    written = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.raw)
    return [(name, value) for name, value in written if name.lower() not in _FRAMING]


class _Door(openai.DefaultAsyncHttpxClient):
    """The HTTP client that the `openai` client is given: it asks the lane."""

    def __init__(self, lane: Lane, *, trust_env: bool) -> None:
        super().__init__(trust_env=trust_env)
        self._lane = lane

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Sends one request of the `openai` client."""
        return await self._lane.answer(request, lambda: super(_Door, self).send(request, **options))
