"""`duologue sweep-report FOLDER`: which setting of a sweep is best, what each parameter does, and what failed.

duologue sweep-report runs/sweeps/latest metric=reward
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ..core.console import Console, say
from ..core.errors import ConfigError
from ..core.settings import construct, read_arguments
from ..evaluation.report.report import as_json
from ..evaluation.report.tables import cell
from ..evaluation.sweeps.sweep import Effect, Mean, Place, Settings, Sweep, effects, leaderboard
from ..evaluation.sweeps.sweep_folder import read_sweep
from ..evaluation.sweeps.sweep_plot import draw_sweep
from ..run.jobs import METRICS

FIGURES, TABLE, PICTURES = "sweep.json", "sweep.md", ("sweep.svg", "sweep.png")
"""Their places in the sweep's folder."""


def run(arguments: Sequence[str]) -> None:
    """Reports a sweep in the terminal and in its folder.

    Args:
        arguments: The folder; ``metric=…``; ``--json`` for one line of JSON on standard output instead of tables.

    Raises:
        ConfigError: If there is not one folder with jobs, or an option is refused.
    """
    words, options = read_arguments([argument for argument in arguments if argument != "--json"])
    if len(words) != 1:
        raise ConfigError(
            f"`duologue sweep-report FOLDER [metric={'|'.join(METRICS)}] [--json]` takes the folder of a multirun, "
            "such as runs/sweeps/latest"
        )
    figures, sweep = construct(write_sweep_report, options, "sweep-report", folder=Path(words[0]))
    if "--json" in arguments:
        print(json.dumps(json.loads(as_json(figures)), ensure_ascii=False))  # noqa: T201
    else:
        _show(sweep, figures, Console())


def write_sweep_report(folder: Path, metric: str | None = None) -> tuple[dict[str, Any], Sweep]:
    """Writes ``sweep.json`` and ``sweep.md``, and where Matplotlib is installed ``sweep.svg`` and ``sweep.png``.

    Args:
        folder: The sweep's.
        metric: A key of `METRICS`; None for the first that a job has.

    Returns:
        What ``sweep.json`` says; and what it was made from.

    Raises:
        ConfigError: If the folder holds no job, or the metric is unknown.
    """
    sweep = read_sweep(folder, metric)
    places, found = leaderboard(sweep), effects(sweep)
    figures = {
        "version": 1,
        "folder": str(folder),
        "metric": sweep.metric,
        "fixed": dict(sweep.fixed),
        "leaderboard": [_line(place) for place in places],
        "effects": [asdict(effect) for effect in found],
        "best": _best(sweep, places),
        "notes": notes(sweep, places, found),
        "failed": [
            {"job": job.name, "settings": dict(job.settings), "seed": job.seed, "reason": job.reason}
            for job in sweep.failed
        ],
    }
    (folder / FIGURES).write_text(as_json(figures), encoding="utf-8")
    (folder / TABLE).write_text(_markdown(sweep, places, found, figures), encoding="utf-8")
    draw_sweep(METRICS[sweep.metric], places, found, [folder / name for name in PICTURES])
    return figures, sweep


def _line(place: Place) -> dict[str, Any]:
    jobs = [{"job": job.name, "seed": job.seed, "value": job.value} for job in place.jobs]
    return {"settings": dict(place.settings), **asdict(place.mean), "failed": place.failed, "jobs": jobs}


def _best(sweep: Sweep, places: Sequence[Place]) -> dict[str, Any] | None:
    """The best setting, and of its jobs the best that left a bundle."""
    if not places:
        return None
    holding = [job for job in places[0].jobs if job.bundle is not None]
    found = {"job": holding[0].name, "value": holding[0].value, "bundle": str(holding[0].bundle)} if holding else {}
    return {"settings": dict(places[0].settings), **asdict(places[0].mean), **found}


