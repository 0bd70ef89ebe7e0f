"""Reads text and JSON files that people hand in, and writes JSON files and JSON lines.

Lines end at a line feed alone: U+2028, U+2029 and U+0085 are ordinary characters of a JSON string. A byte order mark is skipped.
What is no text (invalid UTF-8, half of a surrogate pair) is refused with file and line.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import ConfigError

_MARK = b"\xef\xbb\xbf"
_BREAKS = re.compile("[\u0085\u2028\u2029]")


def numbered_lines(path: Path, what: str = "the file") -> Iterator[tuple[int, bytes]]:
    """Yields the lines of a file that are not blank.

    Args:
        path: The file.
        what: Words for the file in error messages, for example ``the answers``.

    Yields:
        Line numbers from 1, and the lines without their line breaks.

    Raises:
        ConfigError: If the file cannot be read.
    """
    try:
        with path.expanduser().open("rb") as file:
            for number, line in enumerate(file, 1):
                content = line.removeprefix(_MARK) if number == 1 else line
                if content.strip():
                    yield number, content.rstrip(b"\r\n")
    except OSError as error:
        raise ConfigError(f"{what} {path} cannot be read: {error.strerror or error}") from error


def decode_text(content: bytes) -> str:
    """Decodes UTF-8, with a byte order mark or without.

    Args:
        content: UTF-8.

    Returns:
        The text without the mark.

    Raises:
        ValueError: If it is no UTF-8; the message begins with a verb.
    """
    try:
        return content.removeprefix(_MARK).decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"is no UTF-8{f' in line {line}' if line > 1 else ''}: {error}") from error


def decode_json(content: bytes | str) -> Any:
    """Decodes JSON.

    Args:
        content: JSON as text or as UTF-8.

    Returns:
        The value.

    Raises:
        ValueError: If it is no JSON, or a text in it holds half of a surrogate pair; the message begins with a verb.
    """
    text = decode_text(content) if isinstance(content, bytes) else content
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from error
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):04x}"
            raise ValueError(f"holds {half}, half of a surrogate pair, which is no character") from error
    return value


def _placed(decode: Callable[[Any], Any], content: bytes | str, where: str) -> Any:
    try:
        return decode(content)
    except ValueError as error:
        raise ConfigError(f"{where} {error}") from error


def read_lines(path: Path, what: str) -> list[tuple[str, str]]:
    """The lines of a text file that are not blank.

    Args:
        path: The file.
        what: Words for the file in error messages, for example ``the answers``.

    Returns:
        Each line with its place, ``file line 3``; at least one.

    Raises:
        ConfigError: If the file cannot be read, holds no line, or a line is no UTF-8.
    """
    placed = ((f"{path} line {number}", line) for number, line in numbered_lines(path, what))
    found = [(where, _placed(decode_text, line, where)) for where, line in placed]
    if not found:
        raise ConfigError(f"{what} {path} holds nothing")
    return found


def read_object(line: bytes | str, where: str) -> dict[str, Any]:
    """Decodes one line that holds a JSON object.

    Args:
        line: JSON.
        where: Its place, for error messages.

    Returns:
        The object.

    Raises:
        ConfigError: If it is none.
    """
    values = _placed(decode_json, line, where)
    if not isinstance(values, dict):
        raise ConfigError(f"{where} must hold a JSON object, not {type(values).__name__}")
    return values


MOST_BYTES = 16_000_000
"""Length of a JSON file that describes a run, a bundle or an adapter, which may come from a stranger."""


def read_json(path: Path, kind: type, most_bytes: int | None = None) -> Any:
    """Reads a JSON file that holds a list or an object.

    Args:
        path: The file.
        kind: ``list`` or ``dict``.
        most_bytes: Its length, at most; it must then be a regular file, because reading a pipe or a device might not end.

    Returns:
        The list or the object.

    Raises:
        ConfigError: If it cannot be read, is too long or nested too deeply, or holds something else.
    """
    place = path.expanduser()
    if most_bytes is not None and not place.is_file():
        raise ConfigError(f"there is no file {path}")
    try:
        with place.open("rb") as file:
            content = file.read(-1 if most_bytes is None else most_bytes + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    if most_bytes is not None and len(content) > most_bytes:
        raise ConfigError(f"{path} is longer than {most_bytes:,} bytes")
    value = _placed(decode_json, content, str(path))
    if not isinstance(value, kind):
        raise ConfigError(f"{path} must hold {'a list' if kind is list else 'an object'}, not {type(value).__name__}")
    return value


def read_records(path: Path, what: str) -> list[tuple[str, dict[str, Any]]]:
    """The objects of a JSON list, or of a file with one a line.

    Args:
        path: The file.
        what: Words for the file in error messages, for example ``the answers``.

    Returns:
        Each object with its place, ``file line 3`` or ``file record 3``; at least one.

    Raises:
        ConfigError: If the file cannot be read, or holds something else.
    """
    _, first = next(numbered_lines(path, what), (0, b""))
    if not first:
        raise ConfigError(f"{what} {path} holds nothing")
    if not first.lstrip().startswith(b"["):
        placed = ((f"{path} line {number}", line) for number, line in numbered_lines(path, what))
        return [(where, read_object(line, where)) for where, line in placed]
    values = read_json(path, list)
    if not values or not all(isinstance(value, dict) for value in values):
        raise ConfigError(f"{what} {path} must hold JSON objects")
    return [(f"{path} record {number}", value) for number, value in enumerate(values, 1)]


def json_line(record: Mapping[str, Any]) -> str:
    """Writes a record as one line of JSON that no reader splits.

    U+0085, U+2028 and U+2029 are escaped. Half of a surrogate pair, which UTF-8 cannot hold, becomes U+FFFD.

    Args:
        record: Values that JSON can hold.

    Returns:
        The line without its line break.
    """
    text = _BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(record, ensure_ascii=False)) + "\n"
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes a file of JSON lines, and its folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(map(json_line, records))


def write_json(path: Path, value: object) -> None:
    """Writes JSON so that readers see the old file or the new one, never half of it."""
    half = path.with_name(path.name + ".partial")
    try:
        with half.open("w", encoding="utf-8") as file:
            file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())  # else a power loss could leave the new name with nothing behind it
        half.replace(path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
