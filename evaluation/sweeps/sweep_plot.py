"""A sweep as a picture: every setting with its interval and its seeds, and a panel for each parameter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..report.plots import STYLE, save_picture, short
from .sweep import Effect, Mean, Place

MOST = 30
"""Settings in the picture, at most: the best."""

_COLOUR = "#1f6feb"


def draw_sweep(title: str, places: Sequence[Place], effects: Sequence[Effect], paths: Sequence[Path]) -> bool:
    """Draws the leaderboard and below it the parameters.

    Args:
        title: Title of the figures.
        places: Settings, best first.
        effects: Effects of the parameters without many values.
        paths: Files to write; the suffix determines the format.

    Returns:
        False where Matplotlib is not installed, or there is nothing to draw.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return False
    shown, panels = places[:MOST], [effect for effect in effects if effect.values]
    if not shown:
        return False
    heights = [len(shown) + 1.2, *(len(effect.values) + 1.2 for effect in panels)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.32 * sum(heights) + 0.5 * len(heights)), layout="constrained")
        axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})
        _panel(axes[0, 0], "Settings", [(_named(place), place.mean) for place in shown])
        for row, place in enumerate(reversed(shown)):
            values = [job.value for job in place.jobs if job.value is not None]
            axes[0, 0].plot(values, [row] * len(values), ".", color="#5b6675", markersize=4, alpha=0.6)
        for panel, effect in zip(axes[1:, 0], panels, strict=True):
            _panel(panel, effect.parameter, [*effect.values.items()])
        axes[-1, 0].set_xlabel(f"{title}; bars: 95% intervals over seeds")
        save_picture(figure, paths)
    return True


def _panel(axes: Any, title: str, rows: Sequence[tuple[str, Mean]]) -> None:
    for row, (_, mean) in enumerate(reversed(rows)):
        half = 0.0 if mean.high is None else mean.high - mean.mean
        axes.errorbar([mean.mean], [row], xerr=[half], fmt="o", capsize=3 if half else 0, color=_COLOUR)
    axes.set_yticks(range(len(rows)), [short(name) for name, _ in reversed(rows)], parse_math=False)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_title(short(title), loc="left", parse_math=False)


def _named(place: Place) -> str:
    """Each value with the last part of its parameter's name, which is nearly always enough."""
    return ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in place.settings) or "all alike"
