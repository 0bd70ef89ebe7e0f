"""One run of a command: its folder, its summary and its lifecycle hooks."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..inference.errors import ConfigError, EndpointRefused, Interrupted, RunStopped
from ..inference.meter import Meter
from ..inference.saying import Console, say
from .json_file import write_json
from .lifecycle import RunInfo
from .manager import Plugins, plugins
from .places import CONFIG, SUMMARY

SUMMARY_VERSION = 1
"""Version of ``summary.json``'s keys; see docs/run-folder.md."""

_PACKAGES = (
    "duologue",
    "openai",
    "gymnasium",
    "stable-baselines3",
    "torch",
    "transformers",
    "trl",
    "peft",
    "numpy",
    "hydra-core",
)


_FEW_PROMPTS, _MANY_EQUAL = 8, 0.5
"""Prompts, and the share of them with equal candidates, from which on a run says so."""


class Run:
    """A run folder that is complete or not there.

    Inside the ``with`` block results go to `folder` and to `summary`; ``summary.json`` says ``running`` meanwhile. If the
    block ends because the user's configuration cannot work, and `keep` was not called, the folder is removed again, unless
    it held something before.

    Args:
        command: The command's name.
        folder: Where the results go; its parent also gets a link ``latest``.
        config: The resolved configuration.
        meter: What the run asked for.
        registry: Whose hooks are called; the process's plugins by default.

    Attributes:
        summary: What ``summary.json`` says besides what every run says.
        afterwards: Set inside the block: writes and shows what is made from the summary, once that is written and all went
            well. Plugins hear of the end after it.
    """

    def __init__(
        self, command: str, folder: Path, config: Mapping[str, Any], meter: Meter, registry: Plugins | None = None
    ) -> None:
        self.info = RunInfo(command, folder, config)
        self.summary: dict[str, Any] = {}
        self.afterwards: Callable[[], object] | None = None
        self._meter = meter
        self._hook = (registry or plugins()).hook
        self._kept = False
        self._start = time.monotonic()

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.info.folder

    @property
    def config_digest(self) -> str:
        """The first 16 hexadecimal digits of the configuration's SHA-256."""
        return hashlib.sha256(json.dumps(self.info.config, sort_keys=True).encode()).hexdigest()[:16]

    def keep(self) -> None:
        """Says that there are results worth keeping from here on."""
        self._kept = True

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._kept = any(self.folder.iterdir())  # what somebody else put there is not ours to remove
        write_json(self.folder / CONFIG, dict(self.info.config))
        self._write_summary("running")
        try:
            self._hook.duologue_run_start(run=self.info)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = error
        try:
            self._finish(error)
            if error is None and self.afterwards is not None:
                self.afterwards()
        except BaseException as late:
            ended = late
            raise
        finally:
            self._hook.duologue_run_end(run=self.info, error=ended)

    def _finish(self, error: BaseException | None) -> None:
        if isinstance(error, ConfigError | EndpointRefused) and not self._kept:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        if isinstance(error, RunStopped):
            error.resume = f"duologue {self.info.command} resume={self.folder}"
        self._write_summary(_status(error), error)
        _warn_of_equals(self._meter)
        point_latest(self.folder)

    def _write_summary(self, status: str, error: BaseException | None = None) -> None:
        summary = {
            "version": SUMMARY_VERSION,
            "status": status,
            "command": self.info.command,
            "seed": self.info.config.get("seed"),
            "config_digest": self.config_digest,
            "versions": versions(),
            "wall_s": round(time.monotonic() - self._start, 1),
            **self._meter.summary(),
            **({"error": f"{error}" or type(error).__name__} if error is not None else {}),
            **self.summary,
        }
        write_json(self.folder / SUMMARY, summary)


def _warn_of_equals(meter: Meter) -> None:
    """Says that candidates were the same, which no figure of a result shows: every contestant then ties."""
    share = meter.identical / max(meter.drawn, 1)
    if meter.drawn >= _FEW_PROMPTS and share >= _MANY_EQUAL:
        say(
            f"ALARM (identical candidates): for {share:.0%} of {meter.drawn:,} prompts all candidates were the same text, so there "
            "was nothing to choose. The server may ignore `temperature` or the seed: `duologue doctor` shows it",
            Console(stderr=True),
        )


def _status(error: BaseException | None) -> str:
    match error:
        case None:
            return "done"
        case KeyboardInterrupt() | Interrupted():
            return "interrupted"
        case RunStopped():
            return "stopped"
        case _:
            return "failed"


def versions() -> dict[str, str]:
    """Python's version and those of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def point_latest(folder: Path) -> None:
    """Points the link ``latest`` beside a folder to it."""
    link = folder.parent / "latest"
    fresh = link.with_name(f".latest-{os.getpid()}")
    try:
        fresh.symlink_to(folder.name)
        fresh.replace(link)
    except OSError:  # no links on this file system: a convenience less
        fresh.unlink(missing_ok=True)
