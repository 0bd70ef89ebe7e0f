"""The leaderboard of an evaluation, and paired comparisons of the trained policy with the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..referee import first_place
from ..stats.comparison import Difference, holm, paired_difference, prompts_needed, variance_parts
from ..stats.length_control import Anchor, Controlled, style_controlled
from ..stats.win_rates import WinRate, win_rate, worst_case

Record = Mapping[str, Any]
"""A line of ``matches.jsonl``."""

LEAST_FOR_LENGTH = 20
"""Prompts below which no length-controlled rate is given."""


@dataclass(frozen=True)
class Row:
    """One contestant against one baseline.

    Attributes:
        contestant: Its name.
        baseline: The other's.
        judge: Name of the judge.
        rate: The win rate; None if no match was decided.
        wins: Matches won in the mean of both orders.
        ties: Undecided ones.
        losses: Lost ones.
        failures: Matches without a result.
        bounds: Between which values the rate lies, however the failures would have ended.
        controlled: The rate without what length explains; None for too few prompts.
        consistency: Share of matches with the same winner in both orders; None for a judge to whom order is nothing.
        first_place: Mean score of the reply that is shown first; 0.5 without a bias.
        words: Mean words of its replies, and of the baseline's.
    """

    contestant: str
    baseline: str
    judge: str
    rate: WinRate | None
    wins: int
    ties: int
    losses: int
    failures: int
    bounds: tuple[float, float]
    controlled: Controlled | None
    consistency: WinRate | None
    first_place: WinRate | None
    words: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """The trained policy beside another contestant, on the same prompts.

    Attributes:
        other: The other's name.
        found: Difference of the win rates, the policy's minus the other's.
        corrected: The p-value, corrected for all comparisons of the table.
        prompts: How many it would take to find such a difference in four of five evaluations; None for a difference of 0.
    """

    other: str
    found: Difference
    corrected: float
    prompts: int | None


def leaderboard(records: Sequence[Record], anchor: Anchor | None = None) -> list[Row]:
    """Computes one row per contestant, baseline and judge.

    Args:
        records: The matches.
        anchor: Further observations for the length-controlled rate, where the matches have difficulties.

    Returns:
        The rows, best first, undecided last.
    """
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record["contestant"], record["baseline"], record["judge"]), []).append(record)
    rows = [_row(*key, group, anchor) for key, group in groups.items()]
    return sorted(rows, key=lambda row: 1.0 if row.rate is None else -row.rate.rate)


def score(record: Record) -> float:
    """The mean over both orders."""
    return float(sum(record["orders"]) / len(record["orders"]))


def _row(contestant: str, baseline: str, judge: str, records: Sequence[Record], anchor: Anchor | None) -> Row:
    decided = [record for record in records if not record["failure"]]
    scores, prompts = [score(record) for record in decided], [record["scenario"] for record in decided]
    failures = len(records) - len(decided)
    # by a judge that compares
    ordered = [record for record in decided if record["scores"] is None and len(record["orders"]) > 1]
    own = [record["scenario"] for record in ordered]
    shown = [first_place(record["orders"]) for record in ordered]
    return Row(
        contestant,
        baseline,
        judge,
        win_rate(scores, prompts) if decided else None,
        sum(value > 0.5 for value in scores),
        sum(value == 0.5 for value in scores),
        sum(value < 0.5 for value in scores),
        failures,
        worst_case(scores, failures),
        _controlled(decided, scores, prompts, anchor),
        win_rate([float(record["consistent"]) for record in ordered], own) if ordered else None,
        win_rate(shown, own) if ordered else None,
        (_words(decided, "reply"), _words(decided, "baseline_reply")),
    )


def _controlled(
    decided: Sequence[Record], scores: Sequence[float], prompts: Sequence[str], anchor: Anchor | None
) -> Controlled | None:
    if len(set(prompts)) < LEAST_FOR_LENGTH:
        return None
    shorter = [len(record["baseline_reply"]) - len(record["reply"]) for record in decided]
    known = [(record.get("source") or {}).get("difficulty") for record in decided]
    difficulty = None if None in known else [float(value) for value in known if value is not None]
    return style_controlled(scores, shorter, difficulty, anchor if difficulty else None, clusters=prompts)


def _words(records: Sequence[Record], name: str) -> float:
    return float(np.mean([len(record[name].split()) for record in records])) if records else float("nan")


def comparisons(records: Sequence[Record], policy: str) -> list[Comparison]:
    """The policy beside every other contestant that met the same baseline, the closest first.

    Args:
        records: Records with the same baseline and judge.
        policy: The contestant that is compared with the others.

    Returns:
        Empty where the policy did not play, or fewer than two prompts were decided for both.
    """
    played: dict[str, dict[tuple[str, int], list[float]]] = {}
    for record in records:
        if not record["failure"]:
            place = record["scenario"], record["repeat"]
            played.setdefault(record["contestant"], {}).setdefault(place, []).append(score(record))
    own = played.pop(policy, {})
    found = []
    for other, theirs in played.items():
        places = sorted(own.keys() & theirs.keys())
        if len({scenario for scenario, _ in places}) < 2:
            continue
        a, b = (np.array([np.mean(side[place]) for place in places]) for side in (own, theirs))
        prompts = [scenario for scenario, _ in places]
        difference = paired_difference(a, b, prompts)
        needed = (
            prompts_needed(difference.difference, *variance_parts(a - b, prompts)) if difference.difference else None
        )
        found.append((other, difference, needed))
    corrected = holm([difference.p_value for _, difference, _ in found])
    made = [Comparison(other, d, p, needed) for (other, d, needed), p in zip(found, corrected, strict=True)]
    return sorted(made, key=lambda comparison: comparison.found.difference)
