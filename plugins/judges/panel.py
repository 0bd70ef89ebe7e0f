"""Several judges as one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any, Literal

from ...core.errors import ConfigError
from ..batched_judge import BatchedJudge, compared
from ..judge import (
    POINTS,
    Abstain,
    Failure,
    Judge,
    JudgeContext,
    PairwiseJudge,
    Preference,
    Score,
    Turn,
    Verdict,
    defines_judge,
)
from ..manager import plugins

How = Literal["mean", "median", "vote"]


@defines_judge(name="panel", summary="several judges as one, by mean, median or vote", cost="requests")
def make_panel(
    context: JudgeContext,
    judges: Mapping[str, Any] | None = None,
    how: How = "mean",
    quorum: int = 0,
    threshold: float = 0.5,
) -> ScorePanel | PairPanel:
    """Builds a panel of judges that score, or of judges that compare.

    Args:
        context: Context for the members.
        judges: The members' settings by a name of one's own: each a judge's name, or a mapping with ``name``.
        how: ``mean`` or ``median`` of the scores; or ``vote``: 1 if most members' scores are at least ``threshold``, 0 if
            fewer than half are, else 0.5. Members that compare always vote.
        quorum: How many members must have given a verdict; 0: all that do not abstain.
        threshold: For ``vote``.

    Returns:
        The panel.

    Raises:
        ConfigError: If there are fewer than two members, or some score and others compare.
    """
    members = {
        key: plugins().build(value, f"judges.{key}", context)
        for key, value in (judges or {}).items()
        if value is not None
    }
    if len(members) < 2:
        raise ConfigError(f"a panel needs at least two `judges`, not {len(members)}")
    if not 0 <= quorum <= len(members):
        raise ConfigError(f"`quorum` must be from 0 to {len(members)}, not {quorum}")
    scoring = {key: judge for key, judge in members.items() if isinstance(judge, Judge)}
    if len(scoring) == len(members):
        return ScorePanel(scoring, how, quorum, threshold)
    comparing = {key: judge for key, judge in members.items() if isinstance(judge, PairwiseJudge)}
    if len(comparing) == len(members):
        return PairPanel(comparing, quorum)
    raise ConfigError(
        f"a panel's `judges` must all score or all compare: {', '.join(scoring)} score, the others compare"
    )


class ScorePanel:
    """The members' mean, median or vote; ``components`` holds each member's score.

    Members that abstain are left out. Without a quorum the panel fails where a member fails; with one, where too few are left.
    """

    concurrent = True  # the members' own benches gather the turns

    def __init__(self, members: Mapping[str, Judge], how: How, quorum: int, threshold: float) -> None:
        self.batched_judges = {name: BatchedJudge(name, judge, retries=0) for name, judge in members.items()}
        self._how, self._quorum, self._threshold = how, quorum, threshold
        self.requests_per_turn = sum(getattr(judge, "requests_per_turn", 0) for judge in members.values())
        self.needs_last = any(getattr(judge, "needs_last", False) for judge in members.values())
        self.needs_reference = all(getattr(judge, "needs_reference", False) for judge in members.values())

    async def score(self, batch: Sequence[Turn]) -> list[Verdict]:
        """One verdict per turn."""
        return list(await asyncio.gather(*map(self._one, batch)))

    async def _one(self, turn: Turn) -> Verdict:
        answers = await asyncio.gather(*(batched_judge.score(turn) for batched_judge in self.batched_judges.values()))
        verdicts = dict(zip(self.batched_judges, answers, strict=True))
        scores = {name: verdict for name, verdict in verdicts.items() if isinstance(verdict, Score)}
        enough = len(scores) >= self._quorum if self._quorum else not any(isinstance(v, Failure) for v in answers)
        if not scores or not enough:
            return _failure(verdicts) or Abstain(f"every member abstained ({_reasons(verdicts)})")
        value = self._fold([score.value for score in scores.values()])
        components = {name: score.value for name, score in scores.items()}
        return Score(value, components, cost_usd=sum(score.cost_usd for score in scores.values()))

    def _fold(self, values: Sequence[float]) -> float:
        if self._how == "mean":
            return fmean(values)
        return float(median(values)) if self._how == "median" else self._vote(values)

    def _vote(self, values: Sequence[float]) -> float:
        share = sum(value >= self._threshold for value in values) / len(values)
        return 0.5 if share == 0.5 else float(share > 0.5)

    async def aclose(self) -> None:
        """Closes the members."""
        for batched_judge in self.batched_judges.values():
            await batched_judge.judge.aclose()


class PairPanel:
    """The majority of the members; a tie if two outcomes have equally many votes."""

    def __init__(self, members: Mapping[str, PairwiseJudge], quorum: int) -> None:
        self._members, self._quorum = members, quorum or len(members)
        self.requests_per_pair = sum(getattr(judge, "requests_per_pair", 0) for judge in members.values())

    async def compare(self, batch: Sequence[tuple[Turn, Turn]]) -> list[Preference | Failure]:
        """One preference per pair."""
        return list(await asyncio.gather(*(self._one(*pair) for pair in batch)))

    async def _one(self, first: Turn, second: Turn) -> Preference | Failure:
        answers = await asyncio.gather(*(compared(judge, first, second) for judge in self._members.values()))
        verdicts = dict(zip(self._members, answers, strict=True))
        said = {name: verdict for name, verdict in verdicts.items() if isinstance(verdict, Preference)}
        if len(said) < self._quorum:
            return _failure(verdicts) or Failure("no member gave a verdict")
        counts = Counter(verdict.winner for verdict in said.values()).most_common(2)
        winner = "tie" if len(counts) > 1 and counts[0][1] == counts[1][1] else counts[0][0]
        score = fmean(POINTS[verdict.winner] if verdict.score is None else verdict.score for verdict in said.values())
        rationale = ", ".join(f"{name}: {verdict.winner}" for name, verdict in said.items())
        return Preference(winner, rationale, sum(verdict.cost_usd for verdict in said.values()), score)

    async def aclose(self) -> None:
        """Closes the members."""
        for judge in self._members.values():
            await judge.aclose()


def _failure(verdicts: Mapping[str, Verdict | Preference]) -> Failure | None:
    """Joins the members' failures; None if there is none."""
    failed = [f"{name}: {verdict.error}" for name, verdict in verdicts.items() if isinstance(verdict, Failure)]
    return Failure("; ".join(failed)) if failed else None


def _reasons(verdicts: Mapping[str, Verdict]) -> str:
    return "; ".join(f"{name}: {verdict.reason}" for name, verdict in verdicts.items() if isinstance(verdict, Abstain))
