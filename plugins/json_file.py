"""JSON files that are whole at every moment."""

from __future__ import annotations

import json
import os
from pathlib import Path


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
