"""The results of an evaluation as TensorBoard's scalars, beside the curves of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_scalars(folder: Path, rows: Sequence[Mapping[str, Any]], step: int) -> bool:
    """Adds ``evaluation/win_rate/<contestant>``, with ``low`` and ``high`` likewise.

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
