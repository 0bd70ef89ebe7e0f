"""Reads other people's data as scenarios with disjoint splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, cast

from ...core.errors import ConfigError, near_miss
from .datasets import cima_draft, cima_rows, craigslist_draft
from .drafts import Columns, Draft, Shares, message_draft, scenarios_of
from .scenario import SPLITS, Scenario, Split
from .tables import Row, read_rows

IMPORTERS: Mapping[str, str] = {
    "messages": "dialogues as OpenAI's and UltraChat's files have them: `messages`, or `data`",
    "columns": "rows with a question, and an answer if there is one",
    "cima": "CIMA's dataset.json: exercises of Italian",
    "craigslist": "CraigslistBargain's dialogues, scenarios or listings",
}
"""The formats of data, and what each is."""


@dataclass(frozen=True)
class DataOptions:
    """Options of an import.

    Attributes:
        split: The split of all; None to divide them.
        validation: See `Shares`.
        test: See `Shares`.
        limit: Records read from each file, at most; None for all.
        skip: Whether records that cannot be used are left out, and not an error.
        user: See `Columns`, like the following.
    """

    split: str | None = None
    validation: float = 0.1
    test: float = 0.1
    limit: int | None = None
    skip: bool = False
    user: str | None = None
    reference: str | None = None
    system: str | None = None
    tags: str | None = None

    def __post_init__(self) -> None:
        if self.split is not None and self.split not in SPLITS:
            raise ConfigError(f"there is no split `{self.split}`: {near_miss(self.split, SPLITS)}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"`limit` must be at least 1, not {self.limit}")


def import_scenarios(
    kind: str, paths: Sequence[Path], options: DataOptions
) -> tuple[list[Scenario], dict[str, int], list[str]]:
    """Reads files of one format.

    Args:
        kind: A key of `IMPORTERS`.
        paths: The files.
        options: Options of the import.

    Returns:
        The scenarios; how many records were left out, by reason; and what is wrong with those that could not be used.

    Raises:
        ConfigError: If a file cannot be read, a record cannot be used and ``skip`` is not set, or none is left.
    """
    draft = _maker(kind, options)
    drafts: list[tuple[Draft, Split | None]] = []
    wrong: list[str] = []
    for path in paths:
        for row in islice(_rows(kind, path), options.limit):
            try:
                drafts.append((draft(row.record()), _split(options.split or row.split)))
            except ValueError as error:
                if not options.skip:
                    raise ConfigError(f"{row.where}: {error}. `skip=true` leaves such records out") from error
                wrong.append(f"{row.where}: {error}")
    if not drafts:
        raise ConfigError(f"{', '.join(map(str, paths))}: no record can be used{f'; {wrong[0]}' if wrong else ''}")
    found, left_out = scenarios_of(drafts, kind, Shares(options.validation, options.test))
    return found, left_out | ({"cannot be used": len(wrong)} if wrong else {}), wrong


def counts(scenarios: Sequence[Scenario]) -> str:
    """Words the number of scenarios per split."""
    found: Counter[str] = Counter(scenario.split for scenario in scenarios)
    return ", ".join(f"{found[split]:,} {split}" for split in SPLITS)


def _rows(kind: str, path: Path) -> Iterator[Row]:
    return cima_rows(path) if kind == "cima" else read_rows(path)


def _maker(kind: str, options: DataOptions) -> Callable[[Mapping[str, Any]], Draft]:
    columns = {entry.name: getattr(options, entry.name) for entry in fields(Columns)}
    if kind == "columns":
        return Columns(**columns).draft
    if given := next((name for name, value in columns.items() if value is not None), None):
        raise ConfigError(f"`{given}=` names a column, and only `duologue import columns` reads columns")
    return {"messages": message_draft, "cima": cima_draft, "craigslist": craigslist_draft}[kind]


def _split(name: str | None) -> Split | None:
    """The split chosen by the user or the source.

    Raises:
        ConfigError: If it is none of ours.
    """
    if name is None:
        return None
    if name not in SPLITS:
        raise ConfigError(
            f"the dataset has a split `{name}`, which is none of {', '.join(SPLITS)}: read its folder alone, with `split=` or without"
        )
    return cast(Split, name)
