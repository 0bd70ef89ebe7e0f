"""The plugin that tells trackers of a run: its configuration, its curves while it goes on, and what it left at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ...inference.errors import ConfigError, near_miss
from ...inference.settings import construct, load
from ..hookspecs import hookimpl
from ..json_file import write_json
from ..lifecycle import RunInfo
from ..places import CONFIG, SUMMARY
from ..progress import PROGRESS, read_progress
from .courier import Courier

TRACKERS: Mapping[str, str] = {
    "mlflow": ".plugins.trackers.mlflow_tracker:MLflowTracker",
    "wandb": ".plugins.trackers.wandb_tracker:WandbTracker",
}
"""Classes by the name under which the part ``tracker`` of the configuration has their settings."""

FILES = ("report.html", "report.md", "report.json", "report.svg", SUMMARY, CONFIG, PROGRESS)
"""What of a run folder is handed over besides the bundle."""


class Tracker(Protocol):
    """One tracker of one run; all methods are called from one thread of its own.

    Attributes:
        wait_s: Seconds for which the end of the run waits for it.
    """

    wait_s: float

    def begin(self, run: RunInfo, name: str, known: str | None) -> str:
        """Begins a run, or goes on with one.

        Args:
            run: The run.
            name: What to call it.
            known: What this method returned for an earlier part of a resumed run.

        Returns:
            By what the tracker knows the run.
        """
        ...

    def rows(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Takes new rows of ``progress.csv``."""
        ...

    def end(self, folder: Path, summary: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Takes the results; nothing comes after them.

        Args:
            folder: The run folder.
            summary: ``summary.json``; only a status and an error if the run left none.
            files: Those of `FILES` that are there.
        """
        ...


class Tracking:
    """The hooks. A tracker's own state of a run is kept in the run folder, as ``tracker.<name>.json``."""

    def __init__(self) -> None:
        self._open: dict[Path, list[_Tracked]] = {}

    @hookimpl
    def duologue_run_start(self, run: RunInfo) -> None:
        """Begins a run at each tracker of the configuration."""
        chosen: Mapping[str, Any] = run.config.get("tracker") or {}
        self._open[run.folder] = [_Tracked(name, settings, run) for name, settings in chosen.items()]

    @hookimpl
    def duologue_rollout_end(self, run: RunInfo) -> None:
        """Hands over what is new in the curves."""
        for tracked in self._open.get(run.folder, ()):
            tracked.go_on()

    @hookimpl
    def duologue_run_end(self, run: RunInfo, error: BaseException | None) -> None:
        """Hands over the results."""
        for tracked in self._open.pop(run.folder, ()):
            tracked.end(error)


class _Tracked:
    """One run at one tracker."""

    def __init__(self, name: str, settings: Mapping[str, Any], run: RunInfo) -> None:
        self._run, self._notes = run, run.folder / f"tracker.{name}.json"
        self._courier = Courier(name)
        self._tracker: Tracker | None = None
        known = _read(self._notes)
        self._sent, self._known = int(known.get("rows", 0)), known.get("id")
        self._courier.hand(partial(self._begin, name, settings, self._sent))

    def _begin(self, name: str, settings: Mapping[str, Any], sent: int) -> None:
        if name not in TRACKERS:
            raise ConfigError(f"there is no tracker `{name}`: {near_miss(name, TRACKERS)}")
        make: Callable[..., Tracker] = load(TRACKERS[name], f"tracker.{name}")
        self._tracker = construct(make, settings or {}, f"tracker.{name}")
        self._known = self._tracker.begin(self._run, "/".join(self._run.folder.resolve().parts[-2:]), self._known)
        self._note(sent)  # of earlier parts of the run: what was handed over since is still to be delivered

    def _note(self, sent: int) -> None:
        if self._run.folder.exists():  # gone if the run's configuration was refused
            write_json(self._notes, {"id": self._known, "rows": sent})

    def go_on(self) -> None:
        rows: list[dict[str, float]] = []
        with suppress(OSError, ValueError):  # a file that cannot be read is the run's trouble, and told elsewhere
            rows = read_progress(self._run.folder / PROGRESS)[self._sent :]
        self._sent += len(rows)
        if rows:
            self._courier.hand(partial(self._hand, rows, self._sent))

    def _hand(self, rows: Sequence[Mapping[str, float]], sent: int) -> None:
        assert self._tracker is not None
        self._tracker.rows(rows)
        self._note(sent)

    def end(self, error: BaseException | None) -> None:
        self.go_on()
        self._courier.hand(partial(self._end, error))
        self._courier.close(60.0 if self._tracker is None else self._tracker.wait_s)

    def _end(self, error: BaseException | None) -> None:
        assert self._tracker is not None
        folder = self._run.folder
        summary = _read(folder / SUMMARY) or {"status": "failed", "error": str(error)}
        self._tracker.end(folder, summary, [folder / name for name in FILES if (folder / name).exists()])


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
