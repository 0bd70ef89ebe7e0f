"""Labelled data by which a judge is measured: pairs of which one is better, or replies with a score.

One JSON object a line. A pair: ``prompt`` or ``messages``, ``first``, ``second``, ``label`` (``first``, ``second``, ``tie``;
also 1, 2, A, B). A score: ``prompt`` or ``messages``, ``reply``, ``score``. Optional: ``id``, ``reference``, and whose
replies they are: ``first_model`` and ``second_model``, or ``model``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..inference.completion import Message
from ..inference.errors import ConfigError, near_miss
from ..inference.records import read_lines, read_object
from ..plugins.verdict import Turn

LABELS: Mapping[str, str] = {
    **dict.fromkeys(("first", "1", "a", "reply a", "model_a"), "first"),
    **dict.fromkeys(("second", "2", "b", "reply b", "model_b"), "second"),
    **dict.fromkeys(("tie", "c", "draw", "0", "tie (bothbad)"), "tie"),
}

_COMMON = {"id", "prompt", "messages", "reference"}
_PAIR = _COMMON | {"first", "second", "label", "first_model", "second_model"}
_SCORED = _COMMON | {"reply", "score", "model"}


@dataclass(frozen=True)
class LabelledPair:
    """Two replies to one dialogue, and which is better.

    Attributes:
        id: Of the record.
        first: One reply.
        second: The other.
        label: ``first``, ``second`` or ``tie``.
        models: Whose replies they are, if that is known.
    """

    id: str
    first: Turn
    second: Turn
    label: str
    models: tuple[str | None, str | None] = (None, None)


@dataclass(frozen=True)
class LabelledScore:
    """A reply and its score.

    Attributes:
        id: Of the record.
        turn: The reply.
        score: By those who labelled it; higher is better.
    """

    id: str
    turn: Turn
    score: float


def read_labelled(path: Path, limit: int | None = None) -> Sequence[LabelledPair] | Sequence[LabelledScore]:
    """Reads labelled data.

    Args:
        path: A JSONL file as the module's docstring describes it.
        limit: Take this many from the start; None for all.

    Raises:
        ConfigError: If the file cannot be read, is empty, mixes pairs and scores, or a line is bad.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"`limit` must be at least 1, or null, not {limit}")
    lines = read_lines(path, "the labelled data")[:limit]
    records = [_record(read_object(line, where), where, str(n)) for n, (where, line) in enumerate(lines, 1)]
    if doubled := [name for name, count in Counter(record.id for record in records).items() if count > 1]:
        raise ConfigError(f"{path}: the id {doubled[0]!r} occurs more than once")
    pairs = [record for record in records if isinstance(record, LabelledPair)]
    scores = [record for record in records if isinstance(record, LabelledScore)]
    if pairs and scores:
        raise ConfigError(f"{path} holds pairs and scores: put them into two files")
    return pairs or scores


def _record(values: Mapping[str, Any], where: str, number: str) -> LabelledPair | LabelledScore:
    known = _PAIR if "first" in values or "second" in values else _SCORED
    for name in values:
        if name not in known:
            raise ConfigError(f"{where}: `{name}` is no field of a record: {near_miss(str(name), known)}")
    messages = _messages(values, where)
    reference = None if values.get("reference") is None else _text(values, "reference", where)
    name = str(values.get("id", number))
    if known is _PAIR:
        first, second = (
            Turn(messages, _text(values, side, where), reference, scenario_id=name) for side in ("first", "second")
        )
        label = LABELS.get(str(values.get("label")).lower())
        if label is None:
            raise ConfigError(f"{where}: `label` must be first, second or tie, not {values.get('label')!r}")
        return LabelledPair(name, first, second, label, (values.get("first_model"), values.get("second_model")))
    score = values.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise ConfigError(f"{where}: `score` must be a number, not {score!r}; a pair has `first`, `second` and `label`")
    return LabelledScore(name, Turn(messages, _text(values, "reply", where), reference, scenario_id=name), float(score))


def _text(values: Mapping[str, Any], name: str, where: str) -> str:
    value = values.get(name)
    if not isinstance(value, str):
        raise ConfigError(f"{where}: `{name}` must be a text, not {value!r}")
    return value


def _messages(values: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    if ("prompt" in values) == ("messages" in values):
        raise ConfigError(f"{where} needs either `prompt`, a text, or `messages`, a list of role and content")
    if "prompt" in values:
        return ({"role": "user", "content": _text(values, "prompt", where)},)
    found = values["messages"]
    if not isinstance(found, list) or not found:
        raise ConfigError(f"{where}: `messages` must be a list of role and content, not {found!r}")
    made: list[Message] = []
    for entry in found:
        if not isinstance(entry, dict) or not all(isinstance(entry.get(part), str) for part in ("role", "content")):
            raise ConfigError(f"{where}: a message must have the texts `role` and `content`, not {entry!r}")
        made.append({"role": entry["role"], "content": entry["content"]})
    return tuple(made)
