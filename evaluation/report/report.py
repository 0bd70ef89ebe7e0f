"""The report of a run: a self-contained HTML page, Markdown, JSON, and the leaderboard as a picture.

duologue report runs/run/latest
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import jinja2
import msgspec
import numpy as np
from markupsafe import Markup, escape

from ...core.errors import ConfigError, near_miss
from ...core.files import read_json, read_records
from ...core.run_files import MATCHES, PROGRESS, SUMMARY
from ..stats.length_control import Anchor
from ..stats.ratings import Battles, NotConnected, Rating, rate
from .curves import curves
from .judge_health import judge_health
from .leaderboard import Record, Row, comparisons, leaderboard, score
from .plots import draw_boards
from .tables import headline, markdown

PAGE, TABLE, FIGURES, PICTURES = "report.html", "report.md", "report.json", ("report.svg", "report.png")
"""Their places in the run folder."""

ANCHOR = "anchor.jsonl"
"""Observations of AlpacaEval's length control that are not of the run: see `Anchor`."""

POLICY = "trained policy"


def write_report(folder: Path, beside: str | None = None) -> Path:
    """Writes ``report.html``, ``.md`` and ``.json`` beside the matches that they are made from.

    Where Matplotlib is installed also ``report.svg`` and ``report.png``.

    Args:
        folder: A run folder with ``summary.json`` and ``matches.jsonl``.
        beside: The contestant that is compared with each of the others on the same prompts; by default the trained policy,
            or, where none played, the best one.

    Returns:
        The page's path.

    Raises:
        ConfigError: If a file is missing or cannot be read, or there is no such contestant.
    """
    summary, records = _read(folder / SUMMARY), read_matches(folder / MATCHES)
    try:
        msgspec.convert(summary, _Summary)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{folder / SUMMARY} is no summary of a run: {error}") from error
    rows = leaderboard(records, _anchor(folder / ANCHOR))
    boards: dict[str, list[Row]] = {}
    for row in rows:
        boards.setdefault(row.baseline, []).append(row)
    own = _beside(rows, beside)
    found = comparisons([record for record in records if record["baseline"] == own.baseline], own.contestant)
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
        policy=own.contestant,
        curves=curves(folder / PROGRESS),
        alarms=summary.get("alarms", []),
        failed=any(row.failures for row in rows),
        ordered=any(row.consistency for row in rows),
        like_alpaca_eval=any((record.get("source") or {}).get("difficulty") is not None for record in records),
        graded=any(order not in (0, 0.5, 1) for record in records for order in record["orders"]),
        health=health,
        data=embedded(_browsed(records)),
    )
    for name in (TABLE, FIGURES, PAGE, *PICTURES):
        if (folder / name).is_symlink():  # a folder from somebody else must not choose what is written over
            (folder / name).unlink()
    (folder / TABLE).write_text(markdown(headed, boards, found, health, own.contestant), encoding="utf-8")
    figures = {
        "version": 1,
        "headline": headed,
        "leaderboard": [asdict(row) for row in rows],
        "comparisons": [{"policy": own.contestant, **asdict(one)} for one in found],
        "ratings": [asdict(one) for one in ratings],
        "judge": asdict(health),
    }
    (folder / FIGURES).write_text(as_json(figures), encoding="utf-8")
    draw_boards(boards, [folder / name for name in PICTURES])
    path = folder / PAGE
    path.write_text(page, encoding="utf-8")
    return path


def _anchor(path: Path) -> Anchor | None:
    return read_anchor(path) if path.exists() else None


def read_anchor(path: Path) -> Anchor:
    """Reads an anchor: records with AlpacaEval's ``preference``, ``std_delta_len`` and ``instruction_difficulty``.

    Args:
        path: JSON or JSON lines.

    Returns:
        The anchor.

    Raises:
        ConfigError: If the file cannot be read, or a record lacks a number.
    """
    names = ("preference", "std_delta_len", "instruction_difficulty")
    rows = [[number_of(record, name, where) for name in names] for where, record in read_records(path, "the anchor")]
    return Anchor(*np.array(rows).T)


def number_of(record: Record, name: str, where: str) -> float:
    """Reads a number of a record.

    Args:
        record: The record.
        name: Its key.
        where: Place of the record, for error messages.

    Returns:
        The number.

    Raises:
        ConfigError: If it is none.
    """
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{where}: `{name}` must be a number, not {value!r}")
    return float(value)


