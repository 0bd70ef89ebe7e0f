"""What the turns of a rollout were like, as `RolloutStats` has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .judges.reading import refuses
from .judges.rules import repetition


def mean_scores(infos: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The mean of every judge's raw score over turns, by judge.

    Args:
        infos: The turns' ``info`` with ``reward/<judge>``.
    """
    scores: dict[str, list[float]] = {}
    for info in infos:
        for name, value in info.items():
            if name.startswith("reward/"):
                scores.setdefault(name.removeprefix("reward/"), []).append(value)
    return {name: sum(values) / len(values) for name, values in scores.items()}


def describe_replies(replies: Sequence[str]) -> dict[str, float]:
    """What replies are like, as `RolloutStats.replies` has it, less the action's entropy."""
    if not replies:
        return {}
    return {
        "words": float(np.mean([len(reply.split()) for reply in replies])),
        "refusals": float(np.mean([refuses(reply) for reply in replies])),
        "repetition": float(np.mean([repetition(reply) for reply in replies])),
    }


def variance_shares(infos: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """By judge, Cov(its term, Σ terms) / Var(Σ terms) over turns; empty where the reward does not vary.

    The shares add up to 1; one is negative where a judge works against the sum.
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
