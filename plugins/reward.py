"""From verdicts to the reward: weights, gates, and a hook for those who want it otherwise."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..inference.errors import ConfigError
from ..inference.settings import construct
from .bench import Bench
from .judge import Judge, JudgeContext
from .manager import Plugins, plugins
from .verdict import Abstain, Failure, Score, Turn, Verdict


@dataclass(frozen=True)
class Weighted:
    """How a judge enters the reward.

    Attributes:
        weight: Factor of its score in the weighted sum; negative for a penalty. Ignored for a gate.
        gate: Whether its score, clipped to [0, 1], multiplies the sum instead of entering it.
    """

    weight: float = 1.0
    gate: bool = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ValueError(f"`weight` must be a finite number, not {self.weight}")


@dataclass(frozen=True)
class Judged:
    """The outcome of one turn.

    Attributes:
        reward: The scalar, or None if a judge failed: a failure is never a number.
        verdicts: By judge.
        failure: ``judge: error`` of the first failure, or None.
    """

    reward: float | None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    failure: str | None = None

    @property
    def scores(self) -> dict[str, float]:
        """The raw scores by judge, abstentions and failures left out."""
        return {name: verdict.value for name, verdict in self.verdicts.items() if isinstance(verdict, Score)}


class Reward:
    """Judges one turn by several judges at once and folds their verdicts into a number.

    Args:
        judges: The judges by name.
        weights: How each enters; weight 1 where nothing is said.
        registry: Whose `duologue_reward` hook folds; the process's plugins by default.
        batch_size: Turns that one judge gets at once, at most.
        retries: Further attempts for verdicts that failed.

    Raises:
        ConfigError: If there is no judge with a weight.
    """

    def __init__(
        self,
        judges: Mapping[str, Judge],
        weights: Mapping[str, Weighted] | None = None,
        *,
        registry: Plugins | None = None,
        batch_size: int = 64,
        retries: int = 1,
    ) -> None:
        settings = {name: (weights or {}).get(name, Weighted()) for name in judges}
        self.weights = {name: entry.weight for name, entry in settings.items() if not entry.gate}
        self.gates = [name for name, entry in settings.items() if entry.gate]
        if not self.weights:
            raise ConfigError("`judges` holds no judge with a weight: add one, such as `+judge@judges.rules=rules`")
        self._benches = {name: Bench(name, judge, batch_size, retries) for name, judge in judges.items()}
        self._hook = (registry or plugins()).hook

    @classmethod
    def from_settings(
        cls, judges: Mapping[str, Any], context: JudgeContext, options: Mapping[str, Any] | None = None
    ) -> Reward:
        """Builds the judges of a configuration and their composition.

        Args:
            judges: Key to settings: ``name``, ``weight``, ``gate`` and the judge's own; null entries are left out.
            context: Given to judges that ask for it.
            options: ``batch_size`` and ``retries``.

        Raises:
            ConfigError: If a judge is unknown, only compares pairs, or a setting is refused.
        """
        built: dict[str, Judge] = {}
        weights: dict[str, Weighted] = {}
        for key, settings in judges.items():
            if settings is None:
                continue
            judge = plugins().build(settings, f"judges.{key}", context)
            if not isinstance(judge, Judge):
                raise ConfigError(f"`judges.{key}` only compares pairs and cannot be a reward: choose one that scores")
            built[key] = judge
            own = {} if isinstance(settings, str) else settings
            weights[key] = construct(Weighted, {k: own[k] for k in ("weight", "gate") if k in own}, f"judges.{key}")
        return construct(cls, options or {}, "reward", judges=built, weights=weights, registry=None)

    @property
    def requests_per_turn(self) -> int:
        """Requests that judging one turn makes, if no verdict fails."""
        return sum(getattr(bench.judge, "requests_per_turn", 0) for bench in self._benches.values())

    async def judge(self, turn: Turn) -> Judged:
        """Judges one turn; turns of other dialogues that wait at the same moment share the judges' batches.

        Raises:
            DuologueError: What no retry can mend.
        """
        verdicts = await self._verdicts(turn)
        for name, verdict in verdicts.items():
            if isinstance(verdict, Failure):
                return Judged(None, verdicts, f"{name}: {verdict.error}")
        scores = {name: verdict for name, verdict in verdicts.items() if isinstance(verdict, Score)}
        weighted = {name: score for name, score in scores.items() if name in self.weights}
        if not weighted:
            reasons = "; ".join(f"{n}: {v.reason}" for n, v in verdicts.items() if isinstance(v, Abstain))
            return Judged(None, verdicts, f"every judge abstained ({reasons})")
        value = self._hook.duologue_reward(turn=turn, verdicts=weighted, weights=self.weights)
        if value is None:
            return Judged(None, verdicts, "no judge with a weight other than 0 gave a score")
        for name in self.gates:
            if name in scores:
                value *= min(1.0, max(0.0, scores[name].value))
        if not math.isfinite(value):
            return Judged(None, verdicts, f"the reward is {value}")
        return Judged(float(value), verdicts)

    async def _verdicts(self, turn: Turn) -> dict[str, Verdict]:
        benches = self._benches.values()
        if len(benches) == 1:  # one judge needs no tasks
            answers = [await bench.score(turn) for bench in benches]
        else:
            answers = await asyncio.gather(*(bench.score(turn) for bench in benches))
        return dict(zip(self._benches, answers, strict=True))

    async def aclose(self) -> None:
        """Closes every judge."""
        for bench in self._benches.values():
            await bench.judge.aclose()
