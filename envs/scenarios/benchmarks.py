"""The questions of public benchmarks as scenarios: AlpacaEval, MT-Bench and Arena-Hard, as their repositories keep them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError
from ...core.files import read_records
from .scenario import Scenario, Split


def question_id(record: Mapping[str, Any]) -> str | None:
    """The question's id as these benchmarks name it; None where there is none."""
    found = record.get("question_id", record.get("uid"))
    return str(found) if isinstance(found, str | int) else None


def texts(turns: object, blank: bool = False) -> tuple[str, ...]:
    """Reads turns that are texts, or objects with ``content``.

    Args:
        turns: A list of them.
        blank: Whether a text may be empty, as a model's reply may; null then is an empty one.

    Returns:
        The texts; empty if any turn is neither.
    """
    listed = turns if isinstance(turns, list) else []
    found = [turn.get("content") if isinstance(turn, Mapping) else turn for turn in listed]
    if blank:
        found = ["" if text is None else text for text in found]
    known = tuple(text for text in found if isinstance(text, str) and (blank or text.strip()))
    return known if len(known) == len(found) else ()


def benchmark_scenarios(path: Path, split: Split = "test") -> list[Scenario]:
    """Reads the questions of AlpacaEval, MT-Bench or Arena-Hard.

    Args:
        path: AlpacaEval's JSON list of ``instruction``; MT-Bench's or Arena-Hard's ``question.jsonl``, whose lines have
            ``question_id`` or ``uid``, and ``turns`` or ``prompt``; or what `/v1/feedback` kept, where a reply with the score 1
            becomes the reference.
        split: Split of the scenarios.

    Returns:
        Scenarios whose tags are the question's category. An AlpacaEval question that occurs again is left out.

    Raises:
        ConfigError: If a record is none of these.
    """
    found: dict[str, Scenario] = {}
    asked: set[str] = set()
    user: tuple[str, ...]
    for where, record in read_records(path, "the questions"):
        if isinstance(record.get("instruction"), str):
            if record["instruction"] in asked:
                continue
            asked.add(record["instruction"])
            name, user = str(len(found) + 1), (record["instruction"],)
        elif isinstance(record.get("reply"), str) and (said := _said(record.get("messages"))):
            if "\n".join(said) in asked:
                continue
            asked.add("\n".join(said))
            liked = record["reply"] if record.get("score") == 1 else None
            found[str(len(found) + 1)] = Scenario(str(len(found) + 1), split, said, reference=liked)
            continue
        else:
            own = question_id(record)
            prompt = record.get("prompt")
            user = (prompt,) if isinstance(prompt, str) and prompt.strip() else texts(record.get("turns"))
            if own is None or not user:
                raise ConfigError(
                    f"{where} must have `question_id` or `uid`, and `turns` or `prompt`; or AlpacaEval's `instruction`"
                )
            if own in found:
                raise ConfigError(f"{where}: the id `{own}` occurs more than once")
            name = own
        references = texts(record.get("reference"))
        tags = [str(record[key]) for key in ("category", "dataset") if record.get(key)]
        reference = references[-1] if len(references) == len(user) else None
        found[name] = Scenario(name, split, user, reference=reference, tags=tuple(tags))
    return list(found.values())


def _said(messages: object) -> tuple[str, ...]:
    """The user's turns of a dialogue."""
    listed = messages if isinstance(messages, list) else []
    return texts([m.get("content") for m in listed if isinstance(m, Mapping) and m.get("role") == "user"])
