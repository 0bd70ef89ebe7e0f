"""Runs in Weights & Biases. Neither code nor the terminal's output nor the machine's load is sent."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ...core.errors import ConfigError
from ...core.run_files import STEP
from ..hookspecs import RunInfo
from .tracking import final_figures


class WandbTracker:
    """A `Tracker`.

    Args:
        project: Its name; it is made if it is not there.
        entity: Owner of the project; None for the account's own.
        mode: None for what ``WANDB_MODE`` says, else online. What was kept offline, in the run folder, ``wandb sync`` sends.
        artefacts: Whether bundle and report are uploaded.
        wait_s: See `Tracker`.
    """

    def __init__(
        self,
        project: str = "duologue",
        entity: str | None = None,
        mode: Literal["online", "offline"] | None = None,
        artefacts: bool = True,
        wait_s: float = 120.0,
    ) -> None:
        self.wait_s = wait_s
        self._project, self._entity, self._mode, self._artefacts = project, entity, mode, artefacts
        self._run: Any = None

    def begin(self, run: RunInfo, name: str, known: str | None) -> str:
        """Begins a run, or continues one.

        Args:
            run: The run.
            name: Name to show.
            known: Id of the run to continue
            None for a new one.:

        Returns:
            The tracker's run id.

        Raises:
            ConfigError: If there is no key: W&B would ask for one in the terminal.
        """
        os.environ.setdefault("WANDB_SILENT", "true")  # it would talk into the progress; what fails is an exception
        import wandb

        settings = wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, save_code=False, x_disable_stats=True
        )
        mode = self._mode or wandb.setup().settings.mode
        if mode in ("online", None) and not wandb.setup().settings.api_key:  # else it would ask in the terminal
            raise ConfigError("there is no key: run `wandb login`, or set `tracker.wandb.mode=offline`")
        self._run = wandb.init(
            project=self._project,
            entity=self._entity,
            mode=self._mode,
            dir=str(run.folder),
            id=known,
            resume="allow" if known else None,
            name=name,
            job_type=run.command,
            config={key: value for key, value in run.config.items() if key != "tracker"},
            reinit="create_new",
            settings=settings,
        )
        return str(self._run.id)

    def rows(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Logs every row at the turns that it stands after."""
        for row in rows:
            self._run.log(dict(row), step=int(row.get(STEP, 0)))

    def end(self, folder: Path, summary: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Logs the results, adds bundle and report as artefacts, and ends the run."""
        import wandb

        said = {name: summary[name] for name in ("status", "config_digest", "error", "versions") if name in summary}
        self._run.summary.update({**final_figures(summary), **said})
        if self._artefacts:
            results = wandb.Artifact(f"results-{self._run.id}", "results")
            for path in files:
                results.add_file(str(path))
            self._run.log_artifact(results)
            if (folder / "bundle").is_dir():
                bundle = wandb.Artifact(f"bundle-{self._run.id}", "model")
                bundle.add_dir(str(folder / "bundle"))
                self._run.log_artifact(bundle)
        self._run.finish(exit_code=0 if summary.get("status") == "done" else 1)
