"""How long a report with 10,000 matches takes to open in a browser.

The matches have dialogues of two turns and replies of 60 words; the page is opened in Debian's chromium, headless, five times
in a fresh profile each. Counted is the time from the start of the navigation to the end of the load event, when all is there
and can be filtered; and the time of a search through all matches, typed at once.

    python benchmarks/report_open.py
    python benchmarks/report_open.py --quick
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import arguments, progress, report, spread
from selenium import webdriver

from duologue.evaluation.report.report import write_report

BARS = {"max_open_s": 3.0}
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "it",
    "you",
    "that",
    "he",
    "was",
    "for",
    "on",
    "are",
    "with",
    "as",
    "his",
    "they",
    "be",
    "at",
    "one",
    "have",
    "this",
    "from",
]


def main() -> None:
    """Writes a report and opens it."""
    quick = arguments(__doc__ or "").quick
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, 1_000 if quick else 10_000)
        began = time.perf_counter()
        page = write_report(folder)
        written = time.perf_counter() - began
        rounds = [opened(page) for _ in range(1 if quick else 5)]
    for one in rounds:
        progress(f"opened in {one[0]:.2f} s, searched in {one[1]:.2f} s")
    figures = spread("open_s", [one[0] for one in rounds]) | spread("search_s", [one[1] for one in rounds])
    report("report_open", {**figures, "write_s": written}, BARS, quick=quick)


def fill(folder: Path, matches: int) -> None:
    """A run folder with so many matches of ten contestants."""
    rng = np.random.default_rng(0)
    with (folder / "matches.jsonl").open("w", encoding="utf-8") as file:
        for i in range(matches):
            file.write(json.dumps(match(i, rng)) + "\n")
    counts = {"requests": {"paid": 0, "reused": 0, "failed": 0}, "tokens": {"prompt": 0, "completion": 0}}
    summary = {"command": "run", "status": "done", "seed": 0, "wall_s": 1.0, "cost_usd": 0.0, **counts}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def match(i: int, rng: np.random.Generator) -> dict[str, Any]:
    """One line of ``matches.jsonl``."""
    said = [" ".join(rng.choice(WORDS, 60)) for _ in range(4)]
    point = float(rng.choice([0.0, 0.5, 1.0]))
    roles = ("user", "assistant", "user")
    return {
        "scenario": f"prompt {i // 10}",
        "repeat": 0,
        "contestant": f"contestant {i % 10}",
        "baseline": "plain model",
        "baseline_repeat": 0,
        "judge": "chrf",
        "messages": [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)],
        "reply": said[3],
        "baseline_reply": said[0],
        "actions": ["candidate 1"],
        "scores": [0.5, 0.4],
        "orders": [point, point],
        "outcome": {0.0: "loss", 0.5: "tie", 1.0: "win"}[point],
        "consistent": True,
        "failure": None,
        "rationales": [],
    }


def opened(page: Path) -> tuple[float, float]:
    """The seconds until the page is loaded, and those of a search."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.get(page.as_uri())
        timing = driver.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd")
        searched = driver.execute_script(
            "const begun = performance.now(), e = document.getElementById('search'); e.value = 'the of and';"
            "e.dispatchEvent(new Event('input')); document.body.getBoundingClientRect(); return performance.now() - begun"
        )
    finally:
        driver.quit()
    return timing / 1000, searched / 1000


if __name__ == "__main__":
    main()
