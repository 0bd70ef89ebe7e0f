"""Runs a command with the configuration that Hydra composes: once, or once for every combination of a multirun."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from .commands.table import COMMANDS


def run_composed(name: str, overrides: Sequence[str], as_json: bool = False) -> None:
    """Composes the configuration and runs the command.

    Args:
        name: A key of `COMMANDS`.
        overrides: Hydra's: values, groups, flags such as ``-m``; and ``--workers N``.
        as_json: See `play`.

    Raises:
        Exception: What the command raised; of a multirun see `multirun.concluded`.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig, OmegaConf

    from . import job_processes, multirun
    from .plugins.manager import plugins
    from .plugins.publish import publish
    from .run.jobs import objective
    from .run.run_folder import refuse_used

    _check_settings({}, overrides)
    publish(plugins())
    failures: list[BaseException] = []

    def played(config: DictConfig, folder: Path) -> Any:
        try:
            refuse_used(name, folder)
            _check_parts(name, config)
            values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            _check_key(name, values)
            if name == "evaluate":
                values = _as_trained(values, HydraConfig.get().overrides.task)
            return play(name, values, folder, as_json)
        finally:
            _remove_if_empty(folder)  # of commands that leave nothing

    @hydra.main(version_base="1.3", config_path="pkg://duologue.conf", config_name=name)
    def job(config: DictConfig) -> float | None:
        composed = HydraConfig.get()
        folder = shown(Path(composed.runtime.output_dir))
        if composed.mode == RunMode.MULTIRUN or not OmegaConf.is_missing(composed.job, "num"):
            value = None  # as a sweeper that searches takes a failure: of NaN it would make an error
            with multirun.recorded(folder, composed.job.num, composed.overrides.task):
                value = objective(played(config, folder))
            _remove_if_empty(folder)
            return value
        try:
            played(config, folder)
        except BaseException as error:
            failures.append(error)
            if not isinstance(error, Exception):
                raise
        return None

    words = multirun.split_command_line(overrides)
    job_processes.Processes.register(job_processes.CommandLine(name, words.flags, as_json))
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands errors on, and the door words them
    sys.argv = [f"duologue {name}", *words.flags, *words.values]
    with multirun.concluded():
        job()
    if failures:
        raise failures[0] from None


def _as_trained(values: Mapping[str, Any], overrides: Sequence[str]) -> Mapping[str, Any]:
    """Completes the configuration with that of the run that made the bundle.

    Args:
        values: The composed configuration.
        overrides: Hydra's, of the command line.
    """
    from hydra import compose
    from omegaconf import OmegaConf

    from .commands.table import function

    defaults = OmegaConf.to_container(compose("evaluate"), resolve=True, throw_on_missing=False)
    keys = [override.lstrip("+~").partition("=")[0] for override in overrides]
    names = [(key.partition("@")[2] or key).replace("/", ".") for key in keys]
    choices = function(".evaluation.trained_run:chosen")(values, defaults, names)
    merged: Any = function(".evaluation.trained_run:of_trained_run")(values, choices)
    return merged  # type: ignore[no-any-return]


def task_overrides(arguments: Sequence[str]) -> list[str]:
    """Turns ``bench bargain …`` into overrides; a game is played by rules unless another ``inference`` is chosen.

    Args:
        arguments: What follows ``bench``: a task's name, or none, and overrides.

    Returns:
        The overrides.
    """
    task, *rest = arguments or [""]
    if not task.isidentifier():
        return list(arguments)
    from .envs.scenarios.scenario import GAMES

    chosen = any(argument.startswith("inference=") for argument in rest)
    return [f"experiment={task}", *([] if chosen or task not in GAMES else ["inference=rules"]), *rest]


def play(name: str, config: Mapping[str, Any], folder: Path, as_json: bool) -> Any:
    """Calls the function behind a command.

    Args:
        name: A key of `COMMANDS`.
        config: The resolved configuration.
        folder: The run folder.
        as_json: Whether standard output gets the results as one line of JSON, and standard error all else.

    Returns:
        What the function returns: what ``summary.json`` says of the run, for most.

    Raises:
        ConfigError: With ``error`` of what it returns, if that is there: it was printed all the same.
    """
    from .commands.table import function
    from .core.errors import ConfigError

    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # for functions and classes of the user's own, `my_judge:score`
    target = function(COMMANDS[name].target)
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        summary: Any = target(config, folder)
    if as_json:
        place = {"folder": str(folder)} if folder.exists() and any(folder.iterdir()) else {}
        print(json.dumps({**place, **(summary or {})}))  # noqa: T201
    if isinstance(summary, Mapping) and "error" in summary:
        raise ConfigError(summary["error"])
    return summary


def _check_parts(name: str, config: Mapping[str, Any]) -> None:
    """Refuses an unknown part of the configuration; Hydra accepts any part from a file.

    Raises:
        ConfigError: If there is one.
    """
    import yaml

    from .core.errors import ConfigError
    from .wording import misspelt_part

    if config.get("experiment"):
        raise ConfigError(
            "the file that `experiment` names sets nothing, because its first line is not `# @package _global_`: put that line "
            "at its very beginning"
        )
    known: list[str] = []
    for file in (f"{name}.yaml", "base.yaml"):
        content = yaml.safe_load((_CONF / file).read_text(encoding="utf-8"))
        groups = [next(iter(entry)) for entry in content.pop("defaults", []) if isinstance(entry, dict)]
        known += [*content, *(group.partition("@")[0].rpartition(" ")[2] for group in groups)]
    if problem := misspelt_part(config, [*known, "judges"]):
        raise ConfigError(problem)
    _check_settings(config)


_CONF = Path(__file__).parent / "conf"
_PARTS = ("inference", "env", "interface", "encoder", "agent", "evaluation", "judges")
"""What must hold settings by name."""


def _check_settings(config: Mapping[str, Any], overrides: Sequence[str] = ()) -> None:
    """Refuses a part without settings.

    Raises:
        ConfigError: If there is one.
    """
    from .core.errors import ConfigError
    from .wording import unfit_part

    options = {part: sorted(path.stem for path in (_CONF / part).glob("*.yaml")) for part in _PARTS}
    if problem := unfit_part(config, overrides, options):
        raise ConfigError(problem)


_ASKING = ("train", "run", "evaluate", "bench", "pairs")
"""Commands that always ask the assistant."""


def _check_key(name: str, values: Mapping[str, Any]) -> None:
    """Says that the assistant's key is missing before anything is imported that takes seconds.

    Where there is a cassette it may hold all answers, and the run then needs no key.

    Raises:
        ConfigError: If a value of the endpoint is refused.
        EndpointRefused: If the variable that should hold the key is not set.
    """
    if name not in _ASKING or (values.get("interface") or {}).get("name") == "text":
        return
    from .inference.endpoint import Endpoint

    inference = values["inference"]
    cassette = inference.get("cassette") or {}
    path = Path(str(cassette.get("path", "")))
    if cassette.get("mode") == "off" or (
        cassette.get("mode") == "record" and "://" not in str(path) and not path.exists()
    ):
        Endpoint.from_settings(inference.get("assistant") or {}, "inference.assistant").api_key()


def shown(folder: Path) -> Path:
    """The folder relative to where we are, if it lies below; where we are itself keeps its name."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) and folder != here else folder


def _remove_if_empty(folder: Path) -> None:
    """Removes the folder and those above it, below where we are, that it leaves empty."""
    for place in (folder, *folder.parents):
        try:
            if place.is_absolute() and place != folder:
                return
            place.rmdir()
        except FileNotFoundError:
            continue
        except OSError:  # not empty; or where we are
            return
