"""A run's report: one HTML page that asks nobody for anything, and the same table in Markdown.

duologue report runs/run/latest
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from ..inference.errors import ConfigError
from .battles import Battles
from .leaderboard import Comparison, Record, Row, comparisons, leaderboard, score
from .length_control import Controlled
from .ratings import NotConnected, Rating, rate
from .statistics import WinRate
from .table import headline

PAGE, TABLE = "report.html", "report.md"
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
    """Writes ``report.html`` and ``report.md`` beside the matches that they are made from.

    Args:
        folder: A run folder with ``summary.json`` and ``matches.jsonl``.

    Returns:
        The page's path.

    Raises:
        ConfigError: If a file is missing or cannot be read.
    """
    summary, records = _read(folder / "summary.json"), _records(folder / "matches.jsonl")
    rows = leaderboard(records)
    boards: dict[str, list[Row]] = {}
    for row in rows:
        boards.setdefault(row.baseline, []).append(row)
    first = next(iter(boards))
    found = comparisons([record for record in records if record["baseline"] == first], POLICY)
    ratings = rated(records) if len(boards) > 1 else []
    headed = headline([_plain(row) for row in rows])
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "number": number}
    template = environment.from_string((resources.files(__package__) / "report.html.jinja").read_text(encoding="utf-8"))
    page = template.render(
        title=f"{summary.get('command', 'evaluation')} {folder.resolve().name}",
        headline=headed,
        summary=summary,
        boards=boards,
        every=rows,
        ratings=ratings,
        matrix=win_matrix(rows),
        comparisons=found,
        policy=POLICY,
        curves=curves(folder / "progress.csv"),
        alarms=summary.get("alarms", []),
        failed=any(row.failures for row in rows),
        ordered=any(row.consistency for row in rows),
        data=embedded([_shown(record) for record in records]),
    )
    (folder / TABLE).write_text(markdown(headed, boards, found), encoding="utf-8")
    path = folder / PAGE
    path.write_text(page, encoding="utf-8")
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}): give the folder of `duologue run` or `evaluate`"
        ) from error
    return dict(content)


def _records(path: Path) -> list[Record]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): a report needs an evaluation's matches") from error
    if not records:
        raise ConfigError(f"{path} holds no match")
    return records


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


def curves(path: Path, width: int = 320, height: int = 110) -> list[dict[str, Any]]:
    """The training's curves as points of SVG lines: the reward and every judge's raw score by rollout.

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
    for name in ["rollout/ep_rew_mean", *names]:
        values = [float(row[name]) for row in table if row.get(name)]
        if len(values) < 2:
            continue
        low, high = min(values), max(values)
        span = (high - low) or 1.0
        points = [
            f"{4 + i * (width - 8) / (len(values) - 1):.1f},{height - 6 - (value - low) / span * (height - 12):.1f}"
            for i, value in enumerate(values)
        ]
        title = "reward per episode" if name.startswith("rollout/") else f"{name.removeprefix('reward/')}, raw score"
        ends = {"first": values[0], "last": values[-1], "low": low, "high": high}
        found.append({"title": title, "points": " ".join(points), "width": width, "height": height, **ends})
    return found


def markdown(headed: str, boards: Mapping[str, Sequence[Row]], found: Sequence[Comparison]) -> str:
    """The headline and the tables."""
    lines = [headed]
    for base, rows in boards.items():
        lines += ["", f"# Win rate against {_cell(base)}, judged by {_cell(rows[0].judge)}", ""]
        lines += ["| contestant | win rate (95% interval) | length-controlled (95%) | wins | ties | losses | failed |"]
        lines += ["|---|---|---|---|---|---|---|"]
        for row in rows:
            rate = "none" if row.rate is None else _interval(row.rate)
            controlled = "" if row.controlled is None else _interval(row.controlled)
            counts = f"{row.wins} | {row.ties} | {row.losses} | {row.failures}"
            lines.append(f"| {_cell(row.contestant)} | {rate} | {controlled} | {counts} |")
    if found:
        lines += [
            "",
            f"| {POLICY} against | difference (95% interval) | p, corrected | prompts needed |",
            "|---|---|---|---|",
        ]
        for one in found:
            d = one.found
            lines.append(
                f"| {_cell(one.other)} | {d.difference:+.3f} ({d.low:+.3f} to {d.high:+.3f}) | {one.corrected:.3g} | "
                f"{number(one.prompts)} |"
            )
    return "\n".join([*lines, ""])


def _interval(found: WinRate | Controlled) -> str:
    return f"{found.rate:.3f} ({found.low:.3f} to {found.high:.3f})"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
