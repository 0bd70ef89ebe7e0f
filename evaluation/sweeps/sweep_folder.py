"""Reads the jobs of a sweep from their folders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError, near_miss
from ...core.run_files import SUMMARY
from ...run.jobs import METRICS, JobRecord, figure, job_folders, planned_jobs, sweep_folders
from .sweep import SEED, Job, Sweep


def read_sweep(folder: Path, metric: str | None = None) -> Sweep:
    """Reads the jobs of a multirun.

    Args:
        folder: The sweep's; or one that holds several, which are then compared as one.
        metric: A key of `METRICS`; None for the first that any job has.

    Returns:
        The sweep.

    Raises:
        ConfigError: If the metric is unknown, or the folder holds no job.
    """
    if metric is not None and metric not in METRICS:
        raise ConfigError(f"`metric={metric}` is no figure of a job: {near_miss(str(metric), METRICS)}")
    places = job_folders(folder)
    if not places:
        raise ConfigError(
            f"{folder} holds no job: give the folder of `duologue train -m …`, such as runs/sweeps/latest"
        )
    records = [JobRecord.read(place) for place in places]
    summaries = [_summary(place) for place in places]
    chosen = metric or next(
        (name for name in METRICS if any(figure(one, name) is not None for one in summaries)), "reward"
    )
    given = [dict(_parted(override) for override in record.overrides) for record in records]
    names = dict.fromkeys(name for one in given for name in one)
    varied = [name for name in names if name != SEED and len({one.get(name) for one in given}) > 1]
    jobs = [
        _job(folder, place, record, one, summary, chosen, varied)
        for place, record, one, summary in zip(places, records, given, summaries, strict=True)
    ]
    fixed = tuple((name, given[0][name]) for name in names if name not in (SEED, *varied))
    return Sweep(folder, chosen, (*jobs, *_lost(folder, places, records, varied)), fixed)


def _summary(place: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((place / SUMMARY).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _parted(override: str) -> tuple[str, str]:
    name, _, value = override.partition("=")
    return name.lstrip("+"), value


def _job(
    root: Path,
    place: Path,
    record: JobRecord,
    given: Mapping[str, str],
    summary: Mapping[str, Any],
    metric: str,
    varied: Sequence[str],
) -> Job:
    done = summary.get("status") == "done"
    value = figure(summary, metric) if done else None
    if value is not None:
        reason = ""
    elif done:
        reason = f"done, but without a {METRICS[metric]}"
    else:
        reason = str(summary.get("error") or record.error or "running still, or killed")
    bundle = place / str(summary["bundle"]) if done and "bundle" in summary else None
    settings = tuple((name, given.get(name, "(not set)")) for name in varied)
    return Job(str(place.relative_to(root)), settings, given.get(SEED, ""), value, reason, bundle)


def _lost(root: Path, places: Sequence[Path], records: Sequence[JobRecord], varied: Sequence[str]) -> list[Job]:
    """Jobs that left nothing: planned and never begun; or, where no plan was kept, numbers missing between others."""
    found = []
    for sweep in sweep_folders(root) or [root]:
        numbers = {record.number for place, record in zip(places, records, strict=True) if sweep in place.parents}
        planned = planned_jobs(sweep)
        for job in planned:
            if job.number not in numbers:
                given = dict(_parted(override) for override in job.overrides)
                settings = tuple((name, given.get(name, "(not set)")) for name in varied)
                name = str((sweep / job.folder).relative_to(root))
                found.append(Job(name, settings, given.get(SEED, ""), None, "never begun"))
        missing = () if planned else (number for number in range(max(numbers, default=0)) if number not in numbers)
        found += [
            Job(str((sweep / str(number)).relative_to(root)), (), "", None, "left nothing: it died before it began")
            for number in missing
        ]
    return found
