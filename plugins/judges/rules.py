"""Rules that need no model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..judge import Score, Turn, TurnJudge, Verdict

_END = re.compile(r"[.!?\u2026][\"'\u201d\u2019)\]*`]*\s*$")

BANNED = (r"(?i)\bas an ai\b", r"(?i)\bi('m| am) sorry, but i can('t|not)\b")
"""Patterns that a reply must not match unless others are named."""


def repetition(text: str, n: int = 3) -> float:
    """The share of a text's word n-grams that occurred before in it: 0 for none, towards 1 for a loop."""
    words = re.findall(r"\w+", text.lower())
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


class RulesJudge(TurnJudge):
    """The mean of four components, each in [0, 1].

    ``repetition`` is 1 minus the share of repeated word trigrams, ``finished`` whether the reply ends a sentence by
    itself, ``banned`` whether no banned pattern occurs, ``format`` whether the whole reply matches. An empty reply
    scores 0.

    Args:
        banned: Regular expressions that a reply must not match.
        format: A regular expression that the whole reply must match; None for any.
    """

    name = "rules"
    summary = "no repetition, a finished sentence, no banned pattern, the right format"

    def __init__(self, banned: Sequence[str] = BANNED, format: str | None = None) -> None:
        try:
            self._banned = [re.compile(pattern) for pattern in banned]
            self._format = re.compile(format, re.DOTALL) if format else None
        except re.error as error:
            raise ValueError(f"{error.pattern!r} is no regular expression: {error}") from error

    def judge(self, turn: Turn) -> Verdict:
        """Judges one turn."""
        reply = turn.reply.strip()
        if not reply:
            return Score(0.0, rationale="empty reply")
        components = {
            "repetition": 1 - repetition(reply),
            "finished": float(turn.finish_reason != "length" and bool(_END.search(reply))),
            "banned": float(not any(pattern.search(reply) for pattern in self._banned)),
            "format": float(self._format is None or bool(self._format.fullmatch(reply))),
        }
        return Score(sum(components.values()) / len(components), components)
