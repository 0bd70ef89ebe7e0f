"""The plugin that reports runs to trackers: configuration, curves while the run goes on, results."""

from __future__ import annotations

import json
import math
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ...core.console import printable
from ...core.errors import ConfigError, near_miss
from ...core.files import write_json
from ...core.run_files import CONFIG, PROGRESS, SUMMARY, read_progress
from ...core.settings import construct, load
from ..hookspecs import RunInfo, hookimpl


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted names with their values; lists and empty mappings stay as they are."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def final_figures(summary: Mapping[str, Any]) -> dict[str, float]:
    """Extracts the numbers of a summary: its own, and every contestant's win rate with its interval.

    Args:
        summary: ``summary.json``.

    Returns:
        Name to number.
    """
    found = {
        f"summary/{name}": float(value)
        for name, value in flat(
            {key: value for key, value in summary.items() if key not in ("version", "versions", "judge")}
        )
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    for row in summary.get("results") or ():
        for name in ("win_rate", "low", "high"):
            if row.get(name) is not None:
                found[f"evaluation/{row['contestant']}/{row['baseline']}/{name}"] = float(row[name])
    return found


class BackgroundWorker:
    """One tracker's thread. The first failure ends its work, with one line on standard error.

    Args:
        name: The tracker's, for that line.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._deliver, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def hand(self, work: Callable[[], object]) -> None:
        """Queues work behind earlier work; nothing runs after an error."""
        self._work.put(work)

    def close(self, timeout_s: float) -> None:
        """Waits for the work, so long at most."""
        self._work.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._say(f"it was still busy after {timeout_s:g} s, and is left behind")

    def _deliver(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except ModuleNotFoundError as error:
                self._say(f"it needs the package `{error.name}`: run `pip install 'duologue[trackers]'`")
                return
            except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever a stranger's client raises)
                self._say(f"{type(error).__name__}: {error}")
                return

    def _say(self, reason: str) -> None:
        line = f"tracker {self._name} was given up, and the run goes on without it: {reason}"
        print(printable(" ".join(line.split())[:600]), file=sys.stderr)  # noqa: T201


TRACKERS: Mapping[str, str] = {
    "mlflow": ".plugins.trackers.mlflow_tracker:MLflowTracker",
    "wandb": ".plugins.trackers.wandb_tracker:WandbTracker",
}
"""Classes by the name under which the part ``tracker`` of the configuration has their settings."""

FILES = ("report.html", "report.md", "report.json", "report.svg", SUMMARY, CONFIG, PROGRESS)
"""What of a run folder is handed over besides the bundle."""


class Tracker(Protocol):
    """One tracker of one run; all methods are called from one separate thread.

    Attributes:
        wait_s: Seconds for which the end of the run waits for it.
    """

    wait_s: float

    def begin(self, run: RunInfo, name: str, known: str | None) -> str:
        """Begins a run, or goes on with one.

        Args:
            run: The run.
            name: Name.
            known: Result of this method for an earlier part of a resumed run.

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
            files: Existing files of `FILES`.
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
        """Sends new rows of the curves."""
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
        self._background = BackgroundWorker(name)
        self._tracker: Tracker | None = None
        known = _read(self._notes)
        self._sent, self._known = int(known.get("rows", 0)), known.get("id")
        self._background.hand(partial(self._begin, name, settings, self._sent))

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
            self._background.hand(partial(self._hand, rows, self._sent))

    def _hand(self, rows: Sequence[Mapping[str, float]], sent: int) -> None:
        assert self._tracker is not None
        self._tracker.rows(rows)
        self._note(sent)

    def end(self, error: BaseException | None) -> None:
        self.go_on()
        self._background.hand(partial(self._end, error))
        self._background.close(60.0 if self._tracker is None else self._tracker.wait_s)

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