def notes(sweep: Sweep, places: Sequence[Place], found: Sequence[Effect]) -> list[str]:
    """Notes on the limits of the tables."""
    told = []
    if places and all(place.mean.seeds < 2 for place in places):
        told.append("every setting ran with one seed, so there are no intervals: add `seed=1,2,3`")
    elif any(place.mean.seeds < 2 for place in places):
        told.append("settings that ran with one seed have no interval")
    if len(places) > 1:
        told.append(
            f"the best of {len(places)} settings looks better here than it is: what it is worth says "
            "`duologue evaluate` on prompts that chose nothing"
        )
    if sweep.metric == "reward" and any(
        name.split(".")[0].startswith(("judge", "reward")) for name in sweep.parameters
    ):
        told.append("rewards of different judges are on different scales: compare by `validation.every=…`")
    for effect in found:
        if not effect.matched:
            told.append(
                f"{effect.parameter}: its values were tried with different other settings, which the means mix in"
            )
        elif effect.left_out:
            told.append(
                f"{effect.parameter}: {effect.left_out} jobs without a counterpart at another value are left out"
            )
    return told


def interval(mean: Mean) -> str:
    """The interval in words."""
    return "one seed: none" if mean.low is None else f"{mean.low:.3f} to {mean.high:.3f}"


def label(settings: Settings) -> str:
    """A setting in words."""
    return ", ".join(f"{name}={value}" for name, value in settings) or "all alike"


def _effect_rows(effect: Effect) -> list[tuple[str, str, str, str]]:
    if effect.rank_correlation is not None:
        return [(effect.parameter, "many values", f"{effect.rank_correlation:+.2f}", "rank correlation")]
    return [(effect.parameter, value, f"{mean.mean:.3f}", interval(mean)) for value, mean in effect.values.items()]


def _markdown(sweep: Sweep, places: Sequence[Place], found: Sequence[Effect], figures: Mapping[str, Any]) -> str:
    names = sweep.parameters
    lines = [f"# Sweep by {METRICS[sweep.metric]}", ""]
    lines += ["| " + " | ".join([*map(cell, names), "mean", "95% interval", "seeds", "failed"]) + " |"]
    lines += ["|" + "---|" * (len(names) + 4)]
    for place in places:
        cells = [cell(value) for _, value in place.settings]
        cells += [f"{place.mean.mean:.3f}", interval(place.mean), str(place.mean.seeds), str(place.failed)]
        lines.append("| " + " | ".join(cells) + " |")
    if found:
        lines += ["", "| parameter | value | mean | 95% interval |", "|---|---|---|---|"]
        lines += ["| " + " | ".join(map(cell, row)) + " |" for effect in found for row in _effect_rows(effect)]
    if sweep.failed:
        lines += ["", "| failed job | setting | seed | reason |", "|---|---|---|---|"]
        lines += [
            f"| {job.name} | {cell(label(job.settings))} | {job.seed} | {cell(job.reason)} |" for job in sweep.failed
        ]
    lines += ["", *_said(figures), *(f"* {note}" for note in figures["notes"])]
    return "\n".join([*lines, ""])


def _said(figures: Mapping[str, Any]) -> list[str]:
    best = figures["best"]
    if best is None:
        return ["No job has a figure."]
    named = ", ".join(f"{name}={value}" for name, value in best["settings"].items())
    lines = [f"Best: {named or 'one setting'}, {best['mean']:.3f}."]
    if "bundle" in best:
        lines.append(f"Its best bundle is {best['bundle']} (job {best['job']}, {best['value']:.3f}).")
    return lines


def _show(sweep: Sweep, figures: Mapping[str, Any], console: Console) -> None:
    table = Table(title=f"Sweep by {METRICS[sweep.metric]}", title_justify="left", pad_edge=False)
    for name in sweep.parameters:
        table.add_column(Text(name))
    for name in ("mean", "95% interval", "seeds", "failed"):
        table.add_column(name, justify="right")
    for place in leaderboard(sweep):
        shown = [Text(value) for _, value in place.settings]
        table.add_row(*shown, f"{place.mean.mean:.3f}", interval(place.mean), str(place.mean.seeds), str(place.failed))
    console.print(table)
    if found := effects(sweep):
        table = Table(
            "parameter", "value", "mean", "95% interval", title="Parameters", title_justify="left", pad_edge=False
        )
        for effect in found:
            for row in _effect_rows(effect):
                table.add_row(*map(Text, row))
        console.print(table)
    lines = [f"failed: job {job.name} ({label(job.settings)}, seed {job.seed}): {job.reason}" for job in sweep.failed]
    lines += [*_said(figures), *(f"note: {note}" for note in figures["notes"])]
    lines.append(f"Written to {sweep.folder / FIGURES}, {TABLE} and, with Matplotlib, {', '.join(PICTURES)}")
    for line in lines:
        say(line, console)
