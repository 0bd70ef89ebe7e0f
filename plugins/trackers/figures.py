"""A configuration and a summary as flat names and values, the way trackers take them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted names with their values; lists and empty mappings stay as they are."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def final_figures(summary: Mapping[str, Any]) -> dict[str, float]:
    """What a summary says in numbers: its own, and every contestant's win rate with its interval.

    Args:
        summary: ``summary.json``.
    """
    found = {
        f"summary/{name}": float(value)
        for name, value in flat(
            {key: value for key, value in summary.items() if key not in ("version", "versions", "judge")}
        )
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    for row in summary.get("results") or ():
        for name in ("win_rate", "low", "high"):
            if row.get(name) is not None:
                found[f"evaluation/{row['contestant']}/{row['baseline']}/{name}"] = float(row[name])
    return found
