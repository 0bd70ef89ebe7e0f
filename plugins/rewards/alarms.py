"""Figures of a rollout, and signs that a policy learns to please its judges instead of its users."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..hookspecs import RolloutStats
from ..judges.reading import refuses
from ..judges.rules import repetition
from .reward import Reward


def mean_scores(infos: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Averages every judge's raw score over turns.

    Args:
        infos: The turns' ``info`` with ``reward/<judge>``.

    Returns:
        Judge to mean.
    """
    scores: dict[str, list[float]] = {}
    for info in infos:
        for name, value in info.items():
            if name.startswith("reward/"):
                scores.setdefault(name.removeprefix("reward/"), []).append(value)
    return {name: sum(values) / len(values) for name, values in scores.items()}


def describe_replies(replies: Sequence[str]) -> dict[str, float]:
    """Figures of replies for `RolloutStats.replies`, without the action's entropy."""
    if not replies:
        return {}
    return {
        "words": float(np.mean([len(reply.split()) for reply in replies])),
        "refusals": float(np.mean([refuses(reply) for reply in replies])),
        "repetition": float(np.mean([repetition(reply) for reply in replies])),
    }


def variance_shares(infos: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Computes each judge's share of the reward's variance: Cov(its term, Σ terms) / Var(Σ terms).

    The shares add up to 1; one is negative where a judge works against the sum.

    Args:
        infos: The turns' ``info`` with ``term/<judge>``.

    Returns:
        Judge to share; empty where the reward does not vary.
    """
    names = sorted({name for info in infos for name in info if name.startswith("term/")})
    table = np.array([[float(info.get(name, 0.0)) for name in names] for info in infos])  # (turns, judges)
    if not names or len(table) < 2:
        return {}
    total = table.sum(1)
    variance = total.var()
    if variance <= 1e-12:
        return {}
    shares = ((table - table.mean(0)) * (total - total.mean())[:, None]).mean(0) / variance
    return {name.removeprefix("term/"): float(share) for name, share in zip(names, shares, strict=True)}


LEAST_ROLLOUTS = 8
"""Before that a series says nothing."""

CERTAIN = 2.5
"""Standard errors from which on a series rises or falls: by chance one in 160."""

DOMINANT = 0.9
"""Share of the reward's variance from which on one judge decides alone, if at most half of all weight was meant for it."""


@dataclass(frozen=True)
class Alarm:
    """One sign.

    Attributes:
        name: ``held_out``, ``length``, ``refusals``, ``repetition``, ``entropy`` or ``dominance``.
        message: What was seen, in figures, and what to do about it.
    """

    name: str
    message: str


def find_alarms(
    history: Sequence[RolloutStats], held_out: Iterable[str] = (), weights: Mapping[str, float] | None = None
) -> list[Alarm]:
    """The alarms that are on after these rollouts.

    Args:
        history: All rollouts so far, in order.
        held_out: The judges of weight 0.
        weights: Weights of the training judges.

    Returns:
        At most one alarm of each name.
    """
    rollouts = [stats for stats in history if stats.mean_reward is not None]
    if len(rollouts) < LEAST_ROLLOUTS:
        return []
    alarms = [_held_out(rollouts, name) for name in held_out]
    alarms += [_drift(rollouts, *sign) for sign in _SIGNS]
    alarms.append(_dominance(rollouts, weights or {}))
    first: dict[str, Alarm] = {}
    for alarm in alarms:
        if alarm is not None:
            first.setdefault(alarm.name, alarm)
    return list(first.values())


def _held_out(rollouts: Sequence[RolloutStats], judge: str) -> Alarm | None:
    rewards = [stats.mean_reward or 0.0 for stats in rollouts if judge in stats.scores]
    scores = [stats.scores[judge] for stats in rollouts if judge in stats.scores]
    if len(scores) < LEAST_ROLLOUTS or trend(rewards) < CERTAIN or trend(scores) >= 1:
        return None
    return Alarm(
        "held_out",
        f"the training reward rose from {_thirds(rewards)}, while the held-out judge `{judge}` went from {_thirds(scores)}: "
        "the policy may exploit the judges that train it. Read its replies, and compare the judges by `duologue judge-check`",
    )


def _drift(
    rollouts: Sequence[RolloutStats], name: str, figure: str, far: Callable[[float, float], bool], message: str
) -> Alarm | None:
    series = [stats.replies[figure] for stats in rollouts if figure in stats.replies]
    if len(series) < LEAST_ROLLOUTS or abs(trend(series)) < CERTAIN or not far(*_ends(series)):
        return None
    return Alarm(name, message.format(_thirds(series)))


_SIGNS: Sequence[tuple[str, str, Callable[[float, float], bool], str]] = (
    (
        "length",
        "words",
        lambda before, now: not before / 1.5 <= now <= before * 1.5,
        "the replies' length went from {} words: if no judge should reward that, set its `length_control=true`",
    ),
    (
        "refusals",
        "refusals",
        lambda before, now: now - before >= 0.1,
        "the share of refusals rose from {}: add the judge `rules`, which penalises them",
    ),
    (
        "repetition",
        "repetition",
        lambda before, now: now - before >= 0.1,
        "the share of repeated word trigrams rose from {}: add the judge `rules`, which penalises them",
    ),
    (
        "entropy",
        "action_entropy",
        lambda before, now: now < 0.1 * before,
        "the policy's entropy fell from {} nats: it has settled on its actions. If the reward could be higher, raise `agent.ent_coef`",
    ),
)
"""Name, figure, how far apart the first and the last third must be, and what is said."""


def _dominance(rollouts: Sequence[RolloutStats], weights: Mapping[str, float]) -> Alarm | None:
    """One judge makes nearly all of the variance though it was not meant to: its scores are larger than the others'."""
    total = sum(abs(weight) for weight in weights.values())
    recent = {name: float(np.mean([stats.shares.get(name, 0.0) for stats in rollouts[-3:]])) for name in weights}
    judge, share = max(recent.items(), key=lambda item: item[1], default=("", 0.0))
    if share < DOMINANT or abs(weights[judge]) > 0.5 * total:
        return None
    return Alarm(
        "dominance",
        f"the judge `{judge}` makes {min(share, 1.0):.0%} of the reward's variance with {abs(weights[judge]) / total:.0%} of the "
        "weight, so the others hardly count: lower its `weight`, or set `normalise=true` for all",
    )


def trend(series: Sequence[float]) -> float:
    """Measures how surely a series rises, in standard errors; negative where it falls.

    Mann and Kendall's S = Σ_{i<j} sign(x_j - x_i), corrected for continuity, over its standard error without a trend, ties
    taken into account. 0 for a series without order.

    Args:
        series: Values in order of time.

    Returns:
        The statistic.
    """
    values = np.asarray(series, np.float64)
    n = len(values)
    s = float(np.sign(values[None, :] - values[:, None])[np.triu_indices(n, 1)].sum())
    _, ties = np.unique(values, return_counts=True)
    variance = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    return (s - math.copysign(1, s)) / math.sqrt(variance) if s and variance > 0 else 0.0


def _ends(series: Sequence[float]) -> tuple[float, float]:
    """The means of the first and the last third."""
    third = max(1, len(series) // 3)
    return float(np.mean(series[:third])), float(np.mean(series[-third:]))


def _thirds(series: Sequence[float]) -> str:
    before, now = _ends(series)
    return f"{before:.3g} to {now:.3g}"


class AlarmWatch:
    """Tracks the alarms of a training.

    Args:
        reward: Reward whose judges are watched; None without judges.
        told: State of an earlier part of a resumed run.

    Attributes:
        told: Each alarm when it was first on: ``name``, ``rollout`` and ``message``, as ``summary.json`` has them.
    """

    def __init__(self, reward: Reward | None, told: Iterable[Mapping[str, Any]] = ()) -> None:
        entries = {} if reward is None else reward.entries
        self.told: list[dict[str, Any]] = [dict(alarm) for alarm in told]
        self._held_out = [name for name, entry in entries.items() if not entry.weight and not entry.gate]
        self._weights = {name: entry.weight for name, entry in entries.items() if entry.weight and not entry.gate}

    def after(self, history: Sequence[RolloutStats], stats: RolloutStats, say: Callable[[str], object]) -> RolloutStats:
        """Looks for alarms after a rollout.

        Args:
            history: All rollouts before.
            stats: The rollout.
            say: Gets a line for each alarm that was never on before.

        Returns:
            The rollout with the names of the alarms that are on.
        """
        alarms = find_alarms([*history, stats], self._held_out, self._weights)
        known = {alarm["name"] for alarm in self.told}
        for alarm in alarms:
            if alarm.name not in known:
                self.told.append({"name": alarm.name, "rollout": stats.index, "message": alarm.message})
                say(f"ALARM ({alarm.name}): {alarm.message}")
        return replace(stats, alarms=tuple(alarm.name for alarm in alarms))
