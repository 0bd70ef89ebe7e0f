"""Files of JSON objects, one a line or in a list, as people hand them in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import ConfigError


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


def read_records(path: Path, what: str) -> list[tuple[str, dict[str, Any]]]:
    """The objects of a JSON list, or of a file with one a line.

    Args:
        path: The file.
        what: What it is to the user, such as ``the answers``.

    Returns:
        Each object with its place, ``file line 3`` or ``file record 3``; at least one.

    Raises:
        ConfigError: If the file cannot be read, or holds something else.
    """
    lines = read_lines(path, what)
    if not lines[0][1].lstrip().startswith("["):
        return [(where, read_object(line, where)) for where, line in lines]
    try:
        values = json.loads("\n".join(line for _, line in lines))
    except ValueError as error:
        raise ConfigError(f"{what} {path} are no JSON: {error}") from error
    if not values or not all(isinstance(value, dict) for value in values):
        raise ConfigError(f"{what} {path} must hold JSON objects")
    return [(f"{path} record {number}", value) for number, value in enumerate(values, 1)]
