"""Which of two answers is better, asked in both orders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..core.errors import ConfigError
from ..envs.scenarios.scenario import Scenario
from ..plugins.batched_judge import BatchedJudge, compared
from ..plugins.judge import POINTS, Failure, Judge, JudgeContext, PairwiseJudge, Preference, Score, Turn, Verdict
from ..plugins.manager import plugins
from .contestants import Answer

TIE_MARGIN = 1e-9
"""Scores closer than this are equal."""

Outcome = Literal["win", "tie", "loss"]
WhichTurns = Literal["last", "all"]
"""Which turns of a dialogue a judge of single replies scores."""


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
        """Whether both orders have the same winner."""
        return same_winner(self.orders)

    @property
    def outcome(self) -> Outcome:
        """A win or a loss only if the orders do not cancel out."""
        return "win" if self.score > 0.5 else "loss" if self.score < 0.5 else "tie"


def same_winner(orders: Sequence[float]) -> bool:
    """Whether both orders of a match have the same winner, or a tie."""
    return len({(order > 0.5) - (order < 0.5) for order in orders}) <= 1


def first_place(orders: Sequence[float]) -> float:
    """The mean score of whichever reply was shown first, over both orders of a match; 0.5 is no preference."""
    return (orders[0] + 1 - orders[-1]) / 2


def make_referee(
    settings: Mapping[str, Any],
    where: str,
    choose: str,
    context: JudgeContext,
    scenarios: Sequence[Scenario],
    judged: WhichTurns = "last",
) -> Referee:
    """Builds the judge of an evaluation; refuses one that could give no verdict.

    Args:
        settings: The judge's name and its own.
        where: Their place in the configuration.
        choose: How another one is chosen on the command line, such as ``judge@evaluation.judge``.
        context: Context for the judge.
        scenarios: The scenarios to be played.
        judged: See `Referee`.

    Returns:
        The referee.

    Raises:
        ConfigError: If there is no such judge, a value is refused, or it needs references and there are none.
    """
    judge, name = plugins().build(settings, where, context), str(settings["name"])
    if getattr(judge, "needs_reference", False) and not any(scenario.reference for scenario in scenarios):
        raise ConfigError(
            f"`{where}`: `{name}` compares with references, and none of the {len(scenarios)} scenarios has one: add "
            f"`reference` to them, or choose a judge that needs none, such as `{choose}=llm`"
        )
    return Referee(name, judge, judged)


class Referee:
    """Decides matches with one judge; a judge that scores replies one by one compares by its scores.

    A judge that compares gets the last turns, with the dialogues before them.

    Args:
        name: The judge's name.
        judge: The judge.
        judged: Which turns of a dialogue a judge of single replies scores: the last one, or all, whose mean counts; turns
            of which it abstains are left out.

    Attributes:
        batched_judge: The judge's seat, if it scores replies one by one.
    """

    def __init__(self, name: str, judge: Judge | PairwiseJudge, judged: WhichTurns = "last") -> None:
        self.name = name
        self.judge = judge
        self.judged = judged
        self.batched_judge = BatchedJudge(name, judge) if isinstance(judge, Judge) else None
        self._verdicts: dict[str, asyncio.Future[Verdict]] = {}

    @property
    def asks(self) -> bool:
        """Whether the judge makes requests to a model."""
        return any(getattr(self.judge, name, 0) for name in ("requests_per_turn", "requests_per_pair"))

    async def decide(self, contestant: Answer, baseline: Answer) -> Match:
        """Judges one pair in both orders.

        Args:
            contestant: The contestant's answer.
            baseline: The baseline's answer.

        Returns:
            The match.

        Raises:
            DuologueError: What no retry can mend.
        """
        if isinstance(self.judge, PairwiseJudge):
            return await self._by_comparison(self.judge, contestant.turns[-1], baseline.turns[-1])
        return await self._by_scores(contestant, baseline)

    async def _by_scores(self, contestant: Answer, baseline: Answer) -> Match:
        graded = await asyncio.gather(self._grade(contestant), self._grade(baseline))
        values, rationales = [], []
        for grade in graded:
            if not isinstance(grade, Score):
                reason = grade.error if isinstance(grade, Failure) else f"abstained: {grade.reason}"
                return Match(failure=f"{self.name}: {reason}")
            values.append(grade.value)
            rationales.append(grade.rationale)
        difference = values[0] - values[1]
        result = 0.5 if abs(difference) <= TIE_MARGIN else float(difference > 0)
        return Match((result, result), scores=(values[0], values[1]), rationales=tuple(rationales))

    async def _grade(self, answer: Answer) -> Verdict:
        """The verdict on a dialogue."""
        turns = answer.turns if self.judged == "all" else answer.turns[-1:]
        verdicts = await asyncio.gather(*(self._score(turn) for turn in turns))
        scores = []
        for verdict in verdicts:
            if isinstance(verdict, Failure):
                return verdict
            if isinstance(verdict, Score):
                scores.append(verdict)
        if len(scores) <= 1:
            return scores[0] if scores else verdicts[-1]
        return Score(sum(score.value for score in scores) / len(scores), rationale=scores[-1].rationale)

    async def _score(self, turn: Turn) -> Verdict:
        """The verdict on a reply; asked for once, however many matches the reply plays, unless it failed."""
        assert self.batched_judge is not None
        key = repr((turn.scenario_id, turn.messages, turn.reply, turn.finish_reason))
        known = self._verdicts.get(key)
        if known is None or (
            known.done() and (known.cancelled() or known.exception() is not None or isinstance(known.result(), Failure))
        ):
            known = self._verdicts[key] = asyncio.ensure_future(self.batched_judge.score(turn))
        return await asyncio.shield(known)  # others may be waiting for it too

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
