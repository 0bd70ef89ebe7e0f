"""The curves of a training, as lines that a page can draw without a library."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

_TITLES = {"rollout/ep_rew_mean": "reward per episode", "validation/win_rate": "win rate in validation"}


def curves(path: Path, width: int = 320, height: int = 110) -> list[dict[str, Any]]:
    """The curves as points of SVG lines: reward, win rate in validation, and every judge's raw score.

    Args:
        path: ``progress.csv``; there are no curves if it is not there.
        width: Of a drawing.
        height: Of a drawing.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    found = []
    names = sorted(name for name in (table[0] if table else ()) if name.startswith("reward/"))
    for name in ["rollout/ep_rew_mean", "validation/win_rate", *names]:
        values = [float(row[name]) for row in table if row.get(name)]
        if len(values) < 2:
            continue
        low, high = min(values), max(values)
        span = (high - low) or 1.0
        points = [
            f"{4 + i * (width - 8) / (len(values) - 1):.1f},{height - 6 - (value - low) / span * (height - 12):.1f}"
            for i, value in enumerate(values)
        ]
        title = _TITLES.get(name, f"{name.removeprefix('reward/')}, raw score")
        ends = {"first": values[0], "last": values[-1], "low": low, "high": high}
        found.append({"title": title, "points": " ".join(points), "width": width, "height": height, **ends})
    return found
