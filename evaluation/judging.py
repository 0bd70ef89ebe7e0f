"""Which of two answers is better, asked in both orders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..envs.scenarios import Scenario
from ..inference.errors import ConfigError
from ..plugins.bench import Bench, compared
from ..plugins.judge import Judge, JudgeContext, PairwiseJudge
from ..plugins.manager import plugins
from ..plugins.verdict import POINTS, Failure, Preference, Score, Turn, Verdict
from .contestants import Answer

TIE_MARGIN = 1e-9
"""Scores closer than this are equal."""

Outcome = Literal["win", "tie", "loss"]


@dataclass(frozen=True)
class Match:
    """A contestant's answer against a baseline's, judged in both orders.

    Attributes:
        orders: The contestant's result when it was shown first, and when it was shown second: 1, 0.5 or 0, or between
            where the judge says how sure it is.
        failure: Why there is no result; then ``orders`` is empty.
        scores: The two scores, contestant's first, if the judge gives scores.
        rationales: What the judge said of the contestant's reply and of the baseline's, if it gives scores; else when the
            contestant was shown first and second.
    """

    orders: tuple[float, ...] = ()
    failure: str | None = None
    scores: tuple[float, float] | None = None
    rationales: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """The mean over both orders, in [0, 1]."""
        return sum(self.orders) / len(self.orders)

    @property
    def consistent(self) -> bool:
        """Whether both orders gave the same winner."""
        return len({(order > 0.5) - (order < 0.5) for order in self.orders}) <= 1

    @property
    def outcome(self) -> Outcome:
        """A win or a loss only if the orders do not cancel out."""
        return "win" if self.score > 0.5 else "loss" if self.score < 0.5 else "tie"


def make_referee(
    settings: Mapping[str, Any], where: str, choose: str, context: JudgeContext, scenarios: Sequence[Scenario]
) -> Referee:
    """Builds the judge of an evaluation, and refuses one that could say nothing.

    Args:
        settings: The judge's name and its own.
        where: Their place in the configuration.
        choose: How another one is chosen on the command line, such as ``judge@evaluation.judge``.
        context: Given to the judge.
        scenarios: What will be played.

    Raises:
        ConfigError: If there is no such judge, a value is refused, or it needs references and there are none.
    """
    judge, name = plugins().build(settings, where, context), str(settings["name"])
    if getattr(judge, "needs_reference", False) and not any(scenario.reference for scenario in scenarios):
        raise ConfigError(
            f"`{where}`: `{name}` compares with references, and none of the {len(scenarios)} scenarios has one: add "
            f"`reference` to them, or choose a judge that needs none, such as `{choose}=llm`"
        )
    return Referee(name, judge)


class Referee:
    """Decides matches with one judge; a judge that scores replies one by one compares by its scores.

    A dialogue is judged by its last turn.

    Args:
        name: The judge's name.
        judge: Who decides.

    Attributes:
        bench: The judge's seat, if it scores replies one by one.
    """

    def __init__(self, name: str, judge: Judge | PairwiseJudge) -> None:
        self.name = name
        self.judge = judge
        self.bench = Bench(name, judge) if isinstance(judge, Judge) else None
        self._verdicts: dict[str, asyncio.Future[Verdict]] = {}

    async def decide(self, contestant: Answer, baseline: Answer) -> Match:
        """Judges one pair in both orders.

        Raises:
            DuologueError: What no retry can mend.
        """
        a, b = contestant.turns[-1], baseline.turns[-1]
        if isinstance(self.judge, PairwiseJudge):
            return await self._by_comparison(self.judge, a, b)
        return await self._by_scores(a, b)

    async def _by_scores(self, a: Turn, b: Turn) -> Match:
        assert self.bench is not None
        verdicts = await asyncio.gather(self._score(a), self._score(b))
        values = []
        for verdict in verdicts:
            if not isinstance(verdict, Score):
                reason = verdict.error if isinstance(verdict, Failure) else f"abstained: {verdict.reason}"
                return Match(failure=f"{self.name}: {reason}")
            values.append(verdict.value)
        difference = values[0] - values[1]
        result = 0.5 if abs(difference) <= TIE_MARGIN else float(difference > 0)
        rationales = tuple(verdict.rationale for verdict in verdicts if isinstance(verdict, Score))
        return Match((result, result), scores=(values[0], values[1]), rationales=rationales)

    async def _score(self, turn: Turn) -> Verdict:
        """The verdict on a reply; asked for once, however many matches the reply plays."""
        assert self.bench is not None
        key = repr((turn.scenario_id, turn.messages, turn.reply, turn.finish_reason))
        if key not in self._verdicts:
            self._verdicts[key] = asyncio.ensure_future(self.bench.score(turn))
        return await asyncio.shield(self._verdicts[key])  # others may be waiting for it too

    async def _by_comparison(self, judge: PairwiseJudge, a: Turn, b: Turn) -> Match:
        answers = await asyncio.gather(compared(judge, a, b), compared(judge, b, a))
        results, rationales = [], []
        for answer, own in zip(answers, ("first", "second"), strict=True):
            if not isinstance(answer, Preference):
                return Match(failure=f"{self.name}: {answer.error}")
            score = POINTS[answer.winner] if answer.score is None else answer.score
            results.append(score if own == "first" else 1 - score)
            rationales.append(answer.rationale)
        return Match(tuple(results), rationales=tuple(rationales))

    async def aclose(self) -> None:
        """Closes the judge."""
        await self.judge.aclose()
