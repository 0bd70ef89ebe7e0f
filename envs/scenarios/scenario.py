"""The scenario record and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from ...core.errors import ScenarioError, near_miss
from ...core.files import decode_json, numbered_lines, write_lines
from ...inference.completion import Message
from .tables import Row, read_rows, write_parquet

Split = Literal["train", "validation", "test"]
SPLITS: tuple[str, ...] = get_args(Split)

GAMES = ("bargain", "forms", "support", "tutoring")
"""The games, whose scenarios are drawn: see `envs.games`."""


@dataclass(frozen=True)
class Scenario:
    """One task for the assistant.

    Attributes:
        id: Unique in its set.
        split: ``train``, ``validation`` or ``test``.
        user: The opening user turn, then the scripted ones that follow it; at least one.
        system: The system prompt; None for the environment's.
        reference: A good answer to the last scripted turn, hidden from the assistant and the policy; None if there is none.
        tags: Topics.
        persona: Persona of the simulated user.
        goal: Goal of the simulated user.
        hidden: Facts for judges and users only.
    """

    id: str
    split: Split
    user: tuple[str, ...]
    system: str | None = None
    reference: str | None = None
    tags: tuple[str, ...] = ()
    persona: str | None = None
    goal: str | None = None
    hidden: Mapping[str, Any] = field(default_factory=dict)

    def opening(self, system: str) -> list[Message]:
        """Builds the first messages that the assistant sees: the system prompt, if any, and the opening turn.

        Args:
            system: The system prompt where the scenario has none of its own; empty for none.

        Returns:
            The messages.
        """
        own = system if self.system is None else self.system
        messages: list[Message] = [{"role": "system", "content": own}] if own else []
        return [*messages, {"role": "user", "content": self.user[0]}]


_TYPES: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "split": (str,),
    "user": (str, list),
    "system": (str, type(None)),
    "reference": (str, type(None)),
    "tags": (list,),
    "persona": (str, type(None)),
    "goal": (str, type(None)),
    "hidden": (dict,),
}


def parse_scenario(record: object) -> Scenario:
    """Makes a scenario of a decoded JSON value.

    Args:
        record: An object with at least ``id``, ``split`` and ``user`` (a text, or a list of texts).

    Returns:
        The scenario.

    Raises:
        ValueError: With what was expected and what came.
    """
    if not isinstance(record, dict):
        raise ValueError(f"expected an object, not {type(record).__name__}")
    for name, value in record.items():
        if name not in _TYPES:
            raise ValueError(f"unknown field `{name}`: {near_miss(name, _TYPES)}")
        if not isinstance(value, _TYPES[name]):
            raise ValueError(f"field `{name}` must be {_TYPES[name][0].__name__}, not {type(value).__name__}")
    if missing := [name for name in ("id", "split", "user") if not record.get(name)]:
        raise ValueError(f"field `{missing[0]}` is missing or empty")
    if record["split"] not in SPLITS:
        raise ValueError(f"field `split` must be one of {', '.join(SPLITS)}, not {record['split']!r}")
    user = [record["user"]] if isinstance(record["user"], str) else record["user"]
    tags = record.get("tags", [])
    for name, texts in (("user", user), ("tags", tags)):
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError(f"field `{name}` must hold texts that are not empty")
    return Scenario(**record | {"user": tuple(user), "tags": tuple(tags)})


def read_scenarios(path: Path) -> list[Scenario]:
    """Reads a JSONL file, one scenario a line, in which blank lines are skipped; or Parquet with the same columns.

    Args:
        path: The file; or the folder of a dataset of Hugging Face's with these columns, saved on disk.

    Returns:
        The scenarios, in the file's order.

    Raises:
        ConfigError: If the file cannot be read.
        ScenarioError: At the first bad line, with file and line number; also for an id that occurs twice and for
            the same opening turns in two splits.
    """
    unit = "line" if path.suffix == ".jsonl" else "row"
    scenarios: list[Scenario] = []
    ids: dict[str, int] = {}
    openings: dict[tuple[str | None, tuple[str, ...]], tuple[int, str]] = {}
    for number, raw in numbered_lines(path, "the scenario file") if unit == "line" else enumerate(read_rows(path), 1):
        try:
            scenario = parse_scenario(_of_table(raw) if isinstance(raw, Row) else decode_json(raw))
            if (first := ids.setdefault(scenario.id, number)) != number:
                raise ValueError(f"id `{scenario.id}` was already used in {unit} {first}")
            first, split = openings.setdefault((scenario.system, scenario.user), (number, scenario.split))
            if split != scenario.split:
                raise ValueError(f"the user's turns are those of {unit} {first}, which is in split `{split}`")
        except ValueError as error:
            raise ScenarioError(f"{path}, {unit} {number}: {error}") from error
        scenarios.append(scenario)
    return scenarios


def _of_table(row: Row) -> object:
    """A row's record: a column is null in rows that have no such field, and ``hidden`` may be JSON."""
    record = {"split": row.split} | row.record()
    if isinstance(record.get("hidden"), str):
        record["hidden"] = decode_json(record["hidden"])
    if isinstance(record.get("hidden"), dict):
        record["hidden"] = {name: value for name, value in record["hidden"].items() if value is not None}
    return {name: value for name, value in record.items() if value is not None}


def write_scenarios(scenarios: Sequence[Scenario], path: Path) -> None:
    """Writes a file that `read_scenarios` reads: Parquet if it is called so, else JSONL."""
    records = []
    for scenario in scenarios:
        values = vars(scenario) | {"user": list(scenario.user), "tags": list(scenario.tags)}
        records.append(
            {name: value for name, value in values.items() if value or value == ""}
        )  # an empty system prompt is one
    if path.suffix == ".parquet":
        path.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(path, records)
    else:
        write_lines(path, records)


assert set(_TYPES) == {f.name for f in fields(Scenario)}
