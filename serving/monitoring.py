"""Metrics for Prometheus, and a share of the traffic answered a second time for comparison."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, ClassVar

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ..envs.episode import DialogueState
from ..inference.client import InferenceClient
from ..plugins.batched_judge import BatchedJudge, compared
from ..plugins.judge import POINTS, Failure, Judge, PairwiseJudge, Preference, Score, Turn
from .upstream import Upstream

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "duologue_requests", "Requests by model name and HTTP status", ["model", "status"], registry=registry
        )
        self.fallbacks = Counter(
            "duologue_fallbacks",
            "Requests that the frozen model answered without the policy",
            ["model", "reason"],
            registry=registry,
        )
        self.actions = Counter("duologue_actions", "Actions of the policy", ["model", "action"], registry=registry)
        self.in_flight = Gauge("duologue_in_flight", "Requests under way", registry=registry)
        self.seconds = Histogram(
            "duologue_request_seconds",
            "Until the answer, or a stream's beginning",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.decision_seconds = Histogram(
            "duologue_decision_seconds", "Observing and deciding", ["model"], buckets=_SECONDS, registry=registry
        )
        self.clients_gone = Counter("duologue_clients_gone", "Requests whose client hung up", registry=registry)
        self.refused_connections = Counter(
            "duologue_refused_connections",
            "Connections that were closed for their limits, by reason",
            ["reason"],
            registry=registry,
        )
        self.canaries = Counter(
            "duologue_canaries", "Requests that the frozen model answered for comparison", ["model"], registry=registry
        )
        self.shadows = Counter(
            "duologue_shadow_matches",
            "Comparisons with the frozen model, by result",
            ["model", "result"],
            registry=registry,
        )
        self.win_rate = Gauge(
            "duologue_shadow_win_rate",
            "Against the frozen model: rate, low and high of its 95% interval",
            ["model", "bound"],
            registry=registry,
        )


_LOG = logging.getLogger("duologue.serving")
_AT_ONCE = 16
"""Comparisons under way, at most: further ones are left out and counted, so that judging never piles up."""


def share_of(messages: Sequence[Mapping[str, Any]], salt: str, session: str = "") -> float:
    """Maps a dialogue to a number in [0, 1): equal for all its requests and replicas, different per salt.

    Args:
        messages: Of one request. What a dialogue keeps from request to request is its first user turn.
        salt: Name of the share's purpose.
        session: The dialogue's id, which counts instead where there is one.

    Returns:
        The number.
    """
    first = next((message for message in messages if message["role"] == "user"), None)
    kept = session.encode() or msgspec.json.encode(first, order="deterministic")
    return int.from_bytes(blake2b(kept, digest_size=8, salt=salt.encode()).digest(), "big") / 2**64


@dataclass
class Tally:
    """A running win rate.

    Attributes:
        n: Comparisons with a result.
        mean: Mean score, a win being 1 and a tie 0.5.
    """

    n: int = 0
    mean: float = 0.0
    _squares: float = 0.0

    def add(self, score: float) -> None:
        """Counts one, by Welford's recurrence."""
        self.n += 1
        before = score - self.mean
        self.mean += before / self.n
        self._squares += before * (score - self.mean)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the mean with independent requests; (0, 1) before there are two."""
        if self.n < 2:
            return 0.0, 1.0
        half = 1.96 * math.sqrt(self._squares / (self.n - 1) / self.n)
        return max(0.0, self.mean - half), min(1.0, self.mean + half)


class Watch:
    """Compares the policy's replies with the frozen model's own.

    Args:
        judge: A judge that compares, or scores replies one by one.
        share: Share of dialogues that are compared.
        client: On whose loop the judge works.
        metrics: Metrics with the running win rate.
    """

    MAX_REPLY_BYTES: ClassVar[int] = 2**22
    """A stream that is longer is not compared."""

    def __init__(self, judge: Judge | PairwiseJudge, share: float, client: InferenceClient, metrics: Metrics) -> None:
        self._judge, self._client, self._metrics = judge, client, metrics
        self._bench = BatchedJudge("shadow", judge) if isinstance(judge, Judge) else None
        self.share = share
        self.tallies: dict[str, Tally] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def wants(self, messages: Sequence[Mapping[str, Any]], session: str = "") -> bool:
        """Whether a dialogue is part of the share, see `share_of`."""
        return share_of(messages, "shadow", session) < self.share

    def compare(
        self, name: str, upstream: Upstream, plain: Mapping[str, Any], answer: bytes, text: Callable[[bytes], str]
    ) -> None:
        """Has a reply compared, after it was sent.

        Args:
            name: The alias.
            upstream: Server that gives the other reply.
            plain: The body of that request.
            answer: What was sent.
            text: Reads the reply's text in it; an answer without text, such as a call of a tool, is not compared.
        """
        if len(self._tasks) >= _AT_ONCE:
            self._metrics.shadows.labels(name, "left out").inc()
            return
        task = asyncio.ensure_future(self._compare(name, upstream, plain, answer, text))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compare(
        self, name: str, upstream: Upstream, plain: Mapping[str, Any], answer: bytes, text: Callable[[bytes], str]
    ) -> None:
        try:
            if not (reply := text(answer)):
                self._metrics.shadows.labels(name, "left out").inc()
                return
            found = await upstream.post("/chat/completions", plain, ())
            other = whole_text(found.content) if found.ok else ""
            score = await self._score(plain["messages"], reply, other) if other else None
        except Exception as error:  # noqa: BLE001  (nothing off the path may harm what is on it)
            _LOG.warning("%s: a comparison failed (%s: %s)", name, type(error).__name__, error)
            score = None
        if score is None:
            self._metrics.shadows.labels(name, "failed").inc()
            return
        tally = self.tallies.setdefault(name, Tally())
        tally.add(score)
        low, high = tally.interval
        self._metrics.shadows.labels(name, "win" if score > 0.5 else "loss" if score < 0.5 else "tie").inc()
        for bound, value in (("rate", tally.mean), ("low", low), ("high", high)):
            self._metrics.win_rate.labels(name, bound).set(value)
        _LOG.info("%s wins %.3f (%.3f to %.3f) of %d comparisons", name, tally.mean, low, high, tally.n)

    async def _score(self, messages: Sequence[Mapping[str, Any]], reply: str, other: str) -> float | None:
        before = tuple(DialogueState.of(messages).messages)
        future = self._client.thread.submit(self._judged(Turn(before, reply), Turn(before, other)))
        return await asyncio.wrap_future(future)

    async def _judged(self, own: Turn, other: Turn) -> float | None:
        """The policy's score in the mean of both orders; None where the judge did not say."""
        if self._bench is not None:
            verdicts = await asyncio.gather(self._bench.score(own), self._bench.score(other))
            values = [verdict.value for verdict in verdicts if isinstance(verdict, Score)]
            return None if len(values) < 2 else 0.5 * (1 + (values[0] > values[1]) - (values[0] < values[1]))
        assert isinstance(self._judge, PairwiseJudge)
        found = await asyncio.gather(compared(self._judge, own, other), compared(self._judge, other, own))
        points = [_points(preference) for preference in found]
        return None if None in points else (points[0] + 1 - points[1]) / 2  # type: ignore[operator]

    async def aclose(self) -> None:
        """Cancels running comparisons."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _points(found: Preference | Failure) -> float | None:
    """The first reply's points."""
    if not isinstance(found, Preference):
        return None
    return POINTS[found.winner] if found.score is None else found.score


def whole_text(content: bytes) -> str:
    """Reads the text of a completion's first choice.

    Args:
        content: The completion as JSON.

    Returns:
        The text; empty for a tool call.

    Raises:
        Exception: Of whatever kind, if it is no completion.
    """
    return _text(msgspec.json.decode(content)["choices"][0]["message"].get("content"))


def streamed_text(content: bytes) -> str:
    """Reads the text of a stream's first choice.

    Args:
        content: Server-sent events.

    Returns:
        The text.

    Raises:
        Exception: Of whatever kind, if a chunk cannot be read.
    """
    said = []
    for line in content.split(b"\n"):
        if line.startswith(b"data:") and b"{" in line:
            for choice in msgspec.json.decode(line[5:]).get("choices") or []:
                if not choice.get("index"):
                    said.append(_text((choice.get("delta") or {}).get("content")))
    return "".join(said)


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""
