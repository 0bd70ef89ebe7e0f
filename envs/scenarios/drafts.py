"""Scenarios without id and split, made from dialogues or from tables with a question in one column.

Both follow from the content alone, so the same record gets the same ones in every file, on every machine, whatever stands
around it; and records that belong together cannot come apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from ...core.errors import ConfigError
from .scenario import SPLITS, Scenario, Split


@dataclass(frozen=True)
class Draft:
    """A scenario without id and split.

    Attributes:
        user: As in `Scenario`, like all that follow but ``group``.
        group: What must not be in two splits: the listing that several bargains are about, the first question of dialogues.
    """

    user: tuple[str, ...]
    group: str
    system: str | None = None
    reference: str | None = None
    tags: tuple[str, ...] = ()
    persona: str | None = None
    goal: str | None = None
    hidden: Mapping[str, Any] = field(default_factory=dict)

    def digest(self) -> str:
        """12 hexadecimal digits of its content's SHA-256."""
        return hashlib.sha256(json.dumps(vars(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Shares:
    """Which part of the groups goes to the splits that nothing is learnt from.

    Attributes:
        validation: Between 0 and 1.
        test: Between 0 and 1.
    """

    validation: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        if not (self.validation >= 0 and self.test >= 0 and self.validation + self.test <= 1):
            raise ConfigError(
                f"`validation` and `test` must be shares with a sum of at most 1, not {self.validation} and {self.test}"
            )

    def split(self, group: str) -> Split:
        """The split of a group, by its content's SHA-256 as a number between 0 and 1."""
        at = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
        return "test" if at < self.test else "validation" if at < self.test + self.validation else "train"


def scenarios_of(
    drafts: Sequence[tuple[Draft, Split | None]], name: str, shares: Shares
) -> tuple[list[Scenario], dict[str, int]]:
    """Gives drafts their ids and splits.

    Args:
        drafts: Each with the split that its source says, or None.
        name: Prefix of the ids.
        shares: Proportions of the splits for groups without a split.

    Returns:
        The scenarios; and how many drafts were left out, by reason: the same twice, or in ``test`` or ``validation`` as well.
    """
    splits: dict[str, Split] = {}
    for draft, split in drafts:
        wanted = split or shares.split(draft.group)
        splits[draft.group] = max(splits.get(draft.group, wanted), wanted, key=SPLITS.index)
    found: dict[str, Scenario] = {}
    left_out = {"twice": 0, "in another split": 0}
    for draft, split in drafts:
        identity = f"{name}-{draft.digest()}"
        if split not in (None, splits[draft.group]):
            left_out["in another split"] += 1
        elif identity in found:
            left_out["twice"] += 1
        else:
            parts = {key: value for key, value in vars(draft).items() if key != "group"}
            found[identity] = Scenario(id=identity, split=splits[draft.group], **parts)
    return list(found.values()), {reason: count for reason, count in left_out.items() if count}


_ROLES = ("system", "developer", "user", "assistant")


def message_draft(record: Mapping[str, Any]) -> Draft:
    """Makes a scenario of a dialogue.

    Args:
        record: With ``messages``, each with ``role`` and ``content`` (a text, or parts that are texts); or with ``data``,
            UltraChat's list of texts that user and assistant say in turn.

    Returns:
        The draft.

    Raises:
        ValueError: If it is neither, or holds what cannot be played: tools, pictures.
    """
    said = _said(record)
    system = "\n\n".join(text for role, text in said if role in ("system", "developer")) or None
    turns = [(role, text) for role, text in said if role in ("user", "assistant")]
    merged = [
        (role, "\n\n".join(text for _, text in group)) for role, group in groupby(turns, key=lambda turn: turn[0])
    ]
    user = tuple(text for role, text in merged if role == "user")
    if not user:
        raise ValueError("no message of the role `user`")
    if merged[0][0] == "assistant":
        raise ValueError("the assistant speaks first, which no scenario can")
    reference = merged[-1][1] if merged[-1][0] == "assistant" else None
    return Draft(user, group=user[0], system=system, reference=reference)


def _said(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    data = record.get("data")
    if "messages" not in record and isinstance(data, list):
        return [("assistant" if number % 2 else "user", _text(text, number)) for number, text in enumerate(data)]
    messages = record.get("messages")
    if not isinstance(messages, list):
        raise ValueError("expected `messages`, a list of objects with `role` and `content`, or UltraChat's `data`")
    return [_message(message, number) for number, message in enumerate(messages)]


def _message(message: object, number: int) -> tuple[str, str]:
    role = message.get("role") if isinstance(message, Mapping) else None
    if not isinstance(message, Mapping) or role not in _ROLES or message.get("tool_calls"):
        raise ValueError(f"message {number}: expected the role {', '.join(_ROLES)}, without tools, not {role!r}")
    return role, _text(message.get("content"), number)


def _text(content: object, number: int) -> str:
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "".join(texts) if len(texts) == len(parts) else None
    if not isinstance(content, str) or not content.strip():
        raise ValueError(f"message {number}: expected a text that is not empty")
    return content.strip()


_USER = ("user", "prompt", "question", "instruction")
_REFERENCE = ("reference", "answer", "response", "output", "completion")
_TAGS = ("tags", "category")


@dataclass(frozen=True)
class Columns:
    """Which columns are read; None for the first of the usual names.

    Attributes:
        user: Column of the user's turn, or of a list of turns.
        reference: Column of a good answer.
        system: Column of the system prompt.
        tags: Column of the topics.
    """

    user: str | None = None
    reference: str | None = None
    system: str | None = None
    tags: str | None = None

    def draft(self, record: Mapping[str, Any]) -> Draft:
        """Makes a scenario of a row.

        Args:
            record: Column to value.

        Returns:
            The draft.

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
            _column_text(*_column(record, chosen, usual))
            for chosen, usual in ((self.reference, _REFERENCE), (self.system, ("system",)))
        )
        return Draft(user, group=user[0], system=system, reference=reference, tags=_tags(record, self.tags))


def _column(record: Mapping[str, Any], chosen: str | None, usual: tuple[str, ...]) -> tuple[str | None, Any]:
    if chosen is not None and chosen not in record:
        raise ConfigError(f"there is no column `{chosen}`: known: {', '.join(f'`{name}`' for name in record)}")
    name = chosen or next((name for name in usual if name in record), None)
    return name, None if name is None else record[name]


def _column_text(name: str | None, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"`{name}` must be a text, not {value!r}")
    return value if value and value.strip() else None


def _tags(record: Mapping[str, Any], chosen: str | None) -> tuple[str, ...]:
    _, value = _column(record, chosen, _TAGS)
    listed = value if isinstance(value, list) else [value]
    return tuple(str(tag) for tag in listed if tag is not None and str(tag).strip())
