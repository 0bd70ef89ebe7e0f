"""The calls to endpoints: one loop of attempts, with one deadline, for refusals, lost connections and unreadable answers alike.

The meaning of a refusal decides what follows (`inference.refusals`): the request is sent again, also without a parameter that
the endpoint does not take (`inference.transport.parameters`), or the call fails, or the endpoint is given up. Foreign errors are
translated here into the project's own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2
import msgspec

from ...core.errors import CallFailed, EndpointRefused, InferenceError, Rejected, Unreadable
from ..budget.budget import Account
from ..embedded import embedded_urls
from ..endpoint import Endpoint
from ..refusals import Meaning, Refusal, read_refusal
from .attempts import Attempts
from .bounds import Bounds
from .channel import Channel
from .connections import Answer
from .limiter import Limiter, Place
from .parameters import Parameters, refused_parameter
from .retries import may_pass

R = TypeVar("R")

_PROMPTS = 3
"""Different prompts that an endpoint has to refuse, and none that it answers, before it is given up for a reason unknown."""

_MOST_WAYS = 256
_BYTES_PER_TOKEN = 4
_USUAL_COMPLETION = 256  # tokens, where a request names no bound

_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass
class _Record:
    """The history of one endpoint.

    Attributes:
        answered: Whether it ever gave an answer.
        under_way: The calls that have not ended, as long as it never answered.
        refused: The prompts that it refused without a clear reason.
        earlier: The calls that were under way at the first such refusal: they may still be answered.
    """

    answered: bool = False
    under_way: set[object] = field(default_factory=set)
    refused: set[bytes] = field(default_factory=set)
    earlier: set[object] = field(default_factory=set)

    def refuses_all(self, prompt: bytes, call: object) -> bool:
        """Notes a refusal without a clear reason; whether there is no hope for other prompts."""
        if self.answered:
            return False
        if not self.refused:
            self.earlier = set(self.under_way)
        self.refused.add(prompt)
        return len(self.refused) >= _PROMPTS and not (self.earlier & self.under_way) - {call}


class Transport:
    """Posts JSON to endpoints, and remembers which of them ever answered and which parameters they take.

    Args:
        bounds: The client-wide budget, retry budget and stop flag.
        parameters: What endpoints were found not to take, by `Endpoint.identity`; kept up to date.
    """

    def __init__(self, bounds: Bounds | None = None, parameters: dict[str, Parameters] | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._parameters = {} if parameters is None else parameters
        self._channels: dict[tuple[str, str | None], Channel] = {}
        self._limiters: dict[tuple[object, ...], Limiter] = {}
        self._ways: dict[int, tuple[Endpoint, tuple[Limiter, Channel]]] = {}  # by id: an endpoint has no hash
        self._records: dict[str, _Record] = {}
        self._reached: set[str] = set()

    async def post(
        self,
        endpoint: Endpoint,
        path: str,
        body: Mapping[str, Any],
        content: bytes,
        read: Callable[[bytes, float, bool], R],
        role: str,
        account: Account | None = None,
        keep: Collection[str] = (),
    ) -> tuple[bytes, float, R]:
        """Asks until there is an answer that can be read, within the endpoint's retries and its deadline.

        Args:
            endpoint: Endpoint of the request.
            path: After the address.
            body: The request.
            content: The same as JSON.
            read: Turns an answer's bytes, its seconds and whether it was reused into what the caller wants.
            role: Role of the request, for fairness between roles.
            account: Where its attempts are booked.
            keep: Parameters without which the answer is of no use.

        Returns:
            The body of the answer, the seconds that the call took without waiting for a place, and what was read.

        Raises:
            EndpointRefused: If the server refuses the key, the account, the model or every prompt, or cannot be reached.
            CallFailed: If this call is refused, the retries are used up or the deadline is over.
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
        record = self._records.get(endpoint.identity)
        if record is None:
            record = self._records[endpoint.identity] = _Record()
        self._bounds.retries.calls += 1
        lane.under_way += 1
        if not record.answered:
            record.under_way.add(attempts)
        try:
            return await self._answer(endpoint, lane, attempts, record, path, body, content, read, keep)
        finally:
            lane.under_way -= 1
            record.under_way.discard(attempts)

    async def _answer(
        self,
        endpoint: Endpoint,
        lane: Channel,
        attempts: Attempts,
        record: _Record,
        path: str,
        body: Mapping[str, Any],
        content: bytes,
        read: Callable[[bytes, float, bool], R],
        keep: Collection[str],
    ) -> tuple[bytes, float, R]:
        """The loop of attempts."""
        while True:
            try:
                answer, sent = await self._send(endpoint, lane, attempts, path, body, content, keep)
            except httpx2.RequestError as error:
                await self._retry(endpoint, attempts, self._unreached(endpoint, attempts, error))
                continue
            except (httpx2.InvalidURL, UnicodeError) as error:
                raise _no_address(endpoint, error) from error
            self._reached.add(endpoint.base_url)
            if 200 <= answer.status < 300:
                latency_s = attempts.latency_s
                try:
                    found = read(answer.body, latency_s, False)
                except Unreadable as error:
                    attempts.unreadable("an answer that cannot be read")
                    await self._retry(endpoint, attempts, error)
                    continue
                record.answered = True
                return answer.body, latency_s, found
            refusal = read_refusal(answer.status, answer.body)
            failure = self._refused(endpoint, attempts, record, refusal, sent)
            if not may_pass(answer) or refusal.meaning in (Meaning.ACCOUNT, Meaning.PROMPT):
                raise failure
            await self._retry(endpoint, attempts, failure, answer)

    async def _send(
        self,
        endpoint: Endpoint,
        lane: Channel,
        attempts: Attempts,
        path: str,
        body: Mapping[str, Any],
        content: bytes,
        keep: Collection[str],
    ) -> tuple[Answer, Mapping[str, Any]]:
        """One attempt, and further ones at once for each parameter that the endpoint turns out not to take.

        One call finds out what is refused while the others wait for it, so that a thousand calls are not refused three times.

        Returns:
            The answer, and the body that was sent for it.
        """
        while True:
            place = await attempts.begin()
            parameters = self._parameters.get(endpoint.identity)
            if parameters is not None and parameters.learning.locked():
                attempts.cancel(place)
                async with parameters.learning:
                    continue
            answer, sent = await _post(parameters, lane, attempts, place, path, body, content, keep)
            if answer.status < 400:
                return answer, sent
            refusal = read_refusal(answer.status, answer.body)
            if refused_parameter(refusal, sent) is None:
                return answer, sent
            parameters = self._parameters.setdefault(endpoint.identity, Parameters())
            async with parameters.learning:
                if parameters.adapt(body, keep).keys() != sent.keys():  # another call has found it out
                    await _count_refused(parameters, attempts)
                    continue
                while parameters.learn(refusal, sent, keep):
                    await _count_refused(parameters, attempts)
                    place = await attempts.begin()
                    answer, sent = await _post(parameters, lane, attempts, place, path, body, content, keep)
                    if answer.status < 400:
                        return answer, sent
                    refusal = read_refusal(answer.status, answer.body)
                return answer, sent

    async def _retry(
        self, endpoint: Endpoint, attempts: Attempts, failure: InferenceError, answer: Answer | None = None
    ) -> None:
        """Waits before the next attempt.

        Raises:
            InferenceError: The failure, if there are no attempts left; another one if there is no time or the run has no
                retries left.
        """
        if not attempts.over:
            if attempts.retries >= endpoint.max_retries:
                raise failure
            if await attempts.retry(answer):
                return
        last = "" if answer is None else f"; the last refusal: {failure}"
        raise CallFailed(f"{endpoint.base_url} gave no answer within {endpoint.deadline_s:g} s{last}") from failure

    def _refused(
        self, endpoint: Endpoint, attempts: Attempts, record: _Record, refusal: Refusal, sent: Mapping[str, Any]
    ) -> InferenceError:
        """The error of an answer with an error status."""
        where, asked = _where(endpoint), attempts.retries + 1
        passing = refusal.status in (408, 409, 429) or refusal.status >= 500
        error: InferenceError
        match refusal.meaning:
            case Meaning.ACCOUNT:
                error = EndpointRefused(
                    f"{where} does not serve this account ({refusal}): check its credits and billing"
                )
            case Meaning.PROMPT:
                error = Rejected(f"{where} rejected this request ({refusal})")
            case _ if passing:
                error = CallFailed(f"{where} failed {asked} times, last with {refusal}{_hint(refusal, sent)}")
            case _ if (name := refused_parameter(refusal, sent)) is not None:
                error = EndpointRefused(f"{where} does not take `{name}` ({refusal}): {_without(name)}")
            case Meaning.KEY:
                cure = f"check the key in `{endpoint.api_key_env}`" if endpoint.api_key_env else "set `api_key_env`"
                error = EndpointRefused(f"{where} refused the key ({refusal}): {cure}")
            case Meaning.ADDRESS:
                error = EndpointRefused(
                    f"{where} was not found ({refusal}): `base_url` ends in /v1 for most servers, and `model` must "
                    "be a name that the server lists under /models"
                )
            case _ if record.refuses_all(_prompt(sent), attempts):
                error = EndpointRefused(
                    f"{where} rejected the request ({refusal}), and all {len(record.refused)} prompts so far: check "
                    "`sampling` and what the model can do"
                )
            case _:
                error = Rejected(f"{where} rejected this request ({refusal})")
        error.status = refusal.status
        return error

    def _unreached(self, endpoint: Endpoint, attempts: Attempts, error: httpx2.RequestError) -> InferenceError:
        """The error of an attempt without an answer."""
        where, said = _where(endpoint), " ".join(str(error).split())[:200]
        if endpoint.base_url in self._reached:
            return CallFailed(f"{where} could not be reached {attempts.retries + 1} times: {said}")
        return EndpointRefused(f"{where} cannot be reached ({said}): check `base_url` and that the server is running")

    def _way(self, endpoint: Endpoint) -> tuple[Limiter, Channel] | None:
        """The gate and the lane of an endpoint; None for the embedded model, which has several lanes."""
        known = self._ways.get(id(endpoint))
        if known is not None:
            return known[1]
        if endpoint.embedded:
            return None
        if len(self._ways) >= _MOST_WAYS:
            self._ways.clear()
        way = self.gate(endpoint), self._channel(endpoint, endpoint.base_url)
        self._ways[id(endpoint)] = endpoint, way  # the endpoint is held, so that nothing else gets its id
        return way

    async def _embedded_way(self, endpoint: Endpoint) -> tuple[Limiter, Channel]:
        """The gate, and the lane to the embedded model's server that has the least to do."""
        lanes = [self._channel(endpoint, url) for url in await embedded_urls(endpoint)]
        return self.gate(endpoint), min(lanes, key=lambda lane: lane.under_way)

    def gate(self, endpoint: Endpoint) -> Limiter:
        """The gate of an endpoint; roles that share the endpoint share the gate."""
        limits = (endpoint.max_concurrency, endpoint.requests_per_minute, endpoint.tokens_per_minute)
        key = (endpoint.identity, *limits, endpoint.adaptive)
        gate = self._limiters.get(key)
        if gate is None:
            gate = self._limiters[key] = Limiter(*limits, adaptive=endpoint.adaptive)
        return gate

    async def aclose(self) -> None:
        """Closes all connections."""
        for lane in self._channels.values():
            await lane.aclose()
        self._channels.clear()
        self._ways.clear()

    def _channel(self, endpoint: Endpoint, url: str) -> Channel:
        lane = self._channels.get((url, endpoint.api_key_env))
        if lane is None:
            lane = Channel(url, endpoint.api_key, trust_env=not endpoint.embedded)
            self._channels[url, endpoint.api_key_env] = lane
        return lane


