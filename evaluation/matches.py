"""Plays the matches of an evaluation and writes each one as soon as it is decided."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import DuologueError, RunStopped
from ..core.files import json_line
from ..envs.episode import EpisodeFailed
from ..envs.scenarios.scenario import Scenario
from ..inference.completion import Message
from .contestants import Answer, Contestant
from .referee import Match, Referee, first_place, same_winner
from .stats.win_rates import WinRate, win_rate

T = TypeVar("T")

MAX_FAILURE_FRACTION = 0.2


@dataclass
class Tally:
    """One contestant's matches against one baseline.

    Attributes:
        contestant: Whose.
        baseline: Against whom.
        judge: Name of the judge.
        scores: Scores of the decided matches.
        prompts: The scenario of each of them.
        failures: Matches without a result.
        orders: What the contestant got when shown first and second, of those where the order could matter.
    """

    contestant: str
    baseline: str
    judge: str
    scores: list[float] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    failures: int = 0
    orders: list[tuple[float, ...]] = field(default_factory=list)

    def add(self, scenario: Scenario, match: Match) -> None:
        """Counts a match."""
        if match.failure is not None:
            self.failures += 1
            return
        self.scores.append(match.score)
        self.prompts.append(scenario.id)
        if match.scores is None and len(match.orders) > 1:
            self.orders.append(match.orders)

    @property
    def rate(self) -> WinRate | None:
        """The win rate; None if no match was decided."""
        return win_rate(self.scores, self.prompts) if self.scores else None

    def summary(self) -> dict[str, Any]:
        """The row as ``summary.json`` holds it; the figures are null if no match was decided."""
        rate = self.rate
        return {
            "contestant": self.contestant,
            "baseline": self.baseline,
            "judge": self.judge,
            "win_rate": None if rate is None else round(rate.rate, 6),
            "low": None if rate is None else round(rate.low, 6),
            "high": None if rate is None else round(rate.high, 6),
            "n": len(self.scores),
            "wins": sum(score > 0.5 for score in self.scores),
            "ties": sum(score == 0.5 for score in self.scores),
            "losses": sum(score < 0.5 for score in self.scores),
            "failures": self.failures,
            "consistency": _mean([float(same_winner(orders)) for orders in self.orders]),
            "first_place": _mean([first_place(orders) for orders in self.orders]),
        }


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 6) if values else None


async def play_matches(
    contestants: Sequence[Contestant],
    baseline: Contestant,
    scenarios: Sequence[Scenario],
    repeats: int,
    referee: Referee,
    path: Path,
    progress: Callable[[], None] = lambda: None,
    baseline_repeats: int = 1,
) -> list[Tally]:
    """Plays every contestant against the baseline on every scenario.

    All dialogues are under way at once; the endpoint's own limit decides how many ask at a time.

    Args:
        contestants: Who is compared.
        baseline: With whom.
        scenarios: On what.
        repeats: Independent samplings of every scenario.
        referee: The referee.
        path: A JSONL file to which every match is added when it is decided.
        progress: Called after every scenario and repeat.
        baseline_repeats: Answers of the baseline with which every answer of a contestant is compared.

    Returns:
        One tally per contestant, in order.
    """
    tallies = [Tally(c.name, baseline.name, referee.name) for c in contestants]
    with path.open("a", encoding="utf-8") as file:

        async def one(scenario: Scenario, repeat: int) -> list[tuple[Tally, Match]]:
            others = range(repeat * baseline_repeats, (repeat + 1) * baseline_repeats)
            players = [*((c, repeat) for c in contestants), *((baseline, other) for other in others)]
            answers = await asyncio.gather(*(_try(player, scenario, number) for player, number in players))
            own, against = answers[: len(contestants)], answers[len(contestants) :]
            pairs = [(tally, a, b) for tally, a in zip(tallies, own, strict=True) for b in against]
            matches = await asyncio.gather(*(_decide(referee, a, b) for _, a, b in pairs))
            for (tally, a, b), match in zip(pairs, matches, strict=True):
                file.write(json_line(_record(scenario, repeat, tally, a, b, match)))
            file.flush()
            progress()
            return [(tally, match) for (tally, _, _), match in zip(pairs, matches, strict=True)]

        jobs = [(scenario, repeat) for repeat in range(repeats) for scenario in scenarios]
        decided = await _all(one(scenario, repeat) for scenario, repeat in jobs)
    for (scenario, _), outcomes in zip(jobs, decided, strict=True):  # in the order of jobs, whoever was quicker
        for tally, match in outcomes:
            tally.add(scenario, match)
    return tallies


def check_decided(tallies: Sequence[Tally], path: Path) -> None:
    """Refuses results that say little.

    Args:
        tallies: Tallies of all contestants.
        path: File with the causes of failures.

    Raises:
        DuologueError: If more than a fifth of the matches have no result.
    """
    failed = sum(tally.failures for tally in tallies)
    matches = failed + sum(len(tally.scores) for tally in tallies)
    if failed > MAX_FAILURE_FRACTION * matches:
        raise DuologueError(
            f"{failed} of {matches} matches have no result, so the win rate would mean little; {path} names the causes"
        )


async def _all(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Waits for all tasks, or for the first error.

    If the run was stopped, the other tasks end by themselves with their running requests; after any other error they are cancelled.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        failed = [error for task in tasks if task.done() and (error := task.exception()) is not None]
        if failed and not isinstance(failed[0], RunStopped):
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    if failed:
        raise failed[0]
    return [task.result() for task in tasks]


async def _try(contestant: Contestant, scenario: Scenario, repeat: int) -> Answer | EpisodeFailed:
    try:
        return await contestant.answer(scenario, repeat)
    except EpisodeFailed as error:
        return error


async def _decide(referee: Referee, contestant: Answer | EpisodeFailed, baseline: Answer | EpisodeFailed) -> Match:
    for answer in (contestant, baseline):
        if isinstance(answer, EpisodeFailed):
            return Match(failure=str(answer))
    assert isinstance(contestant, Answer)
    assert isinstance(baseline, Answer)
    return await referee.decide(contestant, baseline)


def _record(
    scenario: Scenario,
    repeat: int,
    tally: Tally,
    answer: Answer | EpisodeFailed,
    baseline: Answer | EpisodeFailed,
    match: Match,
) -> dict[str, Any]:
    """One line of ``matches.jsonl``."""
    own = answer if isinstance(answer, Answer) else None
    other = baseline if isinstance(baseline, Answer) else None
    return {
        "scenario": scenario.id,
        "repeat": repeat,
        "contestant": tally.contestant,
        "baseline": tally.baseline,
        "baseline_repeat": None if other is None else other.repeat,
        "judge": tally.judge,
        "messages": None if own is None else list(own.turns[-1].messages),
        "baseline_messages": _parted(own, other),
        "reply": None if own is None else own.reply,
        "baseline_reply": None if other is None else other.reply,
        "actions": None if own is None else list(own.actions),
        **result(match),
    }


def _parted(own: Answer | None, other: Answer | None) -> list[Message] | None:
    """The baseline's dialogue before its last reply, where it is not the contestant's."""
    if own is None or other is None or own.turns[-1].messages == other.turns[-1].messages:
        return None
    return list(other.turns[-1].messages)


def result(match: Match) -> dict[str, Any]:
    """The result fields of a line of ``matches.jsonl``."""
    return {
        "scores": match.scores,
        "orders": list(match.orders),
        "outcome": None if match.failure else match.outcome,
        "consistent": None if match.failure else match.consistent,
        "failure": match.failure,
        "rationales": list(match.rationales) if any(match.rationales) else [],
    }
