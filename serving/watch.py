"""How the policy fares in production: a share of the traffic is answered by the frozen model, too, and judged off the path."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import msgspec

from ..envs.state import DialogueState
from ..inference.client import InferenceClient
from ..plugins.bench import Bench, compared
from ..plugins.judge import Judge, PairwiseJudge
from ..plugins.verdict import POINTS, Failure, Preference, Score, Turn
from .metrics import Metrics
from .upstream import Upstream

_LOG = logging.getLogger("duologue.serving")
_AT_ONCE = 16
"""Comparisons under way, at most: further ones are left out and counted, so that judging never piles up."""


def share_of(messages: Sequence[Mapping[str, Any]], salt: str) -> float:
    """Where a dialogue falls in [0, 1): the same on every replica, and for each salt anew."""
    return crc32(salt.encode() + msgspec.json.encode(messages, order="deterministic")) / 2**32


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
        """The 95% interval of the mean, requests taken as independent; (0, 1) before there are two."""
        if self.n < 2:
            return 0.0, 1.0
        half = 1.96 * math.sqrt(self._squares / (self.n - 1) / self.n)
        return max(0.0, self.mean - half), min(1.0, self.mean + half)


class Watch:
    """Compares the policy's replies with the frozen model's own.

    Args:
        judge: Who compares, or scores one by one.
        share: Of the dialogues that are compared.
        client: On whose loop the judge works.
        metrics: Where the running win rate stands.
    """

    def __init__(self, judge: Judge | PairwiseJudge, share: float, client: InferenceClient, metrics: Metrics) -> None:
        self._judge, self._client, self._metrics = judge, client, metrics
        self._bench = Bench("shadow", judge) if isinstance(judge, Judge) else None
        self.share = share
        self.tallies: dict[str, Tally] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def wants(self, messages: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a dialogue is one of the share."""
        return share_of(messages, "shadow") < self.share

    def compare(self, name: str, upstream: Upstream, plain: Mapping[str, Any], reply: str) -> None:
        """Has a reply compared, after it was sent.

        Args:
            name: The alias.
            upstream: Who is asked for the other reply.
            plain: The body of that request.
            reply: The policy's.
        """
        if len(self._tasks) >= _AT_ONCE:
            self._metrics.shadows.labels(name, "left out").inc()
            return
        task = asyncio.ensure_future(self._compare(name, upstream, plain, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compare(self, name: str, upstream: Upstream, plain: Mapping[str, Any], reply: str) -> None:
        try:
            answer = await upstream.post("/chat/completions", plain)
            other = msgspec.json.decode(answer.content)["choices"][0]["message"]["content"] if answer.ok else None
            score = None if other is None else await self._score(plain["messages"], reply, other)
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
        """Breaks off what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _points(found: Preference | Failure) -> float | None:
    """What the first reply gets."""
    if not isinstance(found, Preference):
        return None
    return POINTS[found.winner] if found.score is None else found.score


def streamed_text(content: bytes) -> str:
    """The text of a stream's first choice."""
    said = []
    for line in content.splitlines():
        if line.startswith(b"data: {"):
            choices = msgspec.json.decode(line[6:]).get("choices") or []
            said += [choice["delta"].get("content") or "" for choice in choices if not choice.get("index")]
    return "".join(said)
