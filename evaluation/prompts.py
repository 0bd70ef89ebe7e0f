"""Prompts for a comparison: a text file, JSONL, or a set of scenarios."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..envs.benchmarks import benchmark_scenarios
from ..envs.scenarios import Scenario, load_scenarios
from ..inference.errors import ConfigError
from ..inference.records import read_lines, read_object

_FIELDS = {"prompt", "id", "system", "reference"}


def load_prompts(source: str, split: str = "test", limit: int | None = None) -> list[Scenario]:
    """Reads prompts as scenarios.

    Args:
        source: A ``.txt`` file with a prompt a line; a ``.jsonl`` file of objects with ``prompt`` and, if wanted, ``id``,
            ``system`` and ``reference``; a benchmark's questions, see `benchmark_scenarios`; a scenario file; or a shipped
            set's name.
        split: Of which split the scenarios are; of no meaning for prompts.
        limit: Take this many from the start; None for all.

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
