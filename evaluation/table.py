"""The results in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from ..inference.saying import Console, say


def show_results(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Prints one line per contestant, best first and undecided last, the trained policy in bold.

    Args:
        rows: ``results`` of ``summary.json``.
        console: Where.
    """
    first = rows[0]
    title = f"Win rate against {first['baseline']}, judged by {first['judge']}"
    table = Table(title=title, title_justify="left", pad_edge=False)  # without the padding it fits 80 columns
    table.add_column("contestant")
    for name in ("win rate", "95% interval", "wins", "ties", "losses", "failed"):
        table.add_column(name, justify="right")
    for row in sorted(rows, key=lambda row: 1.0 if row["win_rate"] is None else -row["win_rate"]):
        known = row["win_rate"] is not None
        table.add_row(
            Text(row["contestant"]),  # a directive may hold brackets, which are no markup
            f"{row['win_rate']:.3f}" if known else "none",
            f"{row['low']:.3f} to {row['high']:.3f}" if known else "",
            *(str(row[name]) for name in ("wins", "ties", "losses", "failures")),
            style="bold" if row["contestant"] == "trained policy" else "",
        )
    console.print(table)


def show_boards(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Prints a table for each baseline, and the result in one sentence.

    Args:
        rows: ``results`` of ``summary.json``.
        console: Where.
    """
    for base in dict.fromkeys(row["baseline"] for row in rows):
        show_results([row for row in rows if row["baseline"] == base], console)
    say(headline(rows), console)


def headline(rows: Sequence[dict[str, Any]]) -> str:
    """The result in one sentence, of the trained policy or else of the best; empty if nothing was decided."""
    decided = [row for row in rows if row["win_rate"] is not None]
    own = next((row for row in decided if row["contestant"] == "trained policy"), None)
    if own is None and any(row["contestant"] == "trained policy" for row in rows):
        return ""
    own = own or max(decided, key=lambda row: row["win_rate"], default=None)
    if own is None:
        return ""
    constants = [row["win_rate"] for row in decided if row["contestant"].startswith("always ")]
    verdict = "better than" if own["low"] > 0.5 else "worse than" if own["high"] < 0.5 else "not shown to differ from"
    name = "The trained policy" if own["contestant"] == "trained policy" else own["contestant"]
    text = f"{name} is {verdict} {own['baseline']}: it wins {own['win_rate']:.1%}"
    text += f" ({own['low']:.1%} to {own['high']:.1%}) of {own['n']} held-out matches"
    return text + (f"; the best constant action wins {max(constants):.1%}." if constants else ".")
