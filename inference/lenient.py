"""Reads values of a server's JSON in whatever shape they come: what a person could read is read, the rest is unknown."""

from __future__ import annotations

import json
import math
from typing import Any

_LOWEST_LOGPROB = -9999.0
"""In place of minus infinity, which JSON does not have; vLLM's convention."""

_TEXT_KEYS = ("text", "content", "value", "thinking", "reasoning", "summary")
"""Where an object that stands for a text holds it."""

_NAME_KEYS = ("type", "reason", "name", "value")
"""Where an object that stands for a name holds it."""


def parsed(body: bytes) -> Any:
    """Parses JSON, with NaN, infinities, lone surrogates and a byte order mark, which strict decoders refuse.

    Raises:
        ValueError: If it is no JSON, is not UTF-8, or is nested too deeply.
    """
    try:
        return json.loads(body.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def mended(text: str) -> str:
    """The text with U+FFFD in place of lone surrogates, which no UTF-8 can hold."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def mend(value: Any) -> Any:
    """JSON values with every text `mended`."""
    match value:
        case str():
            return mended(value)
        case dict():
            return {mend(key): mend(entry) for key, entry in value.items()}
        case list() | tuple():
            return [mend(entry) for entry in value]
        case _:
            return value


def whole(value: Any) -> int | None:
    """A whole number, also as ``7.0`` or ``"7"``; None for anything else."""
    match value:
        case bool():
            return None
        case int():
            return value
        case float():
            return int(value) if value.is_integer() else None
        case str() if value.isascii() and value.isdigit() and len(value) < 20:
            return int(value)
        case _:
            return None


def logprob(value: Any) -> float | None:
    """A log probability; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    if number == -math.inf:
        return _LOWEST_LOGPROB
    return number if math.isfinite(number) else None


def text_of(value: Any) -> str:
    """The text of a value: itself, that of its parts, or that which an object holds; empty if there is none."""
    match value:
        case str():
            return mended(value)
        case list():
            return "".join(map(text_of, value))
        case dict():
            return next((text_of(value[key]) for key in _TEXT_KEYS if value.get(key)), "")
        case _:
            return ""


def name_of(value: Any) -> str | None:
    """A name: itself, or that which an object holds; None if there is none."""
    match value:
        case str():
            return mended(value)
        case dict():
            return next((name_of(value[key]) for key in _NAME_KEYS if isinstance(value.get(key), str)), None)
        case _:
            return None
