"""The jobs of a sweep: overrides, errors, and the figure for comparing them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from ..core.errors import ConfigError
from ..core.files import write_json

RECORD = "job.json"
"""Its place in the job's folder, which is a run folder."""

PLANNED = "planned.json"
"""Its place in the sweep's folder."""

METRICS: Mapping[str, str] = {
    "validation": "win rate of the kept policy on the validation prompts",
    "reward": "mean reward of an episode in the last rollout",
    "evaluation": "win rate of the trained policy on the test prompts",
}
"""By what jobs can be compared, the preferred first; more is better."""


@dataclass(frozen=True)
class JobRecord:
    """The record of a job besides its results.

    Attributes:
        number: Hydra's.
        overrides: The job's overrides, ``name=value``.
        error: Why it failed; None if it did not, or was killed.
    """

    number: int
    overrides: tuple[str, ...]
    error: str | None = None

    def write(self, folder: Path) -> None:
        """Writes the record into the job's folder."""
        write_json(folder / RECORD, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads the record of a job's folder.

        Args:
            folder: The job's folder.

        Returns:
            The record.

        Raises:
            ConfigError: If it cannot be read.
        """
        path = folder / RECORD
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(int(content["number"]), (*map(str, content["overrides"]),), content["error"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} cannot be read ({error}): remove it, and the sweep is reported without"
            ) from error


@dataclass(frozen=True)
class PlannedJob:
    """A job that a sweep is to run.

    Attributes:
        number: Hydra's.
        overrides: The job's overrides, ``name=value``.
        folder: Its place in the sweep's folder.
    """

    number: int
    overrides: tuple[str, ...]
    folder: str


def write_planned(sweep: Path, jobs: Sequence[PlannedJob]) -> None:
    """Writes the plan of a sweep into its folder, so that jobs that never began can be named."""
    write_json(sweep / PLANNED, [asdict(job) for job in jobs])


def planned_jobs(sweep: Path) -> list[PlannedJob]:
    """Reads the plan of a sweep.

    Args:
        sweep: The sweep's folder.

    Returns:
        The planned jobs; empty if the folder holds no plan.

    Raises:
        ConfigError: If the file cannot be read.
    """
    path = sweep / PLANNED
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [PlannedJob(int(row["number"]), (*map(str, row["overrides"]),), str(row["folder"])) for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): remove it, and jobs never begun are left out") from error


def sweep_folders(root: Path) -> list[Path]:
    """The folders of sweeps at or below a folder."""
    return sorted({path.parent for path in root.rglob(PLANNED) if not path.parent.is_symlink()})


def job_folders(root: Path) -> list[Path]:
    """The folders below that hold a job, by number; links such as ``latest`` are no jobs."""
    found = [path.parent for path in root.rglob(RECORD) if not path.parent.is_symlink()]
    return sorted(found, key=lambda folder: (folder.parent, folder.name.zfill(9)))


def figure(summary: Mapping[str, Any], metric: str) -> float | None:
    """A job's figure.

    Args:
        summary: Its ``summary.json``.
        metric: A key of `METRICS`.

    Returns:
        None if the job has no such figure.
    """
    value: Any = None
    if metric == "reward":
        value = summary.get("reward_last")
    elif metric == "validation":
        validation = summary.get("validation") or {}
        rows = [row for row in validation.get("results", ()) if row["timesteps"] == validation.get("kept")]
        value = rows[-1]["win_rate"] if rows else None
    elif metric == "evaluation":
        rows = [row for row in summary.get("results", ()) if row.get("contestant") == "trained policy"]
        value = rows[0]["win_rate"] if rows else None
    return None if value is None else float(value)


def objective(summary: object) -> float | None:
    """The value that a search maximises: the first figure of `METRICS` that the job has; None if it has none."""
    if not isinstance(summary, Mapping):
        return None
    found = (figure(summary, metric) for metric in METRICS)
    return next((value for value in found if value is not None), None)
