"""`resume=<run folder>`: the configuration of a run that was ended or killed, with the few changes that it can bear."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError
from ..core.files import MOST_BYTES, read_json
from ..core.run_files import CONFIG, SUMMARY
from ..inference.cassette.cassette import DEFAULT_PLACE

_MAY_CHANGE = re.compile(
    r"inference\.(budget|retries|cassette)\..+"
    r"|inference\.\w+\.(api_key_env|max_concurrency|requests_per_minute|tokens_per_minute|adaptive|timeout_s|deadline_s|max_retries)"
    r"|inference\.\w+\.price\.\w+"
    r"|agent\.max_failure_fraction"
)
"""What decides how the endpoint is asked and what it may cost, and not what comes out."""


def decisive(config: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Removes the settings that a resumed run may change; runs that agree in the rest are comparable.

    Args:
        config: The configuration, or a part of it.
        place: The part's name with a dot behind it; empty for the whole.

    Returns:
        The remaining configuration.
    """
    kept = {}
    for name, value in config.items():
        if _MAY_CHANGE.fullmatch(f"{place}{name}") or _MAY_CHANGE.fullmatch(f"{place}{name}.any"):
            continue
        kept[name] = decisive(value, f"{place}{name}.") if isinstance(value, Mapping) else value
    return kept


def anchored(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose cassette and shared budget have absolute paths: from another folder others would be meant."""
    inference = config.get("inference")
    if not isinstance(inference, Mapping):
        return dict(config)
    cassette = {"path": DEFAULT_PLACE, **(inference.get("cassette") or {})}
    found = {**inference, "cassette": {**cassette, "path": _absolute(cassette["path"])}}
    budget = inference.get("budget")
    if isinstance(budget, Mapping) and budget.get("shared"):
        found["budget"] = {**budget, "shared": _absolute(budget["shared"])}
    return {**config, "inference": found}


def _absolute(place: str) -> str:
    return place if "://" in str(place) else str(Path(place).expanduser().absolute())


def resumed(command: str, folder: Path, changes: Sequence[str]) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Reads the configuration of a run folder.

    Args:
        command: The command that is to go on; it must be the one that made the folder.
        folder: The run folder, or a link to it.
        changes: Further ``name=value`` of the command line.

    Returns:
        The configuration, and the folder's summary.

    Raises:
        ConfigError: If it is no run folder of this command, or a change would change the results.
    """
    try:
        config, summary = (read_json(folder / name, dict, MOST_BYTES) for name in (CONFIG, SUMMARY))
        made_by = summary["command"]
    except (ConfigError, KeyError) as error:
        raise ConfigError(f"{folder} is no run folder ({error}): give one that `duologue {command}` made") from error
    if made_by != command:
        raise ConfigError(f"{folder} was made by `duologue {made_by}`: resume it with that command")
    for change in changes:
        _apply(config, change)
    return anchored(config), summary


def _apply(config: dict[str, Any], change: str) -> None:
    """Sets one ``name=value``; readers of the configuration check the value."""
    name, equals, text = change.partition("=")
    name = name.lstrip("+")
    if not equals or not _MAY_CHANGE.fullmatch(name):
        raise ConfigError(
            f"`{change}` cannot be changed in a run that goes on, because its results could not be compared: only "
            "limits, retries, prices and the cassette can. Start a new run: the cassette has the answers"
        )
    *path, last = name.split(".")
    place = config
    for part in path:
        if place.get(part) is None:
            place[part] = {}
        place = place[part]
        if not isinstance(place, dict):
            raise ConfigError(f"`{change}` cannot be set: `{part}` is {place!r} in the folder's configuration")
    try:
        place[last] = json.loads(text)
    except ValueError:  # a text, such as a path
        place[last] = text
