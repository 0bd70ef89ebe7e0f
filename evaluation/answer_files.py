"""Answers that are there already, in the files of those who made them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..envs.benchmarks import question_id, texts
from ..inference.errors import ConfigError
from ..inference.records import read_records

_THINK = re.compile(r"^\s*<think>.*?</think>\s*", re.DOTALL)

Replies = tuple[str, ...]
"""One reply for each turn of a dialogue."""


def read_answers(path: Path) -> list[tuple[str, Replies]]:
    """Reads answers by prompt or id; what stands in ``<think>`` before an answer is no part of it.

    Args:
        path: JSON or JSONL whose records have ``prompt`` or ``id``, and ``reply``; AlpacaEval's ``instruction`` and ``output``;
            MT-Bench's and Arena-Hard's ``question_id`` and ``choices``; or Arena-Hard's ``uid`` and ``messages``. A reply may
            be empty; null is an empty one.

    Raises:
        ConfigError: If the file cannot be read, or a record is none of these.
    """
    found = []
    for where, record in read_records(path, "the answers"):
        key = record.get("id", record.get("prompt", record.get("instruction", question_id(record))))
        replies = _replies(record)
        if not isinstance(key, str | int) or not replies:
            raise ConfigError(
                f"{where} must have `id` or `prompt`, and `reply`; `instruction` and `output`; `question_id` and `choices`; or "
                "`uid` and `messages`"
            )
        found.append((str(key), tuple(_THINK.sub("", reply) for reply in replies)))
    return found


def _replies(record: Mapping[str, Any]) -> Replies:
    for name in ("reply", "output"):
        if name in record:
            return texts([record[name]], blank=True)
    choices = record.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        return texts(choices[0].get("turns"), blank=True)
    messages = record.get("messages")
    if not isinstance(messages, list):
        return ()
    said = [m.get("content") for m in messages if isinstance(m, Mapping) and m.get("role") == "assistant"]
    return texts([part.get("answer") if isinstance(part, Mapping) else part for part in said], blank=True)


def read_answer_folder(folder: Path) -> dict[str, dict[str, Replies]]:
    """Answers by model and question, from a folder with ``<model>.jsonl`` for each.

    Raises:
        ConfigError: If there is none, or one cannot be used.
    """
    paths = sorted(folder.expanduser().glob("*.jsonl"))
    if not paths:
        raise ConfigError(f"{folder} holds no answers: expected one `<model>.jsonl` for each model")
    return {path.stem: dict(read_answers(path)) for path in paths}
