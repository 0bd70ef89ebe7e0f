"""A run's report: one HTML page that asks nobody for anything, the same in Markdown and JSON, and the leaderboard as a picture.

duologue report runs/run/latest
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from ..inference.errors import ConfigError
from ..inference.records import read_json, read_records
from ..plugins.places import MATCHES, SUMMARY
from ..plugins.progress import PROGRESS
from .battles import Battles
from .judge_health import judge_health
from .leaderboard import Record, Row, comparisons, leaderboard, score
from .markdown import markdown
from .plots import draw_boards
from .ratings import NotConnected, Rating, rate
from .table import headline
from .training_curves import curves

PAGE, TABLE, FIGURES, PICTURES = "report.html", "report.md", "report.json", ("report.svg", "report.png")
"""Their places in the run folder."""

POLICY = "trained policy"


def run(arguments: Sequence[str]) -> None:
    """Writes the report of a run folder.

    Args:
        arguments: The folder.

    Raises:
        ConfigError: If there is not one argument, or the folder holds no evaluation.
    """
    if len(arguments) != 1:
        raise ConfigError("`duologue report FOLDER` takes one run folder, such as `duologue report runs/run/latest`")
    print(write_report(Path(arguments[0])))  # noqa: T201


def write_report(folder: Path) -> Path:
    """Writes ``report.html``, ``.md`` and ``.json`` beside the matches that they are made from.

    Where Matplotlib is installed also ``report.svg`` and ``report.png``.

    Args:
        folder: A run folder with ``summary.json`` and ``matches.jsonl``.

    Returns:
        The page's path.

    Raises:
        ConfigError: If a file is missing or cannot be read.
    """
    summary, records = _read(folder / SUMMARY), read_matches(folder / MATCHES)
    rows = leaderboard(records)
    boards: dict[str, list[Row]] = {}
    for row in rows:
        boards.setdefault(row.baseline, []).append(row)
    first = next(iter(boards))
    found = comparisons([record for record in records if record["baseline"] == first], POLICY)
    ratings = rated(records) if len(boards) > 1 else []
    headed = headline([_plain(row) for row in rows])
    health = judge_health(records, summary)
    page = _template().render(
        title=f"{summary.get('command', 'evaluation')} {folder.resolve().name}",
        headline=headed,
        summary=summary,
        boards=boards,
        every=rows,
        ratings=ratings,
        matrix=win_matrix(rows),
        comparisons=found,
        policy=POLICY,
        curves=curves(folder / PROGRESS),
        alarms=summary.get("alarms", []),
        failed=any(row.failures for row in rows),
        ordered=any(row.consistency for row in rows),
        health=health,
        data=embedded([_shown(record) for record in records]),
    )
    (folder / TABLE).write_text(markdown(headed, boards, found, health, POLICY), encoding="utf-8")
    figures = {
        "version": 1,
        "headline": headed,
        "leaderboard": [asdict(row) for row in rows],
        "comparisons": [{"policy": POLICY, **asdict(one)} for one in found],
        "ratings": [asdict(one) for one in ratings],
        "judge": asdict(health),
    }
    (folder / FIGURES).write_text(as_json(figures), encoding="utf-8")
    draw_boards(boards, [folder / name for name in PICTURES])
    path = folder / PAGE
    path.write_text(page, encoding="utf-8")
    return path


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "number": number}
    return environment.from_string((resources.files(__package__) / "report.html.jinja").read_text(encoding="utf-8"))


def as_json(value: Any) -> str:
    """JSON as every reader takes it: what is no number is null."""

    def known(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: known(entry) for name, entry in part.items()}
        if isinstance(part, list | tuple | np.ndarray):
            return [known(entry) for entry in part]
        if isinstance(part, float) and not math.isfinite(part):
            return None
        return part.item() if isinstance(part, np.generic) else part

    return json.dumps(known(value), indent=2, ensure_ascii=False) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path, dict))
    except ConfigError as error:
        raise ConfigError(f"{error}: give the folder of `duologue run` or `evaluate`") from error


def read_matches(path: Path) -> list[Record]:
    """The lines of ``matches.jsonl``.

    Raises:
        ConfigError: If it cannot be read, or holds none.
    """
    return [record for _, record in read_records(path, "the evaluation's matches")]


def _plain(row: Row) -> dict[str, Any]:
    """What `headline` asks for."""
    rate = row.rate
    known: dict[str, Any] = {"win_rate": None, "low": None, "high": None, "n": 0}
    if rate is not None:
        known = {"win_rate": rate.rate, "low": rate.low, "high": rate.high, "n": rate.n}
    return {"contestant": row.contestant, "baseline": row.baseline, **known}


def _shown(record: Record) -> dict[str, Any]:
    """What the page's browser of matches shows of one."""
    messages = record["messages"] or []
    return {
        "s": record["scenario"],
        "c": record["contestant"],
        "b": record["baseline"],
        "o": record["outcome"] or "failed",
        "m": [[message["role"], message["content"]] for message in messages],
        "n": [[message["role"], message["content"]] for message in record.get("baseline_messages") or []],
        "x": record["reply"],
        "y": record["baseline_reply"],
        "a": ", ".join(record["actions"] or ()),
        "v": record["scores"],
        "r": record["orders"],
        "k": record["consistent"],
        "f": record["failure"],
        "j": record.get("rationales") or [],
    }


def embedded(value: object) -> str:
    """JSON that can stand in a script element: no text in it can end the element, or be taken for markup."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def percent(value: float | None) -> str:
    """A share with one decimal."""
    return "none" if value is None or math.isnan(value) else f"{value:.1%}"


def number(value: float | None) -> str:
    """Three significant digits, thousands apart."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"


def rated(records: Sequence[Record]) -> list[Rating]:
    """Bradley-Terry ratings of all who met; empty where the matches do not tell how groups compare."""
    decided = [record for record in records if not record["failure"]]
    first, second = ([record[side] for record in decided] for side in ("contestant", "baseline"))
    try:
        scores = [score(record) for record in decided]
        return rate(Battles.of(first, second, scores, [record["scenario"] for record in decided]))
    except NotConnected:
        return []


def win_matrix(rows: Sequence[Row]) -> dict[tuple[str, str], float]:
    """The win rate of each contestant against each other that it met."""
    matrix = {(row.contestant, row.baseline): row.rate.rate for row in rows if row.rate is not None}
    return {(b, a): 1 - rate for (a, b), rate in matrix.items()} | matrix
