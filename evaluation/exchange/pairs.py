"""Preference pairs of judged replies, as TRL's DPO and any other trainer of preferences reads them.

A pair is one line: ``prompt``, ``chosen`` and ``rejected`` as lists of messages, ``score_chosen``, ``score_rejected`` and the
``scenario``. What was not judged is in no pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from ...core.errors import ConfigError
from ...core.files import read_records, write_lines
from ...core.run_files import MATCHES
from ..report.report import read_matches

CANDIDATES = "candidates.jsonl"
"""What `duologue pairs` leaves in its run folder: every candidate of every turn, with its verdict."""

_LEFT_OUT = {
    "failed": "without a score",
    "close": "whose scores are too close",
    "parted": "whose dialogues parted before the last reply",
}
"""What the counts of `Made` are called."""

Pair = dict[str, Any]
Take = Literal["best_worst", "all"]


@dataclass(frozen=True)
class PairOptions:
    """Which pairs are made.

    Attributes:
        margin: How far apart the scores of a pair must be, at least; pairs of equal scores are never made.
        take: ``best_worst``: at most one pair of a turn's candidates; ``all``: every two.
    """

    margin: float = 0.0
    take: Take = "best_worst"

    def __post_init__(self) -> None:
        if not 0 <= self.margin < float("inf"):
            raise ValueError(f"`margin` must be at least 0, not {self.margin}")


@dataclass
class Made:
    """Preference pairs, and counts of what was left out.

    Attributes:
        pairs: Pairs in the order of the records.
        left_out: ``failed``: candidates, or matches, without a score; ``close``: turns, or matches, without two replies that
            are far enough apart; ``parted``: matches whose dialogues were not the same before the last reply.
    """

    pairs: list[Pair]
    left_out: Counter[str]


def pairs_of_candidates(records: Iterable[Mapping[str, Any]], options: PairOptions) -> Made:
    """Pairs candidates for the same turn.

    Args:
        records: Lines of `CANDIDATES`.
        options: Choice of pairs.

    Returns:
        The pairs, and counts of what was left out.
    """
    made = Made([], Counter())
    for record in records:
        scored = [candidate for candidate in record["candidates"] if candidate["score"] is not None]
        made.left_out["failed"] += len(record["candidates"]) - len(scored)
        ranked = sorted(scored, key=lambda candidate: -candidate["score"])  # equal ones stay in order
        couples = combinations(ranked, 2) if options.take == "all" else [(ranked[0], ranked[-1])] if ranked else []
        found = [couple for couple in couples if _apart(*couple, options.margin)]
        made.pairs += [
            _pair(
                record["scenario"], record["messages"], better["reply"], worse["reply"], better["score"], worse["score"]
            )
            for better, worse in found
        ]
        made.left_out["close"] += not found and bool(scored)
    return made


def pairs_of_matches(records: Iterable[Mapping[str, Any]], options: PairOptions) -> Made:
    """Pairs the two replies of each match.

    The scores are the judge's where it scores replies one by one, else the shares of the match that each side won.

    Args:
        records: Lines of ``matches.jsonl``.
        options: Choice of pairs.

    Returns:
        The pairs, and counts of what was left out.
    """
    made = Made([], Counter())
    for record in records:
        if record["failure"]:
            made.left_out["failed"] += 1
            continue
        if record.get("baseline_messages"):
            made.left_out["parted"] += 1
            continue
        share = sum(record["orders"]) / len(record["orders"])
        scores = record["scores"] or (share, 1 - share)
        sides = [
            {"reply": reply, "score": value}
            for reply, value in zip((record["reply"], record["baseline_reply"]), scores, strict=True)
        ]
        better, worse = sides if scores[0] >= scores[1] else reversed(sides)
        if not _apart(better, worse, options.margin):
            made.left_out["close"] += 1
            continue
        replies = better["reply"], worse["reply"]
        made.pairs.append(_pair(record["scenario"], record["messages"], *replies, better["score"], worse["score"]))
    return made


def _apart(better: Mapping[str, Any], worse: Mapping[str, Any], margin: float) -> bool:
    ahead = better["score"] - worse["score"]
    return bool(ahead > 0 and ahead >= margin and better["reply"] != worse["reply"])


def _pair(scenario: str, messages: Sequence[Any], chosen: str, rejected: str, better: float, worse: float) -> Pair:
    return {
        "prompt": list(messages),
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "score_chosen": better,
        "score_rejected": worse,
        "scenario": scenario,
    }


def pairs_of_run(folder: Path, options: PairOptions) -> Made:
    """Makes pairs from a run folder.

    Args:
        folder: Of `duologue pairs`, an evaluation or a comparison.
        options: Choice of pairs.

    Returns:
        The pairs, and counts of what was left out.

    Raises:
        ConfigError: If it holds neither candidates nor matches.
    """
    if (folder / CANDIDATES).exists():
        return pairs_of_candidates(
            [record for _, record in read_records(folder / CANDIDATES, "the candidates")], options
        )
    if (folder / MATCHES).exists():
        return pairs_of_matches(read_matches(folder / MATCHES), options)
    raise ConfigError(
        f"{folder} holds neither {CANDIDATES} nor {MATCHES}: give the folder of `duologue pairs`, of an evaluation or of "
        "a comparison"
    )


def write_pairs(made: Made, path: Path) -> str:
    """Writes the pairs as JSONL.

    Args:
        made: The pairs.
        path: The file to write.

    Returns:
        A line that says how many there are, and what was left out.
    """
    write_lines(path, made.pairs)
    left = ", ".join(f"{count:,} {_LEFT_OUT[name]}" for name, count in made.left_out.items() if count)
    return f"{len(made.pairs):,} pairs written to {path}" + (f"; left out: {left}" if left else "")
