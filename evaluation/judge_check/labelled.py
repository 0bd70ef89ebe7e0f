"""Labelled data for measuring a judge: pairs with the better reply, or replies with a score.

One JSON object a line, or a JSON list of them; Parquet too. A pair: ``prompt`` or ``messages``, ``first``, ``second``,
``label`` (``first``, ``second``, ``tie``; also 1, 2, A, B). A score: ``prompt`` or ``messages``, ``reply``, ``score``.
Optional: ``id``, ``reference``, and whose replies they are: ``first_model`` and ``second_model``, or ``model``. A ``comment``, as
`duologue serve feedback=` keeps it, is left out.

The public files of JudgeBench, LLMBar, PandaLM and RewardBench are read as they are: see `PUBLIC`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError, near_miss
from ...core.files import read_records
from ...envs.scenarios.tables import read_rows
from ...inference.completion import Message
from ...plugins.judge import Turn

LABELS: Mapping[str, str] = {
    **dict.fromkeys(("first", "1", "a", "reply a", "model_a"), "first"),
    **dict.fromkeys(("second", "2", "b", "reply b", "model_b"), "second"),
    **dict.fromkeys(("tie", "c", "draw", "0", "tie (bothbad)"), "tie"),
}

_COMMON = {"id", "prompt", "messages", "reference"}
_PAIR = _COMMON | {"first", "second", "label", "first_model", "second_model"}
_SCORED = _COMMON | {"reply", "score", "model", "comment"}


@dataclass(frozen=True)
class LabelledPair:
    """Two replies to one dialogue, and which is better.

    Attributes:
        id: Id of the record.
        first: One reply.
        second: The other.
        label: ``first``, ``second`` or ``tie``.
        models: Models that wrote the replies; None if unknown.
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
        id: Id of the record.
        turn: The reply.
        score: The label's score; higher is better.
    """

    id: str
    turn: Turn
    score: float


def read_labelled(path: Path, limit: int | None = None) -> Sequence[LabelledPair] | Sequence[LabelledScore]:
    """Reads labelled data.

    Args:
        path: A file as the module's docstring describes it.
        limit: Take this many from the start; None for all.

    Returns:
        The records.

    Raises:
        ConfigError: If the file cannot be read, is empty, mixes pairs and scores, or a line is bad.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"`limit` must be at least 1, or null, not {limit}")
    entries = _entries(path)[:limit]
    records = [_record(_public(values), where, str(n)) for n, (where, values) in enumerate(entries, 1)]
    if doubled := [name for name, count in Counter(record.id for record in records).items() if count > 1]:
        raise ConfigError(f"{path}: the id {doubled[0]!r} occurs more than once")
    pairs = [record for record in records if isinstance(record, LabelledPair)]
    scores = [record for record in records if isinstance(record, LabelledScore)]
    if pairs and scores:
        raise ConfigError(f"{path} holds pairs and scores: put them into two files")
    return pairs or scores


def _entries(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The objects of a file, each with its place."""
    if path.suffix != ".parquet":
        return read_records(path, "the labelled data")
    if not (found := [(row.where, row.record()) for row in read_rows(path)]):
        raise ConfigError(f"the labelled data {path} holds nothing")
    return found


def _judgebench(values: Mapping[str, Any]) -> dict[str, Any]:
    label = {"A>B": "first", "B>A": "second", "A=B": "tie", "B=A": "tie"}.get(values["label"], values["label"])
    made = {"prompt": values["question"], "first": values["response_A"], "second": values["response_B"], "label": label}
    return {**made, "id": values["pair_id"]} if "pair_id" in values else made


def _llmbar(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "prompt": values["input"],
        "first": values["output_1"],
        "second": values["output_2"],
        "label": values.get("label"),
    }


def _pandalm(values: Mapping[str, Any]) -> dict[str, Any]:
    """The label that most annotators gave; a tie where no two agree."""
    votes = [str(values[name]) for name in sorted(values) if name.startswith("annotator")]
    (label, count), *_ = Counter(votes).most_common(1)
    asked = "\n\n".join(str(values[name]) for name in ("instruction", "input") if values.get(name))
    return {
        "prompt": asked,
        "first": values["response1"],
        "second": values["response2"],
        "label": label if count > 1 or len(votes) == 1 else "tie",
    }


def _rewardbench(values: Mapping[str, Any]) -> dict[str, Any]:
    asked = values["prompt"]
    return {
        "prompt" if isinstance(asked, str) else "messages": asked,
        "first": values["chosen"],
        "second": values["rejected"],
        "label": "first",
        "first_model": values.get("chosen_model"),
        "second_model": values.get("rejected_model"),
    }


PUBLIC: Mapping[str, tuple[frozenset[str], Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "JudgeBench": (frozenset({"question", "response_A", "response_B", "label"}), _judgebench),
    "LLMBar": (frozenset({"input", "output_1", "output_2", "label"}), _llmbar),
    "PandaLM": (frozenset({"instruction", "response1", "response2", "annotator1"}), _pandalm),
    "RewardBench": (frozenset({"prompt", "chosen", "rejected"}), _rewardbench),
}
"""By public data set: the fields that tell its records, and how one becomes a record of ours."""


def _public(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Converts a record of a public data set to our fields; other records stay unchanged."""
    for fields, make in PUBLIC.values():
        if fields <= values.keys():
            return make(values)
    return values


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
