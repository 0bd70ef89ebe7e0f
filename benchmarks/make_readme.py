"""Makes benchmarks/README.md from the result files, so that no figure is typed by hand.

python benchmarks/make_readme.py
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
INTRODUCTION = """\
# Benchmarks

A script per claim. `python benchmarks/<name>.py` runs one in full and writes `results/<name>.json`; `--quick` ends within
50 s and only shows that the script works. `make bench` runs all of them, then makes this page from the result files.
Everything that is compared was measured in one run of one script on one machine, the contenders' rounds interleaved; a
figure is the median of its rounds, with the least and the most in brackets. Read ratios rather than times: the machine is
shared. Bars are what a figure is held to.
"""


def main() -> None:
    """Writes one section per result file."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((HERE / "results").glob("*.json"))]
    (HERE / "README.md").write_text("\n".join([INTRODUCTION, *map(section, results)]), encoding="utf-8")


def section(result: dict[str, Any]) -> str:
    """A table of the plain figures, each beside its bar, then one table per group of figures ``table/row/column``."""
    figures = {name: value for name, value in result["figures"].items() if not _is_spread(name, result["figures"])}
    plain = [name for name in figures if name.count("/") != 2]
    lines = [f"## {result['name']}", "", purpose(result["name"])]
    if plain:
        lines += ["", "| figure | value | bar |", "|---|---|---|"]
        lines += [f"| {name} | {_cell(result['figures'], name)} | {_bar(result['bars'], name)} |" for name in plain]
    for title in dict.fromkeys(name.split("/")[0] for name in figures if name.count("/") == 2):
        lines += ["", *_table(title, figures, result["figures"])]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    for note in result.get("notes", ()):
        lines += ["", note]
    for bar, reason in result.get("missed", {}).items():
        lines += ["", f"**Missed:** `{bar.removeprefix('max_')}`. {reason}"]
    lines += ["", f"`{result['command']}` on {result['machine']}; {versions}.", ""]
    return "\n".join(lines)


def _table(title: str, figures: dict[str, Any], every: dict[str, Any]) -> list[str]:
    """Rows and columns in the order in which they first occur; a cell that was not measured stays empty."""
    cells = [name.split("/")[1:] for name in figures if name.count("/") == 2 and name.startswith(f"{title}/")]
    rows, columns = (list(dict.fromkeys(parts)) for parts in zip(*cells, strict=True))
    lines = [f"| {title} | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    for row in rows:
        values = [_cell(every, name) if (name := f"{title}/{row}/{c}") in figures else "" for c in columns]
        lines.append(f"| {row} | {' | '.join(values)} |")
    return lines


def _cell(figures: dict[str, Any], name: str) -> str:
    """The value, and behind it the range over the rounds where there is one."""
    value = figures[name]
    shown = ", ".join(map(number, value)) if isinstance(value, list) else number(value)
    if f"{name}_min" in figures and f"{name}_max" in figures:
        return f"{shown} [{number(figures[f'{name}_min'])} to {number(figures[f'{name}_max'])}]"
    return shown


def _bar(bars: dict[str, float], name: str) -> str:
    if name in bars:
        return f"at least {bars[name]}"
    return f"at most {bars[f'max_{name}']}" if f"max_{name}" in bars else ""


def _is_spread(name: str, figures: dict[str, Any]) -> bool:
    """Whether a figure is the end of another's range and is shown beside it."""
    return name.endswith(("_min", "_max")) and name[:-4] in figures


def number(value: Any) -> str:
    """Three significant digits without an exponent; whole numbers as they are."""
    if value is None:
        return "not measured"
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{round(value, digits):.{max(digits, 0)}f}"


def purpose(name: str) -> str:
    """The first paragraphs of the script's docstring, up to its commands."""
    text = (HERE / f"{name}.py").read_text(encoding="utf-8").split('"""')[1].strip()
    return text.split("\n\npython ")[0].split("\n\n    python ")[0]


if __name__ == "__main__":
    main()
