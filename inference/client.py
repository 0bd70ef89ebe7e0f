"""The one way out: every call of every role to any OpenAI-compatible endpoint goes through `InferenceClient`.

Request bodies are written and answers decoded by msgspec, because building pydantic models costs more than the call;
`inference.transport.channel` says who carries them. All connections live on one event loop in one thread. Nothing here knows what the
calls are for.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from ..core.concurrency import LoopThread, T
from ..core.errors import EndpointRefused, InferenceError, NotAnAPI, RunStopped
from ..core.settings import construct
from .answers import Counted, mend, read_usage
from .budget.budget import Amount, Budget
from .budget.shared import budget_from_settings
from .budget.usage import Ledger, Meter
from .cassette.cassette import DEFAULT_PLACE, Cassette
from .cassette.single_flights import SingleFlights
from .completion import Completion, Message, read_completion, read_embeddings
from .endpoint import Endpoint, Sampling
from .refusals import no_answer
from .transport.bounds import Bounds
from .transport.retries import RetryBudget

R = TypeVar("R")

_ENCODER = msgspec.json.Encoder(order="deterministic")  # the body is also part of its own cassette key
_encode = _ENCODER.encode


class InferenceClient:
    """Asks endpoints, remembers answers, counts what they cost.

    One client serves all roles of a process. Its coroutines run on its own loop: await them there, or hand them to
    `run` from any other thread.

    Args:
        cassette: Where answers are kept; None for nowhere.
        meter: Counts by role; a new one by default.
        budget: Limits of the run; None for no limits.
        retries: Retries of all calls together; `RetryBudget`'s defaults by default.
    """

    def __init__(
        self,
        cassette: Cassette | None = None,
        meter: Meter | None = None,
        budget: Budget | None = None,
        retries: RetryBudget | None = None,
    ) -> None:
        self.cassette = Cassette(mode="off") if cassette is None else cassette
        self.meter = meter or Meter()
        self.thread = LoopThread()
        self.bounds = Bounds(budget, retries or RetryBudget())
        from .transport.transport import (
            Transport,  # brings the `openai` package, whose import takes longer than all else here
        )

        self._transport = Transport(self.bounds, self.meter.parameters)
        self._closed = False
        self._flights = SingleFlights(self.cassette)
        self._readable: set[str] = set()  # addresses that gave an answer of the kind that was asked for

    _shared: dict[int, InferenceClient] = {}  # noqa: RUF012  (by process id, so that a fork gets its own)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> InferenceClient:
        """Builds a client from the configuration's part ``inference``.

        Args:
            settings: Cassette, budget, retries and endpoints by name.

        Returns:
            The client.

        Raises:
            ConfigError: If a value is refused.
        """
        return cls(
            construct(Cassette, settings.get("cassette") or {}, "inference.cassette"),
            budget=budget_from_settings(settings.get("budget")),
            retries=construct(RetryBudget, settings.get("retries") or {}, "inference.retries"),
        )

    @classmethod
    def shared(cls) -> InferenceClient:
        """The process's client for callers that bring none; it records in ``.cache/cassette.sqlite``."""
        pid = os.getpid()
        if pid not in cls._shared:
            path = Path(os.environ.get("DUOLOGUE_CASSETTE", DEFAULT_PLACE))
            cls._shared[pid] = cls(Cassette(path))
            atexit.register(cls._shared[pid].close)
        return cls._shared[pid]

    async def chat(
        self,
        endpoint: Endpoint,
        messages: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        sample_index: int = 0,
        logprobs: bool = False,
        top_logprobs: int = 0,
        logprobs_required: bool = True,
        keep: Collection[str] = (),
        role: str = "assistant",
    ) -> Completion:
        """Samples one answer.

        Args:
            endpoint: Endpoint of the request.
            messages: The dialogue so far.
            sampling: Replaces the endpoint's defaults as a whole.
            sample_index: Which of the independent samples of this request, from 0; samples with the same index are
                the same answer.
            logprobs: Whether to ask for the tokens' logprobs.
            top_logprobs: Number of alternatives per position, 0 to 20.
            logprobs_required: Whether an answer without the logprobs that were asked for is refused.
            keep: Parameters without which the answer is of no use. All others are left out, from the first refusal on,
                where the endpoint does not take them.
            role: For the meter: ``assistant``, ``user``, ``judge`` or ``baseline``.

        Returns:
            The answer.

        Raises:
            EndpointRefused: If the endpoint cannot work as configured.
            CallFailed: If this call failed after its retries.
            CassetteError: If the cassette is broken, or has no answer in replay mode.
        """
        sampling = endpoint.sampling if sampling is None else sampling
        body: dict[str, Any] = {"model": endpoint.model, "messages": messages, **sampling.body(sample_index)}
        if logprobs:
            body["logprobs"] = True
            if top_logprobs:
                body["top_logprobs"] = top_logprobs

        def read(raw: bytes, latency_s: float, reused: bool) -> Completion:
            try:
                completion = read_completion(
                    raw, endpoint, logprobs=logprobs, required=logprobs_required, latency_s=latency_s, reused=reused
                )
            except NotAnAPI as error:
                raise self._misplaced(endpoint, error) from error
            self._readable.add(endpoint.base_url)
            return completion

        if logprobs and logprobs_required:
            keep = {*keep, "logprobs", "top_logprobs"}
        with self.bounds:
            completion = await self._ask(endpoint, "/chat/completions", body, sample_index, role, read, keep)
            self.meter.count(role, completion)
        return completion

    async def embed(
        self, endpoint: Endpoint, texts: Sequence[str], *, role: str = "encoder"
    ) -> npt.NDArray[np.float32]:
        """Asks for one embedding per text.

        Args:
            endpoint: Embedding endpoint.
            texts: Texts to embed.
            role: Role under which the usage is counted.

        Returns:
            Array of shape (len(texts), dimension), float32, as the server gives them.

        Raises:
            EndpointRefused: If the endpoint cannot work as configured.
            CallFailed: If this call failed after its retries.
            CassetteError: If the cassette is broken, or has no answer in replay mode.
        """
        vectors, _ = await self.post(
            endpoint,
            "/embeddings",
            {"input": list(texts)},
            lambda raw: read_embeddings(raw, texts),
            role=role,
        )
        return np.asarray(vectors, np.float32)

    async def post(
        self,
        endpoint: Endpoint,
        path: str,
        fields: Mapping[str, Any],
        read: Callable[[bytes], R],
        *,
        keep: Collection[str] = (),
        role: str,
    ) -> tuple[R, float]:
        """Asks something else than chat or embeddings: a moderation, a score, a ranking.

        Args:
            endpoint: Endpoint of the request.
            path: Path below ``base_url``, for example ``/moderations``.
            fields: The body besides ``model``.
            read: Turns the answer's bytes into what is wanted; raises ValueError if they are not that.
            keep: Parameters without which the answer is of no use; see `chat`.
            role: Role under which the usage is counted.

        Returns:
            What was read, and what it cost by the endpoint's price.

        Raises:
            EndpointRefused: If the endpoint cannot work as configured.
            CallFailed: If this call failed after its retries, or cannot be read.
            CassetteError: If the cassette is broken, or has no answer in replay mode.
        """

        def checked(raw: bytes, latency_s: float, reused: bool) -> tuple[R, Counted, bool]:
            try:
                found = read(raw)
            except (ValueError, RecursionError, OverflowError) as error:
                failed = no_answer(raw, endpoint, f"answer of {path}", error)
                raise self._misplaced(endpoint, failed) if isinstance(failed, NotAnAPI) else failed from error
            self._readable.add(endpoint.base_url)
            return found, read_usage(raw) or Counted(), reused

        body = {"model": endpoint.model, **fields}
        with self.bounds:
            found, usage, reused = await self._ask(endpoint, path, body, 0, role, checked, keep)
            tokens = usage.billed or (0, usage.completion_tokens or 0)
            cost_usd = endpoint.price.cost_usd(*tokens)
            if reused:
                self.meter.count_reused(role)
            else:
                self.meter.count_paid(role, *tokens, cost_usd)
        return found, cost_usd

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the client's loop from another thread and returns its result."""
        return self.thread.run(coroutine)

    def stop(self, reason: RunStopped) -> None:
        """Stops the client: no new call begins, running calls go on. Thread-safe; the first stop counts.

        Args:
            reason: Error that every further call raises.
        """
        if self.bounds.stopped is None:
            self.bounds.stopped = reason

    async def idle(self) -> None:
        """Waits until no call is running, so that no paid answer is lost."""
        await self.bounds.idle()

    def spent(self) -> dict[str, float]:
        """Requests, tokens and US dollars as the budget counts them, attempts without an answer included."""
        total = Amount() if self.bounds.budget is None else self.bounds.budget.total
        return {"requests": total.requests, "tokens": total.tokens, "usd": round(total.usd, 6)}

    @contextmanager
    def ledger(self, path: Path) -> Iterator[None]:
        """Records usage in a file while the context is open, and starts from what the file already holds.

        Args:
            path: The ledger's file.

        Yields:
            Nothing.

        Raises:
            ConfigError: If the file cannot be used.
        """
        self.bounds.budget = self.bounds.budget or Budget()
        ledger = Ledger(path, self.meter, self.bounds.budget)
        try:
            yield
        finally:
            ledger.close()

    def close(self) -> None:
        """Cancels running calls, closes connections and the cassette; closing twice does nothing."""
        if self._shared.get(os.getpid()) is self:
            del self._shared[os.getpid()]
        if not self._closed:
            self._closed = True
            if self.thread.cancel_all():  # first: a call under way would open its connection again
                self.thread.run(self._transport.aclose())
                self.thread.close()
            self.cassette.close()
            if self.bounds.budget is not None:
                self.bounds.budget.close()

    def _misplaced(self, endpoint: Endpoint, error: NotAnAPI) -> InferenceError:
        """The error of a web page: that of the user's address, unless this address has given answers before."""
        return error if endpoint.base_url in self._readable else EndpointRefused(str(error))

    async def _ask(
        self,
        endpoint: Endpoint,
        path: str,
        body: Mapping[str, Any],
        sample_index: int,
        role: str,
        read: Callable[[bytes, float, bool], R],
        keep: Collection[str],
    ) -> R:
        """Asks, or finds the answer in the cassette."""
        self.bounds.check()
        try:
            content = _encode(body)
        except UnicodeEncodeError:  # a lone surrogate, which no UTF-8 can hold
            body = mend(body)
            content = _encode(body)

        async def fetch() -> tuple[bytes, float, R]:
            return await self._fetch(endpoint, path, body, content, role, read, keep)

        try:
            if self.cassette.mode == "off":
                return (await fetch())[2]
            identity = {"endpoint": endpoint.identity, "path": path, "body": msgspec.Raw(content)}
            key, canonical = self.cassette.key({**identity, "sample_index": sample_index})
            return await self._flights.answer(key, canonical, read, fetch)
        except InferenceError:
            self.meter.count_failed(role)
            raise

    async def _fetch(
        self,
        endpoint: Endpoint,
        path: str,
        body: Mapping[str, Any],
        content: bytes,
        role: str,
        read: Callable[[bytes, float, bool], R],
        keep: Collection[str],
    ) -> tuple[bytes, float, R]:
        """Asks until there is an answer that can be read."""
        account = self.bounds.account(endpoint, role, body, content)
        try:
            return await self._transport.post(endpoint, path, body, content, read, role, account, keep)
        except RunStopped as reason:
            self.stop(reason)
            raise
