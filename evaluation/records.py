"""Files of one JSON object a line, as people hand them in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..inference.errors import ConfigError


def read_lines(path: Path, what: str) -> list[tuple[str, str]]:
    """The lines of a text file that are not blank.

    Args:
        path: The file.
        what: What it is to the user, such as ``the answers``, for error messages.

    Returns:
        Each line with its place, ``file line 3``.

    Raises:
        ConfigError: If the file cannot be read, or holds no line.
    """
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} {path} cannot be read: {error}") from error
    found = [(f"{path} line {number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise ConfigError(f"{what} {path} holds nothing")
    return found


def read_object(line: str, where: str) -> dict[str, Any]:
    """One line as an object.

    Args:
        line: JSON.
        where: Its place, for error messages.

    Raises:
        ConfigError: If it is none.
    """
    try:
        values = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{where} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{where} must hold a JSON object, not {type(values).__name__}")
    return values
