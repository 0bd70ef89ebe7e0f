"""Results as TensorBoard scalars, and training curves as lines of an SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.run_files import STEP, read_progress


def write_scalars(folder: Path, rows: Sequence[Mapping[str, Any]], step: int) -> bool:
    """Writes ``evaluation/win_rate/<contestant>``, and the same for ``low`` and ``high``.

    Args:
        folder: The run folder.
        rows: ``results`` of ``summary.json``; those without a figure are left out.
        step: The turns that the policy has learnt from; 0 where nothing was trained.

    Returns:
        False where TensorBoard is not installed: nothing is written then.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ModuleNotFoundError:
        return False
    several = len({row["baseline"] for row in rows}) > 1
    values = [
        Summary.Value(tag=f"evaluation/{name}/{_tag(row, several)}", simple_value=row[name])
        for row in rows
        for name in ("win_rate", "low", "high")
        if row[name] is not None
    ]
    writer = EventFileWriter(str(folder), filename_suffix=".evaluation")
    writer.add_event(Event(step=step, summary=Summary(value=values)))
    writer.close()
    return True


def _tag(row: Mapping[str, Any], several: bool) -> str:
    name = " ".join(f"{row['contestant']} against {row['baseline']}".split()) if several else row["contestant"]
    return str(name).replace("/", "-")


_TITLES = {"rollout/ep_rew_mean": "reward per episode", "validation/win_rate": "win rate in validation"}


def curves(path: Path, width: int = 320, height: int = 110) -> list[dict[str, Any]]:
    """Draws the training curves: reward, validation win rate and every judge's raw score over turns.

    Args:
        path: ``progress.csv``; there are no curves if it is not there.
        width: Width of a drawing, in pixels.
        height: Height of a drawing, in pixels.

    Returns:
        One mapping per curve, for the report's template.
    """
    table = read_progress(path)
    found = []
    names = sorted({name for row in table for name in row if name.startswith("reward/")})
    for name in ["rollout/ep_rew_mean", "validation/win_rate", *names]:
        known = [(row.get(STEP, number), row[name]) for number, row in enumerate(table) if name in row]
        if len(known) < 2:
            continue
        steps, values = zip(*sorted(known, key=lambda one: one[0]), strict=True)
        width_of = (steps[-1] - steps[0]) or 1
        low, high = min(values), max(values)
        span = (high - low) or 1.0
        points = [
            f"{4 + (step - steps[0]) / width_of * (width - 8):.1f},{height - 6 - (value - low) / span * (height - 12):.1f}"
            for step, value in zip(steps, values, strict=True)
        ]
        title = _TITLES.get(name, f"{name.removeprefix('reward/')}, raw score")
        ends = {"first": values[0], "last": values[-1], "low": low, "high": high}
        found.append({"title": title, "points": " ".join(points), "width": width, "height": height, **ends})
    return found
