"""Preference pairs in TRL's conversational format: JSONL with ``prompt``, ``chosen`` and ``rejected`` as lists of messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...inference.errors import ConfigError
from ...inference.records import read_lines, read_object

PARTS = ("prompt", "chosen", "rejected")


def read_pairs(path: Path) -> list[dict[str, Any]]:
    """Reads preference pairs; further fields, such as scores, are left out.

    Raises:
        ConfigError: If the file cannot be read, is empty, or a line is no pair.
    """
    rows = []
    for where, line in read_lines(path.expanduser(), "the preference pairs"):
        values = read_object(line, where)
        for part in PARTS:
            messages = values.get(part)
            if not isinstance(messages, list) or not messages or not all(_is_message(message) for message in messages):
                raise ConfigError(
                    f"{where}: `{part}` must be a list of messages with `role` and `content`, not {messages!r}"
                )
        rows.append({part: values[part] for part in PARTS})
    return rows


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("role", "content"))
