"""Tables with a question in one column and, if there is one, its answer in another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...inference.errors import ConfigError
from .drafts import Draft

_USER = ("user", "prompt", "question", "instruction")
_REFERENCE = ("reference", "answer", "response", "output", "completion")
_TAGS = ("tags", "category")


@dataclass(frozen=True)
class Columns:
    """Which columns are read; None for the first of the usual names.

    Attributes:
        user: Of the user's turn, or of a list of them.
        reference: Of a good answer.
        system: Of the system prompt.
        tags: Of what it is about.
    """

    user: str | None = None
    reference: str | None = None
    system: str | None = None
    tags: str | None = None

    def draft(self, record: Mapping[str, Any]) -> Draft:
        """Makes a scenario of a row.

        Raises:
            ConfigError: If there is no such column.
            ValueError: If the row's value cannot be used.
        """
        name, value = _column(record, self.user, _USER)
        if name is None:
            raise ConfigError(
                f"`user=COLUMN` must say where the question is: there is none of {', '.join(_USER)} among the columns "
                f"{', '.join(f'`{known}`' for known in record)}"
                + ("; `duologue import messages` reads dialogues" if {"messages", "data"} & set(record) else "")
            )
        user = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
        if not user or not all(isinstance(text, str) and text.strip() for text in user):
            raise ValueError(f"`{name}` must be a text that is not empty, or a list of them")
        reference, system = (
            _text(*_column(record, chosen, usual))
            for chosen, usual in ((self.reference, _REFERENCE), (self.system, ("system",)))
        )
        return Draft(user, group=user[0], system=system, reference=reference, tags=_tags(record, self.tags))


def _column(record: Mapping[str, Any], chosen: str | None, usual: tuple[str, ...]) -> tuple[str | None, Any]:
    if chosen is not None and chosen not in record:
        raise ConfigError(f"there is no column `{chosen}`: known: {', '.join(f'`{name}`' for name in record)}")
    name = chosen or next((name for name in usual if name in record), None)
    return name, None if name is None else record[name]


def _text(name: str | None, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"`{name}` must be a text, not {value!r}")
    return value if value and value.strip() else None


def _tags(record: Mapping[str, Any], chosen: str | None) -> tuple[str, ...]:
    _, value = _column(record, chosen, _TAGS)
    listed = value if isinstance(value, list) else [value]
    return tuple(str(tag) for tag in listed if tag is not None and str(tag).strip())
