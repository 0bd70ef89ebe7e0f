"""The learning curves of a run: ``progress.csv`` and TensorBoard's files, which outlive a run that is killed."""

from __future__ import annotations

import math
from pathlib import Path

from stable_baselines3.common.logger import CSVOutputFormat, Logger, TensorBoardOutputFormat

from ..plugins.progress import PROGRESS, STEP, read_progress


def open_curves(folder: Path, timesteps: int) -> Logger:
    """A logger that keeps the rows of ``progress.csv`` up to so many timesteps; later ones will be written again.

    Args:
        folder: The run folder.
        timesteps: Where the run goes on; 0 for a new one.
    """
    path, part = folder / PROGRESS, folder / f"{PROGRESS}.part"
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_progress(path) if timesteps else []
    table = CSVOutputFormat(str(part))
    for row in rows:
        if row.get(STEP, math.inf) <= timesteps:
            table.write(row, dict.fromkeys(row, ()))
    part.replace(path)  # at once, so that the rows are there at every moment; the open file goes along
    return Logger(str(folder), [table, TensorBoardOutputFormat(str(folder))])
