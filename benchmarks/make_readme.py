"""Makes benchmarks/README.md from the result files, so that no figure is typed by hand.

python benchmarks/make_readme.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
INTRODUCTION = """\
# Benchmarks

A script per claim. `python benchmarks/<name>.py` runs one in full and writes `results/<name>.json`; `--quick` ends within
50 s and only shows that the script works. `make bench` runs all of them, then makes this page from the result files.
"""


def main() -> None:
    """Writes one section per result file."""
    results = [json.loads(path.read_text()) for path in sorted((HERE / "results").glob("*.json"))]
    (HERE / "README.md").write_text("\n".join([INTRODUCTION, *map(section, results)]))


def section(result: dict[str, Any]) -> str:
    """A table of the figures, each beside its bar."""
    lines = [f"## {result['name']}", "", purpose(result["name"]), "", "| figure | value | bar |", "|---|---|---|"]
    for name, value in result["figures"].items():
        least, most = result["bars"].get(name), result["bars"].get(f"max_{name}")
        bar = f"at least {least}" if least is not None else f"at most {most}" if most is not None else ""
        shown = ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
        lines.append(f"| {name} | {shown} | {bar} |")
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines += ["", f"`{result['command']}` on {result['machine']}; {versions}.", ""]
    return "\n".join(lines)


def purpose(name: str) -> str:
    """The first paragraphs of the script's docstring, up to its commands."""
    text = (HERE / f"{name}.py").read_text().split('"""')[1].strip()
    return text.split("\n\npython ")[0].split("\n\n    python ")[0]


if __name__ == "__main__":
    main()
