"""Prompts and existing answers, read from the files of their authors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError
from ...core.files import read_lines, read_object, read_records
from ...envs.scenarios.benchmarks import benchmark_scenarios, question_id, texts
from ...envs.scenarios.loading import load_scenarios
from ...envs.scenarios.scenario import Scenario

_THINK = re.compile(r"^\s*<think>.*?</think>\s*", re.DOTALL)

Replies = tuple[str, ...]
"""One reply for each turn of a dialogue."""


def read_answers(path: Path) -> list[tuple[str, Replies]]:
    """Reads answers by prompt or id; text inside ``<think>`` is removed.

    Args:
        path: JSON or JSONL whose records have ``prompt`` or ``id``, and ``reply``; AlpacaEval's ``instruction`` and ``output``;
            MT-Bench's and Arena-Hard's ``question_id`` and ``choices``; or Arena-Hard's ``uid`` and ``messages``. A reply may
            be empty; null is an empty one.

    Returns:
        Prompt or id, and replies.

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
    """Reads a folder with ``<model>.jsonl`` for each model.

    Args:
        folder: The folder.

    Returns:
        Model to question to replies.

    Raises:
        ConfigError: If there is none, or one cannot be used.
    """
    paths = sorted(folder.expanduser().glob("*.jsonl"))
    if not paths:
        raise ConfigError(f"{folder} holds no answers: expected one `<model>.jsonl` for each model")
    return {path.stem: dict(read_answers(path)) for path in paths}


_FIELDS = {"prompt", "id", "system", "reference"}


def load_prompts(source: str, split: str = "test", limit: int | None = None) -> list[Scenario]:
    """Reads prompts as scenarios.

    Args:
        source: A ``.txt`` file with a prompt a line; a ``.jsonl`` file of objects with ``prompt`` and, if wanted, ``id``,
            ``system`` and ``reference``; a benchmark's questions, see `benchmark_scenarios`; a scenario file; or a shipped
            set's name.
        split: Split of the scenarios; ignored for prompts.
        limit: Take this many from the start; None for all.

    Returns:
        The prompts as scenarios.

    Raises:
        ConfigError: If the file cannot be read, is empty, or a line is bad.
    """
    path = Path(source).expanduser()
    if path.suffix not in (".txt", ".json", ".jsonl") or not path.exists():
        return load_scenarios(source, split, limit)
    if limit is not None and limit < 1:
        raise ConfigError(f"`limit` must be at least 1, or null, not {limit}")
    if path.suffix == ".json":
        return benchmark_scenarios(path)[:limit]
    lines = read_lines(path, "the prompts")
    if path.suffix == ".txt":
        return [Scenario(str(number), "test", (line.strip(),)) for number, (_, line) in enumerate(lines[:limit], 1)]
    first = read_object(lines[0][1], lines[0][0])
    if {"question_id", "uid", "instruction"} & set(first):
        return benchmark_scenarios(path)[:limit]
    if "prompt" not in first:
        return load_scenarios(source, split, limit)
    numbered = enumerate(lines[:limit], 1)
    made = [_prompt(read_object(line, where), where, str(number)) for number, (where, line) in numbered]
    if len({scenario.id for scenario in made}) < len(made):
        raise ConfigError(f"{path}: an `id` occurs more than once")
    return made


def _prompt(values: dict[str, Any], where: str, number: str) -> Scenario:
    for name, value in values.items():
        if name not in _FIELDS:
            raise ConfigError(f"{where}: `{name}` is no field of a prompt: known: {', '.join(sorted(_FIELDS))}")
        if not isinstance(value, str) and not (name == "id" and isinstance(value, int)):
            raise ConfigError(f"{where}: `{name}` must be a text, not {value!r}")
    if not values.get("prompt", "").strip():
        raise ConfigError(f"{where}: `prompt` is missing or empty")
    return Scenario(
        str(values.get("id", number)),
        "test",
        (values["prompt"],),
        system=values.get("system"),
        reference=values.get("reference"),
    )
