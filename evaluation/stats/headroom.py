"""Is there anything to learn, and was it learnt? Returns of policies over seeds and held-out scenarios, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit


@dataclass(frozen=True)
class PolicyReturns:
    """One policy's returns on the held-out scenarios.

    Attributes:
        name: Name in tables.
        kind: ``random``, ``constant``, ``learnt`` or ``oracle``.
        mean: Mean return of an episode.
        low: Lower end of the 95% interval.
        high: Upper end.
        by_seed: The mean of each seed.
        requests: Requests to the assistant per episode.
        tokens: Completion tokens of these per episode.
        usd: Their cost per episode at the endpoint's price.
        failures: Episodes that failed and are left out.
    """

    name: str
    kind: str
    mean: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    requests: float
    tokens: float
    usd: float
    failures: int = 0


def within(standing: PolicyReturns, worst: float, best: float) -> PolicyReturns:
    """Limits an interval to the range between the worst and the best episode of all policies.

    Student's interval knows no bounds; the mean of episodes does not lie beyond the best of them.

    Args:
        standing: The returns of a policy.
        worst: Least return of any episode.
        best: Greatest return of any episode.

    Returns:
        The returns with the limited interval.
    """
    return replace(standing, low=max(standing.low, worst), high=min(standing.high, best))


def two_way_interval(returns: npt.ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """The mean over seeds and scenarios, with an interval for other seeds and other scenarios.

    The variance of the mean is taken as that of the seeds' means plus that of the scenarios' means, which counts what
    remains of both twice and so errs on the wide side; Student's t with Satterthwaite's degrees of freedom.

    Args:
        returns: Shape (seeds, scenarios), the same scenarios for every seed; NaN for a failure.
        confidence: Confidence level of the interval.

    Returns:
        Mean, lower and upper end; an end is NaN where there are fewer than two seeds or two scenarios.
    """
    table = np.asarray(returns, np.float64)
    table = table[:, ~np.isnan(table).all(axis=0)]
    seeds, scenarios = np.nanmean(table, axis=1), np.nanmean(table, axis=0)
    mean = float(np.nanmean(table))
    if len(seeds) < 2 or len(scenarios) < 2:
        return mean, float("nan"), float("nan")
    parts = np.array([means.var(ddof=1) / len(means) for means in (seeds, scenarios)])
    if not parts.any():
        return mean, mean, mean
    freedom = parts.sum() ** 2 / (parts**2 / [len(seeds) - 1, len(scenarios) - 1]).sum()
    half = float(stdtrit(freedom, (1 + confidence) / 2) * np.sqrt(parts.sum()))
    return mean, mean - half, mean + half


def gate(standings: Sequence[PolicyReturns]) -> dict[str, Any]:
    """Whether the agent beats the best constant policy, and that policy beats chance, with disjoint intervals.

    Args:
        standings: With one ``random``, any number of ``constant``, one ``learnt`` or more, of which the first counts, and
            perhaps an ``oracle``.

    Returns:
        ``learnt``, ``best_constant``: names; ``learnt_over_constant``, ``constant_over_random``: whether the intervals
        are apart in that order; ``passed``: whether both are; ``of_oracle``: the share of the distance from chance to
        the oracle that the learnt policy covers, None without an oracle. The best constant is picked by the very
        scenarios that it is shown on, which flatters it.
    """
    by_kind: dict[str, list[PolicyReturns]] = {}
    for standing in standings:
        by_kind.setdefault(standing.kind, []).append(standing)
    best = {kind: max(those, key=lambda standing: standing.mean) for kind, those in by_kind.items()}
    learnt, constant, chance = by_kind["learnt"][0], best.get("constant"), best["random"]
    over_constant = constant is not None and learnt.low > constant.high
    over_random = constant is not None and constant.low > chance.high
    share = None
    if (oracle := best.get("oracle")) is not None and oracle.mean > chance.mean:
        share = (learnt.mean - chance.mean) / (oracle.mean - chance.mean)
    return {
        "learnt": learnt.name,
        "best_constant": None if constant is None else constant.name,
        "learnt_over_constant": over_constant,
        "constant_over_random": over_random,
        "passed": over_constant and over_random,
        "of_oracle": share,
    }


def shown(standings: Sequence[PolicyReturns]) -> list[PolicyReturns]:
    """Best first; of the constant policies only the best."""
    constants = [standing for standing in standings if standing.kind == "constant"]
    best = max(constants, key=lambda standing: standing.mean, default=None)
    kept = [standing for standing in standings if standing.kind != "constant" or standing is best]
    return sorted(kept, key=lambda standing: -standing.mean)


def as_markdown(task: str, standings: Sequence[PolicyReturns], verdict: Mapping[str, Any]) -> str:
    """The table that a README can hold."""
    lines = [
        f"| {task} | return | 95% interval | requests | tokens | US dollars |",
        "|---|---|---|---|---|---|",
        *(
            f"| {s.name} | {s.mean:.3f} | {s.low:.3f} to {s.high:.3f} | {s.requests:.1f} | {s.tokens:.0f} | {s.usd:.6f} |"
            for s in shown(standings)
        ),
    ]
    return "\n".join([*lines, "", sentence(verdict), ""])


def sentence(verdict: Mapping[str, Any]) -> str:
    """The verdict in words."""
    parts = [
        f"{verdict['learnt']} {'beats' if verdict['learnt_over_constant'] else 'does not surely beat'} the best constant",
        f"which {'beats' if verdict['constant_over_random'] else 'does not surely beat'} chance",
    ]
    if verdict["best_constant"] is None:
        parts = [f"{verdict['learnt']}: there are too many constant actions to compare with"]
    if verdict["of_oracle"] is not None:
        parts.append(f"{verdict['of_oracle']:.0%} of the distance from chance to the oracle")
    return ", ".join(parts) + "."
