"""What every benchmark shares: its arguments, its last line and its result file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from duologue.core.files import write_json
from duologue.run.run_folder import versions

RESULTS = Path(__file__).with_name("results")


def arguments(description: str) -> argparse.Namespace:
    """Reads the command line; ``--quick`` ends within 50 s on two cores and writes no result file."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a small version that shows that the script works")
    return parser.parse_args()


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """The median of the rounds' values as ``name``; where there are several, also ``name_min`` and ``name_max``."""
    figures = {name: statistics.median(values)}
    if len(values) > 1:
        figures |= {f"{name}_min": min(values), f"{name}_max": max(values)}
    return figures


def rounded(figure: Any) -> Any:
    """Four significant digits, which is more than any of these measurements holds."""
    return float(f"{figure:.4g}") if isinstance(figure, float) else figure


def progress(text: str) -> None:
    """Says on standard error how far the script is; standard output ends with the report."""
    print(text, file=sys.stderr, flush=True)


def report(
    name: str,
    figures: Mapping[str, Any],
    bars: Mapping[str, float],
    *,
    quick: bool,
    notes: Sequence[str] = (),
    others: Mapping[str, str] | None = None,
    explained: Mapping[str, str] | None = None,
) -> None:
    """Prints the last line and, for a full run, writes ``benchmarks/results/<name>.json``.

    Args:
        name: The benchmark.
        figures: What was measured; None where it could not be. A name ``table/row/column`` is shown as a cell of that
            table, with ``name_min`` and ``name_max`` beside it where they are there too.
        bars: Figure to the least that it must reach; a name that starts with ``max_`` bounds the figure of that name
            without the prefix from above.
        quick: Whether this was the small version, which is held to no bar.
        notes: What a reader must know of this run, such as why a figure is None.
        others: Versions of what Duologue is compared with, by package.
        explained: Bars that are missed for a reason that is understood, and the reason.
    """
    missed = {
        bar: (explained or {}).get(bar, "not explained")
        for bar, limit in bars.items()
        if not _met(figures.get(bar.removeprefix("max_")), limit, bar.startswith("max_"))
    }
    line = {
        "name": name,
        "figures": {key: rounded(value) for key, value in figures.items()},
        "bars": dict(bars),
        "ok": bool(quick or not missed),
    }
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        extra = {
            "command": f"python benchmarks/{Path(sys.argv[0]).name}",
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
            "versions": {**versions(), **(others or {})},
            **({"notes": list(notes)} if notes else {}),
            **({"missed": missed} if missed else {}),
        }
        write_json(RESULTS / f"{name}.json", {**line, **extra})
    for note in notes:
        progress(note)
    for bar, reason in ({} if quick else missed).items():
        progress(f"{bar} is missed: {reason}")
    print(json.dumps(line), flush=True)
    sys.exit(0 if line["ok"] else 1)


def _met(figure: float | None, limit: float, most: bool) -> bool:
    """Whether a figure keeps its bar; one that is missing does not."""
    return figure is not None and (figure <= limit if most else figure >= limit)
