"""Asks a judge about labelled records, in both orders and as often as wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

from ...core.files import json_line
from ...plugins.batched_judge import BatchedJudge, compared
from ...plugins.judge import Failure, Judge, PairwiseJudge, Score, Turn
from .labelled import LabelledPair, LabelledScore

_SWAPPED = {"first": "second", "second": "first", "tie": "tie"}


@dataclass
class JudgedRecord:
    """One verdict on one record.

    Attributes:
        id: The record's.
        repeat: From 0.
        order: ``ab`` as the record has the pair, ``ba`` the other way round, ``both`` where the order does not matter.
        verdict: ``first``, ``second`` or ``tie`` as the record numbers the replies, a score, or None.
        failure: Why there is none.
        components: The parts of a score.
        cost_usd: At the endpoint's price.
        latency_s: Seconds that the verdict took, if a judge model gave it.
    """

    id: str
    repeat: int
    order: str
    verdict: str | float | None = None
    failure: str | None = None
    components: Mapping[str, float] = field(default_factory=dict)
    cost_usd: float = 0.0
    latency_s: float = 0.0


class JudgeRunner:
    """Asks a judge about labelled records.

    Args:
        judges: The judge once for each repeat: they ask anew, also where the question is the same.
        records: The labelled records.
    """

    def __init__(
        self,
        judges: Sequence[Judge | PairwiseJudge],
        records: Sequence[LabelledPair] | Sequence[LabelledScore],
    ) -> None:
        self._judges, self._records = judges, records
        self._batched_judges = [BatchedJudge("judge", judge) if isinstance(judge, Judge) else None for judge in judges]

    async def ask(self, file: TextIO, done: Callable[[], None]) -> list[JudgedRecord]:
        """Asks all questions concurrently, within the endpoint's limits.

        Args:
            file: Receives every verdict as it arrives, a JSON object a line.
            done: Called after each.

        Returns:
            The verdicts in the order of repeats, records and orders.

        Raises:
            DuologueError: What no retry can mend.
        """

        async def kept(job: Coroutine[Any, Any, list[JudgedRecord]]) -> list[JudgedRecord]:
            found = await job
            file.writelines(json_line(asdict(asked)) for asked in found)
            file.flush()
            done()
            return found

        jobs = [kept(self._one(repeat, record)) for repeat in range(len(self._judges)) for record in self._records]
        answers = await asyncio.gather(*jobs, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [asked for answer in answers if not isinstance(answer, BaseException) for asked in answer]

    async def _one(self, repeat: int, record: LabelledPair | LabelledScore) -> list[JudgedRecord]:
        judge, batched_judge = self._judges[repeat], self._batched_judges[repeat]
        if isinstance(record, LabelledScore):
            assert batched_judge is not None
            return [await _score(batched_judge, record.id, repeat, record.turn)]
        if batched_judge is not None:
            return [await _by_scores(batched_judge, repeat, record)]
        assert isinstance(judge, PairwiseJudge)
        there = _compare(judge, record.id, repeat, "ab", record.first, record.second)
        back = _compare(judge, record.id, repeat, "ba", record.second, record.first)
        return list(await asyncio.gather(there, back))

    async def aclose(self) -> None:
        """Closes the judges."""
        for judge in self._judges:
            await judge.aclose()


async def _compare(judge: PairwiseJudge, name: str, repeat: int, order: str, first: Turn, second: Turn) -> JudgedRecord:
    found = await compared(judge, first, second)
    if isinstance(found, Failure):
        return JudgedRecord(name, repeat, order, failure=found.error)
    winner = found.winner if order == "ab" else _SWAPPED[found.winner]
    return JudgedRecord(name, repeat, order, winner, cost_usd=found.cost_usd, latency_s=found.latency_s)


async def _score(batched_judge: BatchedJudge, name: str, repeat: int, turn: Turn) -> JudgedRecord:
    found = await batched_judge.score(turn)
    if not isinstance(found, Score):
        reason = found.error if isinstance(found, Failure) else f"abstained: {found.reason}"
        return JudgedRecord(name, repeat, "both", failure=reason)
    return JudgedRecord(name, repeat, "both", found.value, None, found.components, found.cost_usd, found.latency_s)


async def _by_scores(batched_judge: BatchedJudge, repeat: int, record: LabelledPair) -> JudgedRecord:
    """A judge that scores replies one by one, on a pair."""
    turns = (record.first, record.second)
    first, second = await asyncio.gather(*(_score(batched_judge, record.id, repeat, turn) for turn in turns))
    if first.failure or second.failure:
        return JudgedRecord(record.id, repeat, "both", failure=first.failure or second.failure)
    assert isinstance(first.verdict, float | int)
    assert isinstance(second.verdict, float | int)
    ahead = float(first.verdict) - float(second.verdict)
    winner = "tie" if abs(ahead) <= 1e-9 else "first" if ahead > 0 else "second"
    cost, latency = first.cost_usd + second.cost_usd, (first.latency_s + second.latency_s) / 2
    return JudgedRecord(record.id, repeat, "both", winner, cost_usd=cost, latency_s=latency)
