"""Arguments of commands that compose no configuration: words, and name=value."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read_arguments(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Parts the words from the options.

    Args:
        arguments: As they were typed.

    Returns:
        The words in order, among them any name of a file or folder that exists; and the options, whose values are numbers, booleans or null where they read as such.
    """
    words, options = [], {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if equals and name.isidentifier() and not Path(argument).exists():
            options[name] = _value(text)
        else:
            words.append(argument)
    return words, options


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) or value is None else text
