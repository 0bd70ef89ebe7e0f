"""What every benchmark shares: its arguments, its last line and its result file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duologue.plugins.run_folder import versions, write_json

RESULTS = Path(__file__).with_name("results")


def arguments(description: str) -> argparse.Namespace:
    """Reads the command line; ``--quick`` ends within 50 s on two cores and writes no result file."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a small version that shows that the script works")
    return parser.parse_args()


def report(name: str, figures: Mapping[str, Any], bars: Mapping[str, float], *, quick: bool) -> None:
    """Prints the last line and, for a full run, writes ``benchmarks/results/<name>.json``.

    Args:
        name: The benchmark.
        figures: What was measured.
        bars: Figure to the least that it must reach; a name that starts with ``max_`` bounds the figure of that name
            without the prefix from above.
        quick: Whether this was the small version, which is held to no bar.
    """
    met = all(
        figures[bar.removeprefix("max_")] <= limit if bar.startswith("max_") else figures[bar] >= limit
        for bar, limit in bars.items()
    )
    line = {"name": name, "figures": dict(figures), "bars": dict(bars), "ok": bool(met or quick)}
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        machine = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
        command = f"python benchmarks/{Path(sys.argv[0]).name}"
        write_json(RESULTS / f"{name}.json", {**line, "command": command, "machine": machine, "versions": versions()})
    print(json.dumps(line), flush=True)
    sys.exit(0 if line["ok"] else 1)
