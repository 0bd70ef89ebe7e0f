"""How bytes reach an endpoint: one lane per address and key, one gate per endpoint.

Foreign errors are translated here into the project's own, and nowhere else.
"""

from __future__ import annotations

import copy

import httpx2
import openai

from .attempt import Attempts
from .bounds import Bounds, Halt
from .budget import Account
from .embedded import embedded_urls
from .endpoint import NO_KEY, Endpoint
from .errors import CallFailed, EndpointRefused, Rejected
from .gate import Gate
from .lane import Lane

_THIS_REQUEST = (400, 413, 422)
"""Said by an endpoint that has answered others, these concern one prompt: its content, its length."""

_MOST_WAYS = 256
_BYTES_PER_TOKEN = 4
_USUAL_COMPLETION = 256  # tokens, where a request names no bound


class Transport:
    """Posts JSON to endpoints with the `openai` package's retries, and remembers which of them ever answered.

    Args:
        bounds: What holds for all calls.
    """

    def __init__(self, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._lanes: dict[tuple[str, str | None], Lane] = {}
        self._gates: dict[tuple[object, ...], Gate] = {}
        self._ways: dict[int, tuple[Endpoint, tuple[Gate, Lane]]] = {}  # by id: an endpoint has no hash
        self._answered: set[str] = set()

    async def post(
        self, endpoint: Endpoint, path: str, content: bytes, role: str, account: Account | None = None
    ) -> tuple[bytes, float]:
        """Sends one request.

        Args:
            endpoint: Where to.
            path: After the address.
            content: The body.
            role: Whose request it is, for fairness.
            account: Where its attempts are booked.

        Returns:
            The body of the answer, and the seconds that it took; waiting for a place is not among them.

        Raises:
            EndpointRefused: If the server rejects the request, or never answered anything before and cannot be
                reached.
            CallFailed: If the retries are used up or the deadline is over.
            RunStopped: If the bounds allow no further attempt.
        """
        try:
            gate, lane = self._way(endpoint) or await self._embedded_way(endpoint)
        except httpx2.ProxyError as error:
            raise EndpointRefused(
                f"{endpoint.base_url} cannot be reached by the environment's proxy: {error}"
            ) from error
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise _no_address(endpoint, error) from error
        tokens = _tokens(endpoint, content)
        attempts = Attempts(gate, role, endpoint.timeout_s, endpoint.deadline_s, tokens, self._bounds, account)
        lane.under_way += 1
        try:
            raw = await lane.post(path, content, attempts, max_retries=endpoint.max_retries)
        except TimeoutError as error:
            raise CallFailed(f"{endpoint.base_url} gave no answer within {endpoint.deadline_s:g} s") from error
        except Halt as halt:
            raise copy.copy(halt.error) from None
        except openai.APIError as error:
            raise self._translate(error, endpoint) from error
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise _no_address(endpoint, error) from error
        finally:
            lane.under_way -= 1
        self._answered.add(endpoint.base_url)
        return raw, attempts.latency_s

    def _way(self, endpoint: Endpoint) -> tuple[Gate, Lane] | None:
        """The gate and the lane of an endpoint; None for the embedded model, which has several lanes."""
        known = self._ways.get(id(endpoint))
        if known is not None:
            return known[1]
        if endpoint.embedded:
            return None
        if len(self._ways) >= _MOST_WAYS:
            self._ways.clear()
        way = self.gate(endpoint), self._lane(endpoint, endpoint.base_url)
        self._ways[id(endpoint)] = endpoint, way  # the endpoint is held, so that nothing else gets its id
        return way

    async def _embedded_way(self, endpoint: Endpoint) -> tuple[Gate, Lane]:
        """The gate, and the lane to the embedded model's server that has the least to do."""
        lanes = [self._lane(endpoint, url) for url in await embedded_urls(endpoint)]
        return self.gate(endpoint), min(lanes, key=lambda lane: lane.under_way)

    def gate(self, endpoint: Endpoint) -> Gate:
        """The gate of an endpoint; roles that share the endpoint share the gate."""
        limits = (endpoint.max_concurrency, endpoint.requests_per_minute, endpoint.tokens_per_minute)
        key = (endpoint.identity, *limits, endpoint.adaptive)
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = Gate(*limits, adaptive=endpoint.adaptive)
        return gate

    async def aclose(self) -> None:
        """Closes all connections."""
        for lane in self._lanes.values():
            await lane.aclose()
        self._lanes.clear()
        self._ways.clear()

    def _lane(self, endpoint: Endpoint, url: str) -> Lane:
        lane = self._lanes.get((url, endpoint.api_key_env))
        if lane is None:
            lane = Lane(url, endpoint.api_key, trust_env=not endpoint.embedded)
            self._lanes[url, endpoint.api_key_env] = lane
        return lane

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
                return Rejected(f"{where} rejected this request ({error.status_code}): {said}")
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


def _no_address(endpoint: Endpoint, error: Exception) -> EndpointRefused:
    return EndpointRefused(f"`base_url` is no address that can be asked: {endpoint.base_url} ({error})")


def _tokens(endpoint: Endpoint, content: bytes) -> float:
    """A rough count of what a request will be counted for; only made where there is a quota."""
    if endpoint.tokens_per_minute is None:
        return 0.0
    return len(content) / _BYTES_PER_TOKEN + (endpoint.sampling.max_tokens or _USUAL_COMPLETION)
