"""The learning curves of a run: ``progress.csv`` and TensorBoard's files, which outlive a run that is killed."""

from __future__ import annotations

import csv
import math
from contextlib import suppress
from pathlib import Path

from stable_baselines3.common.logger import CSVOutputFormat, Logger, TensorBoardOutputFormat


def open_curves(folder: Path, timesteps: int) -> Logger:
    """A logger that keeps the rows of ``progress.csv`` up to so many timesteps; later ones will be written again.

    Args:
        folder: The run folder.
        timesteps: Where the run goes on; 0 for a new one.
    """
    path, part = folder / "progress.csv", folder / "progress.csv.part"
    folder.mkdir(parents=True, exist_ok=True)
    rows = _rows(path) if timesteps and path.exists() else []
    table = CSVOutputFormat(str(part))
    for row in rows:
        if row.get("time/total_timesteps", math.inf) <= timesteps:
            table.write(row, dict.fromkeys(row, ()))
    part.replace(path)  # at once, so that the rows are there at every moment; the open file goes along
    return Logger(str(folder), [table, TensorBoardOutputFormat(str(folder))])


def _rows(path: Path) -> list[dict[str, float]]:
    """The rows that were written whole: of a killed run the last one may be cut."""
    text = path.read_text(encoding="utf-8")
    rows = []
    for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines()):
        with suppress(TypeError, ValueError):
            rows.append({name: _number(value) for name, value in row.items() if value})
    return rows


def _number(text: str) -> float:
    """A whole number stays one, so that it is written as it was."""
    return int(text) if text.lstrip("-").isdigit() else float(text)
