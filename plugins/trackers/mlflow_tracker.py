"""Runs in MLflow, over its client alone: no global state of MLflow's is touched, so runs beside each other do not mix."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.run_files import STEP
from ..hookspecs import RunInfo
from .tracking import final_figures, flat

_LONGEST = 5000
"""Characters of a parameter's value; MLflow takes 6,000."""

_STATUS = {"done": "FINISHED", "interrupted": "KILLED", "stopped": "KILLED"}


class MLflowTracker:
    """A `Tracker`.

    Args:
        uri: Address of the server; None for ``MLFLOW_TRACKING_URI``.
        experiment: Its name; it is made if it is not there.
        artefacts: Whether bundle and report are uploaded.
        wait_s: See `Tracker`.
    """

    def __init__(
        self, uri: str | None = None, experiment: str = "duologue", artefacts: bool = True, wait_s: float = 120.0
    ) -> None:
        self.wait_s = wait_s
        self._uri, self._experiment, self._artefacts = uri, experiment, artefacts
        self._client: Any = None
        self._id = ""

    def begin(self, run: RunInfo, name: str, known: str | None) -> str:
        """Begins a run with the configuration as its parameters, or goes on with one."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # what it reports of its use to its makers
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # else it tries for minutes
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(self._uri)
        if known is not None:
            self._client.update_run(known, "RUNNING")
            self._id = known
            return known
        tags = {"duologue.command": run.command, "duologue.folder": str(run.folder)}
        self._id = self._client.create_run(self._experiment_id(), tags=tags, run_name=name).info.run_id
        from mlflow.entities import Param

        entries = [
            Param(_accepted(key), str(value)[:_LONGEST]) for key, value in flat(run.config) if key[:8] != "tracker."
        ]
        for start in range(0, len(entries), 100):  # as many as one call takes
            self._client.log_batch(self._id, params=entries[start : start + 100])
        return self._id

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            try:
                return str(self._client.create_experiment(self._experiment))
            except MlflowException:  # another job of a sweep was quicker
                found = self._client.get_experiment_by_name(self._experiment)
                if found is None:
                    raise
        return str(found.experiment_id)

    def rows(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Logs every value at the turns that its row stands after."""
        points = [(name, value, int(row.get(STEP, 0))) for row in rows for name, value in row.items() if name != STEP]
        self._log(points)

    def _log(self, points: Sequence[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_accepted(name), float(value), now, step) for name, value, step in points]
        for start in range(0, len(metrics), 1000):  # as many as one call takes
            self._client.log_batch(self._id, metrics=metrics[start : start + 1000])

    def end(self, folder: Path, summary: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Logs the results, uploads bundle and report, and ends the run."""
        from mlflow.entities import RunTag

        step = int(summary.get("timesteps") or 0)
        self._log([(name, value, step) for name, value in final_figures(summary).items()])
        said = {name: str(summary[name]) for name in ("status", "config_digest", "error") if name in summary}
        said |= {f"version.{name}": version for name, version in summary.get("versions", {}).items()}
        tags = [RunTag(f"duologue.{name}", value[:_LONGEST]) for name, value in said.items()]
        self._client.log_batch(self._id, tags=tags)
        if self._artefacts:
            for path in files:
                self._client.log_artifact(self._id, str(path))
            if (folder / "bundle").is_dir():
                self._client.log_artifacts(self._id, str(folder / "bundle"), "bundle")
        self._client.set_terminated(self._id, _STATUS.get(str(summary.get("status")), "FAILED"))


def _accepted(name: str) -> str:
    """A name of the characters that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", name)[:250]
