"""The jobs of a sweep compared: means over seeds with intervals, and what each swept parameter does. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

Settings = tuple[tuple[str, str], ...]
"""Overrides that a sweep varies, by name, less the seed."""

SEED = "seed"
MOST_VALUES = 10
"""Values of one parameter above which its effect is a rank correlation."""


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its 95% interval by Student's t; one seed has none.

    Attributes:
        mean: Mean of the seeds' figures.
        low: Lower end; None for one seed.
        high: Upper end; None for one seed.
        seeds: Number of seeds.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """The mean of independent figures, one a seed, at least one."""
        mean, n = float(np.mean(values)), len(values)
        if n < 2:
            return cls(mean, None, None, n)
        half = float(stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(n))
        return cls(mean, mean - half, mean + half, n)


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        name: Its folder's place in the sweep.
        settings: The varied overrides, less the seed.
        seed: As it was given; empty where it was not.
        value: Its figure; None if it has none.
        reason: Why not; empty if it has one.
        bundle: The policy's folder; None if there is none.
    """

    name: str
    settings: Settings
    seed: str
    value: float | None
    reason: str = ""
    bundle: Path | None = None


@dataclass(frozen=True)
class Place:
    """A line of the leaderboard: one setting over its seeds.

    Attributes:
        settings: The setting.
        mean: Of its jobs' figures, a seed's own mean where a seed ran twice.
        jobs: Jobs with a figure, the best first.
        failed: Number without a figure.
    """

    settings: Settings
    mean: Mean
    jobs: tuple[Job, ...]
    failed: int


@dataclass(frozen=True)
class Effect:
    """The effect of one parameter, at equal values of the others and of the seed where possible.

    Attributes:
        parameter: Its name.
        values: Mean by value; empty for a parameter of many values.
        matched: Whether every value was compared on the same other settings and seeds.
        left_out: Jobs with a figure that had no counterpart at another value.
        rank_correlation: Spearman's, of a parameter of many numbers; else None.
    """

    parameter: str
    values: Mapping[str, Mean] = field(default_factory=dict)
    matched: bool = True
    left_out: int = 0
    rank_correlation: float | None = None


@dataclass(frozen=True)
class Sweep:
    """The jobs below a folder.

    Attributes:
        folder: The folder.
        metric: A key of `run.jobs.METRICS`.
        jobs: All of them, by name.
        fixed: Overrides that are the same in all jobs.
    """

    folder: Path
    metric: str
    jobs: tuple[Job, ...]
    fixed: Settings = ()

    @property
    def parameters(self) -> list[str]:
        """The varied overrides, less the seed, in the order of the command line."""
        return list(dict.fromkeys(name for job in self.jobs for name, _ in job.settings))

    @property
    def failed(self) -> list[Job]:
        """Jobs without a figure."""
        return [job for job in self.jobs if job.value is None]


def leaderboard(sweep: Sweep) -> list[Place]:
    """A line for every setting that has a figure, the best mean first."""
    groups: dict[Settings, list[Job]] = {}
    for job in sweep.jobs:
        groups.setdefault(job.settings, []).append(job)
    places = []
    for settings, jobs in groups.items():
        decided = sorted((job for job in jobs if job.value is not None), key=lambda job: -(job.value or 0.0))
        if decided:
            places.append(Place(settings, over_seeds(decided), (*decided,), len(jobs) - len(decided)))
    return sorted(places, key=lambda place: -place.mean.mean)


def over_seeds(jobs: Iterable[Job]) -> Mean:
    """The mean over seeds of the jobs' figures; of a seed with several jobs their mean counts, once."""
    seeds: dict[str, list[float]] = {}
    for job in jobs:
        if job.value is not None:
            seeds.setdefault(job.seed, []).append(job.value)
    return Mean.of([float(np.mean(values)) for values in seeds.values()])


def effects(sweep: Sweep) -> list[Effect]:
    """Computes the effect of each swept parameter."""
    decided = [job for job in sweep.jobs if job.value is not None]
    found = [_effect(parameter, decided) for parameter in sweep.parameters]
    return [effect for effect in found if effect.values or effect.rank_correlation is not None]


def _effect(parameter: str, jobs: Sequence[Job]) -> Effect:
    values = sorted({_value(job, parameter) for job in jobs}, key=in_order)
    if len(values) > MOST_VALUES:
        return Effect(parameter, rank_correlation=_rank_correlation(parameter, jobs))
    contexts: dict[object, set[str]] = {}
    for job in jobs:
        contexts.setdefault(_context(job, parameter), set()).add(_value(job, parameter))
    complete = {context for context, present in contexts.items() if len(present) == len(values)}
    used = [job for job in jobs if _context(job, parameter) in complete] if complete else jobs
    means = {value: over_seeds(job for job in used if _value(job, parameter) == value) for value in values}
    return Effect(parameter, means, bool(complete), len(jobs) - len(used))


def _rank_correlation(parameter: str, jobs: Sequence[Job]) -> float | None:
    numbers, figures = [number(_value(job, parameter)) for job in jobs], [job.value for job in jobs]
    if None in numbers or len(set(figures)) < 2:
        return None
    from scipy.stats import spearmanr  # takes a second to import

    return float(spearmanr(numbers, figures).statistic)


def _value(job: Job, parameter: str) -> str:
    return dict(job.settings).get(parameter, "")


def _context(job: Job, parameter: str) -> tuple[Settings, str]:
    return tuple(pair for pair in job.settings if pair[0] != parameter), job.seed


def number(text: str) -> float | None:
    """A value as a number, if it is one."""
    try:
        return float(text)
    except ValueError:
        return None


def in_order(text: str) -> tuple[float, str]:
    """The key that sorts values: numbers by size, then words."""
    value = number(text)
    return (float("inf") if value is None else value), text
