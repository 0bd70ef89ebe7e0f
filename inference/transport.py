"""How bytes reach an endpoint: one `openai` client per address and key, over shared aiohttp connections.

Foreign errors are translated here into the project's own, and nowhere else.
"""

from __future__ import annotations

import httpx2
import openai

from .embedded import embedded_urls
from .endpoint import NO_KEY, Endpoint
from .errors import CallFailed, EndpointRefused

_CONNECT_S = 60.0
"""Seconds to connect; generous, because a busy loop must not be mistaken for a dead server."""

_THIS_REQUEST = (400, 413, 422)
"""Said by an endpoint that has answered others, these concern one prompt: its content, its length."""


class Transport:
    """Posts JSON to endpoints with the `openai` package's retries, and remembers which of them ever answered."""

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str], openai.AsyncOpenAI] = {}
        self._load: dict[str, int] = {}
        self._answered: set[str] = set()

    async def post(self, endpoint: Endpoint, path: str, content: bytes) -> bytes:
        """Sends one request and returns the body of the answer.

        Raises:
            EndpointRefused: If the server rejects the request, or never answered anything before and cannot be
                reached.
            CallFailed: If the retries are used up.
        """
        url = await self._address(endpoint)
        self._load[url] = self._load.get(url, 0) + 1
        try:
            client = self._client(endpoint, url)
            response = await client.post(
                path,
                content=content,
                cast_to=httpx2.Response,
                options={
                    "headers": {"Content-Type": "application/json"},
                    "max_retries": endpoint.max_retries,
                    "timeout": httpx2.Timeout(endpoint.timeout_s, connect=_CONNECT_S),
                },
            )
            self._answered.add(endpoint.base_url)
            return response.content
        except openai.APIError as error:
            raise self._translate(error, endpoint) from error
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise EndpointRefused(
                f"`base_url` is no address that can be asked: {endpoint.base_url} ({error})"
            ) from error
        finally:
            self._load[url] -= 1

    async def aclose(self) -> None:
        """Closes all connections."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()

    async def _address(self, endpoint: Endpoint) -> str:
        """The address to ask: the endpoint's own, or the least busy of the embedded model's servers."""
        if not endpoint.embedded:
            return endpoint.base_url
        return min(await embedded_urls(endpoint), key=lambda url: self._load.get(url, 0))

    def _client(self, endpoint: Endpoint, url: str) -> openai.AsyncOpenAI:
        key = endpoint.api_key()
        client = self._clients.get((url, key))
        if client is None:
            limits = httpx2.Limits(max_connections=max(endpoint.max_concurrency, 100), keepalive_expiry=4.0)
            client = openai.AsyncOpenAI(
                api_key=key,
                base_url=url,
                http_client=openai.DefaultAioHttpClient(limits=limits, trust_env=not endpoint.embedded),
            )
            self._clients[url, key] = client
        return client

    def _translate(self, error: openai.APIError, endpoint: Endpoint) -> EndpointRefused | CallFailed:
        where = f"{endpoint.base_url} (model `{endpoint.model}`)"
        said = _said(error, endpoint.api_key())
        match error:
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                cure = f"check the key in `{endpoint.api_key_env}`" if endpoint.api_key_env else "set `api_key_env`"
                return EndpointRefused(f"{where} refused the key ({error.status_code}: {said}): {cure}")
            case openai.NotFoundError():
                return EndpointRefused(
                    f"{where} was not found (404: {said}): `base_url` ends in /v1 for most servers, and `model` must "
                    "be a name that the server lists under /models"
                )
            case openai.RateLimitError() | openai.InternalServerError() | openai.ConflictError():
                return CallFailed(
                    f"{where} failed {endpoint.max_retries + 1} times, last with {error.status_code}: {said}"
                )
            case openai.APIStatusError() if error.status_code == 408:
                return CallFailed(f"{where} failed {endpoint.max_retries + 1} times, last with 408: {said}")
            case openai.APIStatusError() if endpoint.base_url in self._answered and error.status_code in _THIS_REQUEST:
                return CallFailed(f"{where} rejected this request ({error.status_code}): {said}")
            case openai.APIStatusError():
                return EndpointRefused(f"{where} rejected the request ({error.status_code}): {said}")
            case _ if endpoint.base_url in self._answered:
                return CallFailed(f"{where} could not be reached {endpoint.max_retries + 1} times: {said}")
            case _:
                return EndpointRefused(
                    f"{where} cannot be reached ({said}): check `base_url` and that the server is running"
                )


def _said(error: openai.APIError, key: str) -> str:
    """The server's own words on one line, or the cause of a failed connection; never the key, which some repeat."""
    body = error.body if isinstance(error.body, dict) else {}
    text = str(body.get("message") or error.__cause__ or error.message)
    if key != NO_KEY:
        text = text.replace(key, "***")
    return " ".join(text.split())[:200]
