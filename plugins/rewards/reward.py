"""From verdicts to the reward: weights, gates, potentials and costs, or a plugin's hook."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from ...core.errors import ConfigError, DuologueError
from ...core.settings import construct
from ..batched_judge import BatchedJudge
from ..judge import Abstain, Failure, Judge, JudgeContext, Judged, Score, Turn, Verdict
from ..manager import Plugins, plugins
from .weights import Scales, Weighted, spread

COST = "cost"
"""What the cost's term is called among the judges'."""


class Reward:
    """Judges one turn by several judges at once and folds their verdicts into a number.

    The reward of a turn is gates · (Σ weight · score) + Σ weight · (gamma · Φ(s') - Φ(s)) - cost. Φ is the score of a judge with
    ``when=potential`` for the dialogue as it stands, and 0 at its beginning, after its end and where the judge abstains. So
    shaped, the discounted return of every dialogue that ends is what it is without, and the best policy too (Ng, Harada and
    Russell 1999, ICML); also where ``normalise`` lets Φ change meanwhile (Devlin and Kudenko 2012, AAMAS), because a
    state's potential is taken once, when it is reached.

    Args:
        judges: The judges by name.
        weights: Settings of each judge in the reward; weight 1 by default.
        registry: Plugins whose hook `duologue_reward` computes the sum; the process's by default.
        batch_size: Turns that one judge gets at once, at most.
        retries: Further attempts for verdicts that failed.
        gamma: Discount of the potentials; must be the agent's.
        cost_weight: What a US dollar costs, by the endpoint's price and whether or not the cassette had the answer.
        token_weight: Cost of a thousand completion tokens.

    Raises:
        ConfigError: If there is no judge with a weight.
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        judges: Mapping[str, Judge],
        weights: Mapping[str, Weighted] | None = None,
        *,
        registry: Plugins | None = None,
        batch_size: int = 64,
        retries: int = 1,
        gamma: float = 0.99,
        cost_weight: float = 0.0,
        token_weight: float = 0.0,
    ) -> None:
        self.entries = {name: (weights or {}).get(name, Weighted()) for name in judges}
        self.weights = {name: entry.weight for name, entry in self.entries.items() if not entry.gate}
        if not self.weights:
            raise ConfigError("`judges` holds no judge with a weight: add one, such as `+judge@judges.rules=rules`")
        if not 0 <= gamma <= 1:
            raise ValueError(f"`gamma` must be from 0 to 1, not {gamma}")
        if not (0 <= cost_weight < math.inf and 0 <= token_weight < math.inf):
            raise ValueError(f"`cost_weight` and `token_weight` must be at least 0, not {cost_weight}, {token_weight}")
        if COST in judges and (cost_weight or token_weight):
            raise ConfigError(f"`judges.{COST}`: that is what the cost is called: choose another name for the judge")
        self._gamma, self._cost_weight, self._token_weight = gamma, cost_weight, token_weight
        self._batched_judges = {name: BatchedJudge(name, judge, batch_size, retries) for name, judge in judges.items()}
        self._scales = Scales(self.entries)
        self._hook = (registry or plugins()).hook

    @classmethod
    def from_settings(
        cls, judges: Mapping[str, Any], context: JudgeContext, options: Mapping[str, Any] | None = None
    ) -> Reward:
        """Builds the judges of a configuration and their composition.

        Args:
            judges: Key to settings: ``name``, those of `Weighted` and the judge's own; null entries are left out.
            context: Context for judges that take one.
            options: The constructor's, from ``batch_size`` on.

        Returns:
            The reward.

        Raises:
            ConfigError: If a judge is unknown, only compares pairs, or a setting is refused.
        """
        built: dict[str, Judge] = {}
        weights: dict[str, Weighted] = {}
        names = [entry.name for entry in fields(Weighted)]
        for key, settings in judges.items():
            if settings is None:
                continue
            judge = plugins().build(settings, f"judges.{key}", context)
            if not isinstance(judge, Judge):
                raise ConfigError(f"`judges.{key}` only compares pairs and cannot be a reward: choose one that scores")
            built[key] = judge
            own = {} if isinstance(settings, str) else settings
            weights[key] = construct(Weighted, {k: own[k] for k in names if k in own}, f"judges.{key}")
        return construct(cls, options or {}, "reward", judges=built, weights=weights, registry=None)

    @property
    def requests_per_turn(self) -> int:
        """Requests that judging a turn makes which does not end the dialogue, if no verdict fails."""
        return self._requests("turn", "potential")

    @property
    def requests_per_end(self) -> int:
        """Requests that judging the turn makes which ends the dialogue."""
        return self._requests("turn", "end")

    def _requests(self, *when: str) -> int:
        judges = (
            batched_judge.judge
            for name, batched_judge in self._batched_judges.items()
            if self.entries[name].when in when
        )
        return sum(getattr(judge, "requests_per_turn", 0) for judge in judges)

    @property
    def judges_ends(self) -> bool:
        """Whether a judge waits for the dialogue's end; ``max_turns`` then terminates instead of truncating."""
        return any(entry.when == "end" for entry in self.entries.values())

    async def judge(
        self,
        turn: Turn,
        ended: bool | Awaitable[bool] | None = None,
        potentials: Mapping[str, float] | None = None,
        cost_usd: float = 0.0,
        tokens: int = 0,
    ) -> Judged:
        """Judges one turn; turns of other dialogues that wait at the same moment share the judges' batches.

        Args:
            turn: The turn to judge.
            ended: Whether the dialogue ends with it, or what tells so later, when the user has answered; ``turn.last``
                by default.
            potentials: Potentials of the state before the turn, from `Judged`; none at the beginning.
            cost_usd: What the turn's requests to the assistant cost at the endpoint's price.
            tokens: Their completion tokens.

        Returns:
            The reward with verdicts and terms, or the failure.

        Raises:
            DuologueError: What no retry can mend.
        """
        verdicts = await self._ask(turn, bool(turn.last) if ended is None else ended)
        for name, verdict in verdicts.items():
            if isinstance(verdict, Failure):
                return Judged(None, verdicts, f"{name}: {verdict.error}")
        words = len(turn.reply.split())
        values = {
            n: replace(v, value=self._scales.scaled(n, v.value, words))
            for n, v in verdicts.items()
            if isinstance(v, Score)
        }
        value, failure = self._fold(turn, verdicts, values)
        if value is None:
            return Judged(None, verdicts, failure)
        reached = {n: v.value for n, v in values.items() if self.entries[n].when == "potential"}
        factor = spread({name: self.weights[name] for name in verdicts if self._sums(name)}, filter(self._sums, values))
        terms = {n: (factor or 0.0) * self.weights[n] * values[n].value for n in values if self._sums(n)}
        terms |= self._shaping(potentials or {}, reached)
        if self._cost_weight or self._token_weight:
            terms[COST] = -(self._cost_weight * cost_usd + self._token_weight * tokens / 1000)
        value += sum(term for name, term in terms.items() if not self._sums(name))
        if not math.isfinite(value):
            return Judged(None, verdicts, f"the reward is {value}")
        return Judged(float(value), verdicts, None, terms, reached)

    def _sums(self, name: str) -> bool:
        """Whether a judge is part of the weighted sum."""
        return name in self.weights and self.entries[name].when != "potential"

    async def _ask(self, turn: Turn, ended: bool | Awaitable[bool]) -> dict[str, Verdict]:
        """The verdicts of all judges that are due, in the judges' order."""
        if isinstance(ended, bool):
            over = ended
            verdicts: dict[str, Verdict] = {}
        else:
            each = [name for name, entry in self.entries.items() if entry.when == "turn"]
            waiting = [name for name in each if getattr(self._batched_judges[name].judge, "needs_last", False)]
            at_once = turn if turn.last else replace(turn, last=None)
            verdicts, over = await asyncio.gather(
                self._verdicts([name for name in each if name not in waiting], at_once), _awaited(ended)
            )
        later = [name for name in self.entries if self._due(name, over) and name not in verdicts]
        verdicts |= await self._verdicts(later, replace(turn, last=over or turn.last))
        return {name: verdicts[name] for name in self.entries if name in verdicts}

    def _due(self, name: str, over: bool) -> bool:
        when = self.entries[name].when
        return when == "turn" or (when == "end") == over

    async def _verdicts(self, names: list[str], turn: Turn) -> dict[str, Verdict]:
        batched_judges = [self._batched_judges[name] for name in names]
        if len(batched_judges) == 1:  # one judge needs no tasks
            answers = [await batched_judge.score(turn) for batched_judge in batched_judges]
        else:
            answers = await asyncio.gather(*(batched_judge.score(turn) for batched_judge in batched_judges))
        return dict(zip(names, answers, strict=True))

    def _fold(
        self, turn: Turn, verdicts: Mapping[str, Verdict], values: Mapping[str, Score]
    ) -> tuple[float | None, str]:
        """The sum of the judges that are due, by the hook, times the gates; None and the reason if there is no number."""
        due = {name: self.weights[name] for name in verdicts if self._sums(name)}
        summed = {name: values[name] for name in due if name in values}
        if not any(due.values()) and any(self.weights.values()):
            return 0.0, ""  # those that count are asked at the end, or shape
        if not summed:
            reasons = "; ".join(f"{n}: {v.reason}" for n, v in verdicts.items() if isinstance(v, Abstain))
            return None, f"every judge abstained ({reasons})"
        try:
            value = self._hook.duologue_reward(turn=turn, verdicts=summed, weights=due)
        except DuologueError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever a stranger's hook does)
            return None, f"`duologue_reward`: {Failure.raised(error).error}"
        if value is None:
            return None, "no judge with a weight other than 0 gave a score"
        for name, entry in self.entries.items():
            if entry.gate and name in values:
                value *= min(1.0, max(0.0, values[name].value))
        return (value, "") if math.isfinite(value) else (None, f"the reward is {value}")

    def _shaping(self, before: Mapping[str, float], reached: Mapping[str, float]) -> dict[str, float]:
        """The potentials' terms: weight · (gamma · Φ(s') - Φ(s))."""
        names = [name for name, entry in self.entries.items() if entry.when == "potential" and name in self.weights]
        return {
            name: self.weights[name] * (self._gamma * reached.get(name, 0.0) - before.get(name, 0.0)) for name in names
        }

    def observe(self, infos: Iterable[Mapping[str, Any]]) -> None:
        """Adds the raw scores of turns to the statistics that later turns are normalised by.

        Args:
            infos: The turns' ``info`` with ``reply`` and ``reward/<judge>``, in an order that does not depend on latencies.
        """
        self._scales.observe(infos)

    def state(self) -> dict[str, Any]:
        """The statistics as plain values."""
        return self._scales.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Sets what `state` returned."""
        self._scales.restore(state)

    async def aclose(self) -> None:
        """Closes every judge."""
        for batched_judge in self._batched_judges.values():
            await batched_judge.judge.aclose()


async def _awaited(ended: Awaitable[bool]) -> bool:
    return await ended
