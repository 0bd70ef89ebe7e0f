"""Names of the files in a run folder, and the rows of ``progress.csv``. docs/run-folder.md describes all of them."""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path

CONFIG = "config.json"
"""The resolved configuration."""

SUMMARY = "summary.json"
"""What became of the run."""

MATCHES = "matches.jsonl"
"""The matches of an evaluation, one a line."""

LOCK = "run.lock"
"""Held by the process that writes to the folder; it names that process."""


PROGRESS = "progress.csv"
"""Its place in the run folder."""

STEP = "time/total_timesteps"
"""The column with the turns that a row stands after."""


def read_progress(path: Path) -> list[dict[str, float]]:
    """Reads the complete rows of ``progress.csv``; the last row of a killed run may be cut off.

    Args:
        path: The file; there are no rows if it is not there.

    Returns:
        One mapping from column to number per row, without empty cells.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    rows = []
    with suppress(csv.Error):
        for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines()):
            with suppress(TypeError, ValueError, AttributeError):  # no number, or more of them than columns
                rows.append({name: _number(value) for name, value in row.items() if value})
    return rows


def _number(text: str) -> float:
    """Reads a number; a whole number stays an int, so that it is written unchanged."""
    return int(text) if text.lstrip("-").isdigit() else float(text)