async def _post(
    parameters: Parameters | None,
    lane: Channel,
    attempts: Attempts,
    place: Place,
    path: str,
    body: Mapping[str, Any],
    content: bytes,
    keep: Collection[str],
) -> tuple[Answer, Mapping[str, Any]]:
    """One attempt, with the body as the endpoint takes it."""
    try:
        sent = body if parameters is None else parameters.adapt(body, keep)
        answer = await lane.send(path, content if sent is body else _encode(sent), attempts)
    except BaseException as error:
        attempts.failed(place, error)
        raise
    attempts.answered(place, answer)
    return answer, sent


async def _count_refused(parameters: Parameters, attempts: Attempts) -> None:
    parameters.refused += 1
    await attempts.count_refused()


def _where(endpoint: Endpoint) -> str:
    return f"{endpoint.base_url} (model `{endpoint.model}`)"


def _without(name: str) -> str:
    """The advice for a required parameter that the endpoint refuses."""
    if name in ("logprobs", "top_logprobs"):
        return (
            "set `interface.logprobs=false`, or a judge's `logprobs=never`, or choose a model whose API gives logprobs"
        )
    return f"set it to null or leave it out, or choose a model that takes `{name}`"


def _hint(refusal: Refusal, sent: Mapping[str, Any]) -> str:
    """A hint for internal errors: some servers fail this way on unknown fields."""
    fields = [f"`{name}`" for name in ("logprobs", "response_format") if sent.get(name)]
    return f". It may be unable to serve {' or '.join(fields)}" if refusal.status in (500, 501) and fields else ""


def _prompt(sent: Mapping[str, Any]) -> bytes:
    """The part of a request that identifies its prompt."""
    return _encode(sent.get("messages", sent.get("input", sent)))


def _no_address(endpoint: Endpoint, error: Exception) -> EndpointRefused:
    return EndpointRefused(f"`base_url` is no address that can be asked: {endpoint.base_url} ({error})")


def _tokens(endpoint: Endpoint, content: bytes) -> float:
    """Estimates the tokens of a request; only needed with a token limit."""
    if endpoint.tokens_per_minute is None:
        return 0.0
    return len(content) / _BYTES_PER_TOKEN + (endpoint.sampling.max_tokens or _USUAL_COMPLETION)