def _beside(rows: Sequence[Row], name: str | None) -> Row:
    """The row of the contestant that is compared with the others, against the baseline that comes first."""
    names = [row.contestant for row in rows]
    if name is not None and name not in names:
        raise ConfigError(f"`beside`: there is no contestant `{name}`: {near_miss(name, names)}")
    wanted = name or (POLICY if POLICY in names else names[0])
    return next(row for row in rows if row.contestant == wanted)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "number": number, "code": code}
    return environment.from_string((resources.files(__package__) / "report.html.jinja").read_text(encoding="utf-8"))


def as_json(value: Any) -> str:
    """Encodes strict JSON; NaN and infinities become null."""

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
    """Reads ``matches.jsonl``.

    Args:
        path: The file.

    Returns:
        The records.

    Raises:
        ConfigError: If it cannot be read, holds none, or a line is none.
    """
    records = read_records(path, "the evaluation's matches")
    for where, record in records:
        try:
            msgspec.convert(record, _Match)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{where} is no match: {error}") from error
    return [record for _, record in records]


class _Requests(msgspec.Struct):
    paid: int
    reused: int
    failed: int


class _Tokens(msgspec.Struct):
    prompt: int
    completion: int


class _Alarm(msgspec.Struct):
    name: str
    rollout: int | None
    message: str


class _Summary(msgspec.Struct):
    """The fields of ``summary.json`` that a report needs, checked because the file may come from elsewhere."""

    requests: _Requests
    tokens: _Tokens
    cost_usd: float
    wall_s: float = 0.0
    alarms: list[_Alarm] = []
    plan: dict[str, float] | None = None
    judge: dict[str, Any] | None = None


class _Match(msgspec.Struct):
    """The fields of a line of ``matches.jsonl``, checked because the file may come from elsewhere."""

    scenario: str
    contestant: str
    baseline: str
    judge: str
    messages: list[dict[str, Any]] | None
    reply: str | None
    baseline_reply: str | None
    actions: list[str] | None
    scores: list[float | None] | None
    orders: list[Annotated[float, msgspec.Meta(ge=0, le=1)]]
    outcome: Literal["win", "loss", "tie"] | None
    consistent: bool | None
    failure: str | None
    rationales: list[str] | None = None
    source: dict[str, Any] | None = None


def _plain(row: Row) -> dict[str, Any]:
    """The rows in the form that `headline` needs."""
    rate = row.rate
    known: dict[str, Any] = {"win_rate": None, "low": None, "high": None, "n": 0}
    if rate is not None:
        known = {"win_rate": rate.rate, "low": rate.low, "high": rate.high, "n": rate.n}
    counts = {"wins": row.wins, "ties": row.ties, "losses": row.losses}
    return {"contestant": row.contestant, "baseline": row.baseline, **known, **counts}


def _browsed(records: Sequence[Record]) -> dict[str, Any]:
    """The data of the page's match browser: every text once, and matches that refer to texts by number."""
    numbers: dict[str, int] = {}

    def at(text: str | None) -> int | None:
        return None if text is None else numbers.setdefault(text, len(numbers))

    matches = [_shown(record, at) for record in records]
    return {"texts": list(numbers), "matches": matches}


def _shown(record: Record, at: Callable[[str | None], int | None]) -> dict[str, Any]:
    """A match as the page's browser shows it."""
    messages = record["messages"] or []
    return {
        "s": record["scenario"],
        "c": record["contestant"],
        "b": record["baseline"],
        "o": record["outcome"] or "failed",
        "m": [[message["role"], at(message["content"])] for message in messages],
        "n": [[message["role"], at(message["content"])] for message in record.get("baseline_messages") or []],
        "x": at(record["reply"]),
        "y": at(record["baseline_reply"]),
        "a": ", ".join(record["actions"] or ()),
        "v": record["scores"],
        "r": record["orders"],
        "k": record["consistent"],
        "f": record["failure"],
        "j": [at(text) for text in record.get("rationales") or []],
    }


def embedded(value: object) -> str:
    """JSON for a script element: no text in it can end the element or become markup."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def code(text: str) -> Markup:
    """A message as HTML, with what stands in backticks set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def percent(value: float | None) -> str:
    """A share with one decimal."""
    return "none" if value is None or math.isnan(value) else f"{value:.1%}"


def number(value: float | None) -> str:
    """Three significant digits, thousands apart."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"


def rated(records: Sequence[Record]) -> list[Rating]:
    """Bradley-Terry ratings; empty if the contestants are not connected by matches, or none was decided."""
    decided = [record for record in records if not record["failure"] and record["contestant"] != record["baseline"]]
    if not decided:
        return []
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
