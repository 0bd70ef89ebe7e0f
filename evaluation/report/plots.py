"""Results as pictures, SVG and PNG: the leaderboard's win rates, and a bench's returns, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..stats.headroom import PolicyReturns
from .leaderboard import Row
from .tables import shortened

MOST = 40
"""Rows of one board in the picture, at most."""

STYLE: Any = {"svg.hashsalt": "duologue", "font.size": 9}
"""Matplotlib's settings of all pictures; with the salt equal results give equal files."""

_COLOURS = {"learnt": "#1f6feb", "constant": "#5b6675", "random": "#9aa4b2", "oracle": "#2e7d32"}


def draw_boards(boards: Mapping[str, Sequence[Row]], paths: Sequence[Path]) -> bool:
    """Draws one panel for each baseline.

    Args:
        boards: Rows by baseline, best first.
        paths: Files to write; the suffix determines the format.

    Returns:
        False where Matplotlib is not installed: nothing is drawn then.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return False
    shown = {base: [row for row in rows if row.rate is not None][:MOST] for base, rows in boards.items()}
    shown = {base: rows for base, rows in shown.items() if rows}
    if not shown:
        return False
    heights = [len(rows) + 1.2 for rows in shown.values()]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.32 * sum(heights) + 0.5 * len(heights)), layout="constrained")
        panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})
        for axes, (base, rows) in zip(panels[:, 0], shown.items(), strict=True):
            rates = [row.rate for row in reversed(rows) if row.rate is not None]
            centre = [rate.rate for rate in rates]
            spread = [[r.rate - r.low for r in rates], [r.high - r.rate for r in rates]]
            axes.errorbar(centre, range(len(rates)), xerr=spread, fmt="o", capsize=3, color="#1f6feb")
            axes.axvline(0.5, color="#5b6675", linewidth=0.8, linestyle="--")
            axes.set_yticks(range(len(rates)), [short(row.contestant) for row in reversed(rows)], parse_math=False)
            axes.set_ylim(-0.7, len(rates) - 0.3)
            axes.set_xlim(0, 1)
            axes.set_title(f"Win rate against {short(base)}, judged by {rows[0].judge}", loc="left", parse_math=False)
        panels[-1, 0].set_xlabel("win rate with 95% interval, clustered by prompt")
        save_picture(figure, paths)
    return True


def save_picture(figure: Any, paths: Sequence[Path]) -> None:
    """Writes a figure of Matplotlib's to each path, in the format of its suffix, without the date."""
    for path in paths:
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def short(text: str) -> str:
    """A text in one line that fits beside a plot."""
    return shortened(text, 44)


def draw_returns(task: str, standings: Sequence[PolicyReturns], paths: Sequence[Path]) -> bool:
    """Draws returns against what they cost in requests, with their intervals.

    Args:
        task: Name of the task for the title.
        standings: Returns of the policies.
        paths: Files to write; the suffix determines the format.

    Returns:
        False where Matplotlib is not installed: nothing is drawn then.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return False
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.4 * len(standings) + 1.6), layout="constrained")
        axes = figure.subplots()
        for place, standing in enumerate(reversed(standings)):
            spread = [[standing.mean - standing.low], [standing.high - standing.mean]]
            colour = _COLOURS[standing.kind]
            axes.errorbar([standing.mean], [place], xerr=spread, fmt="o", capsize=3, color=colour)
            axes.plot(standing.by_seed, [place] * len(standing.by_seed), "|", color=colour, alpha=0.6)
        names = [f"{short(s.name)}\n{s.requests:.1f} requests" for s in reversed(standings)]
        axes.set_yticks(range(len(standings)), names, parse_math=False)
        axes.set_ylim(-0.7, len(standings) - 0.3)
        axes.set_xlabel("return of an episode on held-out scenarios; 95% interval, and a mark for each seed")
        axes.set_title(task, loc="left", parse_math=False)
        save_picture(figure, paths)
    return True
