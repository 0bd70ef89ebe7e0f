"""Results as tables, in the terminal and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os.path import commonprefix
from typing import Any

from rich.table import Table
from rich.text import Text

from ...core.console import Console, say
from ...envs.policies import PLAIN_SAMPLE
from ..stats.length_control import Controlled
from ..stats.win_rates import WinRate
from .judge_health import JudgeHealth
from .leaderboard import Comparison, Row


def markdown(
    headed: str, boards: Mapping[str, Sequence[Row]], found: Sequence[Comparison], health: JudgeHealth, policy: str
) -> str:
    """The headline and the tables."""
    lines = [cell(headed)]
    for base, rows in boards.items():
        lines += ["", f"# Win rate against {cell(base)}, judged by {cell(rows[0].judge)}", ""]
        lines += ["| contestant | win rate (95% interval) | length-controlled (95%) | wins | ties | losses | failed |"]
        lines += ["|---|---|---|---|---|---|---|"]
        for row in rows:
            rate = "none" if row.rate is None else _interval(row.rate)
            controlled = "" if row.controlled is None else _interval(row.controlled)
            counts = f"{row.wins} | {row.ties} | {row.losses} | {row.failures}"
            lines.append(f"| {cell(row.contestant)} | {rate} | {controlled} | {counts} |")
    if found:
        lines += [
            "",
            f"| {policy} against | difference (95% interval) | p, corrected | prompts needed |",
            "|---|---|---|---|",
        ]
        for one in found:
            d = one.found
            lines.append(
                f"| {cell(one.other)} | {d.difference:+.3f} ({d.low:+.3f} to {d.high:+.3f}) | {one.corrected:.3g} | "
                f"{'none' if one.prompts is None else format(one.prompts, ',')} |"
            )
    lines += ["", f"# The judge {cell(health.name)}", "", *(f"* {cell(line)}" for line in health.lines())]
    return "\n".join([*lines, ""])


def _interval(found: WinRate | Controlled) -> str:
    return f"{found.rate:.3f} ({found.low:.3f} to {found.high:.3f})"


def cell(text: str) -> str:
    """Escapes a text for a cell of a table: no markup and no terminal controls."""
    plain = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def show_results(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Prints one line per contestant, best first and undecided last, the trained policy in bold.

    Args:
        rows: ``results`` of ``summary.json``.
        console: Console to print on.
    """
    first = rows[0]
    title = f"Win rate against {first['baseline']}, judged by {first['judge']}"
    table = Table(title=title, title_justify="left", pad_edge=False)  # without the padding it fits 80 columns
    table.add_column("contestant", no_wrap=True)
    headers = ("win rate", "95% interval", "wins", "ties", "losses", "failed")
    for name in headers:
        table.add_column(name, justify="right", no_wrap=True)
    ordered = sorted(rows, key=lambda row: 1.0 if row["win_rate"] is None else -row["win_rate"])
    figures = [_figures(row) for row in ordered]
    taken = sum(max(map(len, column)) + 3 for column in zip(headers, *figures, strict=True))  # 3: the frame between two
    names = told_apart([row["contestant"] for row in ordered], max(12, console.width - taken - 2))
    for row, name, cells in zip(ordered, names, figures, strict=True):
        style = "bold" if row["contestant"] == "trained policy" else ""
        table.add_row(Text(name), *cells, style=style)  # a directive may hold brackets, which are no markup
    console.print(table)


def _figures(row: Mapping[str, Any]) -> list[str]:
    known = row["win_rate"] is not None
    rate = f"{row['win_rate']:.3f}" if known else "none"
    interval = f"{row['low']:.3f} to {row['high']:.3f}" if known else ""
    return [rate, interval, *(str(row[name]) for name in ("wins", "ties", "losses", "failures"))]


def shortened(text: str, width: int) -> str:
    """Shortens a text to one line of at most ``width`` characters by cutting its middle; controls become spaces."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    tail = (width - 1) // 2
    return line if len(line) <= width else f"{line[: width - 1 - tail]}…{line[len(line) - tail :]}"


def told_apart(names: Sequence[str], width: int) -> list[str]:
    """Names shortened so that different ones stay different: by what they have beyond their common beginning, else by number."""
    made = [shortened(name, width) for name in names]
    alike: dict[str, set[str]] = {}
    for name, short in zip(names, made, strict=True):
        alike.setdefault(short, set()).add(name)
    for short, group in alike.items():
        if len(group) < 2:
            continue
        common = len(commonprefix(sorted(group)))  # noqa: RUF071  (character by character is what is wanted)
        head = width // 3
        new = {name: shortened(f"{name[:head]}…{name[max(common - 1, head) :]}", width) for name in sorted(group)}
        if len({*new.values()} | {*made}) < len(group) + len({*made}):
            new = {name: f"{shortened(name, width - 4)} #{place}" for place, name in enumerate(sorted(group), 1)}
        made = [new.get(name, old) if old == short else old for name, old in zip(names, made, strict=True)]
    return made


def show_boards(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Prints a table for each baseline, and the result in one sentence.

    Args:
        rows: ``results`` of ``summary.json``.
        console: Console to print on.
    """
    for base in dict.fromkeys(row["baseline"] for row in rows):
        show_results([row for row in rows if row["baseline"] == base], console)
    say(headline(rows), console)


def is_constant(contestant: str) -> bool:
    """Whether a contestant always takes the same action; a plain sample represents exchangeable actions."""
    return contestant.startswith("always ") or contestant == PLAIN_SAMPLE


def headline(rows: Sequence[dict[str, Any]]) -> str:
    """The result in one sentence, of the trained policy or else of the best; empty if nothing was decided."""
    decided = [row for row in rows if row["win_rate"] is not None]
    policy = any(row["contestant"] == "trained policy" for row in rows)
    own = next((row for row in decided if row["contestant"] == "trained policy"), None)
    if own is None and policy:
        return ""
    own = own or max(decided, key=lambda row: row["win_rate"], default=None)
    if own is None:
        return ""
    constants = [row["win_rate"] for row in decided if is_constant(row["contestant"])]
    verdict = "better than" if own["low"] > 0.5 else "worse than" if own["high"] < 0.5 else "not shown to differ from"
    name = "The trained policy" if policy else own["contestant"]
    text = f"{name} is {verdict} {own['baseline']}: win rate {own['win_rate']:.1%}"
    text += f" ({own['low']:.1%} to {own['high']:.1%}) over {own['n']:,} {'held-out ' if policy else ''}matches"
    text += f", {own['wins']:,} won, {own['ties']:,} tied and {own['losses']:,} lost"
    return text + (f"; the best constant action has {max(constants):.1%}." if constants else ".")
