"""JSON files: written whole or not at all, and read as if a stranger had written them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec

MOST_BYTES = 16_000_000
"""Length of a JSON file that describes a run, a bundle or an adapter."""


def write_json(path: Path, value: object) -> None:
    """Writes JSON so that readers see the old file or the new one, never half of it."""
    half = path.with_name(path.name + ".partial")
    with half.open("w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())  # else a power loss could leave the new name with nothing behind it
    half.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a file that holds one JSON object.

    Raises:
        ValueError: If it is no regular file, too long, nested too deeply or no JSON object.
    """
    if not path.is_file():  # reading a pipe or a device would not end
        raise ValueError(f"there is no file {path.name}")
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise ValueError(f"{path.name} is longer than {MOST_BYTES:,} bytes")
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (OSError, RecursionError, msgspec.MsgspecError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error
