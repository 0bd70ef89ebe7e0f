"""The configuration of the run that trained a bundle: what `duologue evaluate bundle=…` uses where the user chose nothing.

A bundle and its run folder may come from somebody else. Unless the user trusts them, they name no address, no variable of a
key, no file and no code: of texts only plain words are taken, such as the names of shipped sets and judges.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.console import say
from ..core.errors import ConfigError
from ..core.run_files import CONFIG
from ..envs.scenarios.loading import SHIPPED
from ..envs.scenarios.scenario import GAMES
from ..plugins.manager import plugins
from ..plugins.publish import defaults

_WORD = re.compile(r"[a-z_]+")
"""A text that names no address, no code (`module.attribute`, `module:attribute`) and no file with an ending."""

_MOST_BYTES = 10_000_000
_ROLES = ("assistant", "judge", "user")


def chosen(values: Mapping[str, Any], without: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The part of a configuration that the user chose.

    Args:
        values: The composed configuration.
        without: The same without the user's choices.
        names: Settings that the command line names, such as ``evaluation.split``: chosen also where they equal the default.

    Returns:
        Nested settings: those that are named, and those that differ.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = [name.partition(".")[2] for name in names if name.partition(".")[0] == key]
        default = without.get(key)
        if "" in inner or not isinstance(value, Mapping) or _other_part(value, default):
            if "" in inner or value != default:
                found[key] = value
        elif part := chosen(value, default or {}, inner):
            found[key] = part
    return found


def _other_part(value: Mapping[str, Any], default: Any) -> bool:
    """Whether two mappings are settings of different parts, so that neither replaces the other."""
    return not isinstance(default, Mapping) or value.get("name") != default.get("name")


def with_choices(settings: Any, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the user's choices in place."""
    made = dict(settings or {})
    for key, value in choices.items():
        old = made.get(key)
        if (
            isinstance(value, Mapping)
            and isinstance(old, Mapping)
            and value.get("name", old.get("name")) == old.get("name")
        ):
            value = with_choices(old, value)
        made[key] = value
    return made


def of_trained_run(config: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """Completes an evaluation's configuration with that of the run that made the bundle.

    Args:
        config: The composed configuration, with ``bundle``.
        choices: The part of it that the user chose, see `chosen`.

    Returns:
        The configuration.

    Raises:
        ConfigError: If a choice contradicts the bundle, or the run names an address or code and is not trusted.
    """
    given = Path(str(config["bundle"]))
    bundle = given / "bundle" if (given / "bundle").is_dir() else given
    record = _read(bundle / "policy.json")
    if record is None:
        return dict(config)  # `load_bundle` says what is wrong with it
    _refuse_contradictions(choices, record, bundle)
    run = _read(bundle.parent / CONFIG)
    if run is None:
        if "scenarios" not in choices.get("env", {}):
            source = config["env"]["scenarios"]
            say(f"Beside {bundle} lies no {CONFIG} of its run: the scenarios are `env.scenarios={source}`.")
        return dict(config)
    trusted = bool(config.get("trusted"))
    made = {**config, "interface": record.get("interface"), "encoder": record.get("encoder")}
    for part in ("env", "evaluation"):
        made[part] = with_choices(config[part] if part not in run else run[part], choices.get(part, {}))
    if not trusted:
        made["evaluation"]["judge_check"] = choices.get("evaluation", {}).get("judge_check")
        for part in ("env", "evaluation"):
            _refuse_foreign(part, made[part], choices.get(part, {}))
    made["inference"] = _inference(config["inference"], run.get("inference") or {}, choices.get("inference"), trusted)
    return made


def _read(path: Path) -> dict[str, Any] | None:
    """The object of a JSON file; None where there is no such file, or it is none or too large."""
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse_contradictions(choices: Mapping[str, Any], record: Mapping[str, Any], bundle: Path) -> None:
    task = {f"env.{name}": value for name, value in (record.get("task") or {}).items()}
    wanted = {f"env.{name}": value for name, value in choices.get("env", {}).items()}
    for part in ("interface", "encoder"):
        own = record.get(part) or {}
        task |= {f"{part}.{name}": value for name, value in own.items()} | {part: own}
        settings = choices.get(part, {})
        wanted |= (
            {f"{part}.{name}": value for name, value in settings.items()}
            if isinstance(settings, Mapping)
            else {part: settings}
        )
    for name, value in wanted.items():
        if name in task and task[name] != value:
            raise ConfigError(
                f"`{name}` is part of the bundle {bundle}, which was trained with {task[name]!r}, not {value!r}: leave it "
                "out, or train another policy"
            )


def _refuse_foreign(part: str, settings: Mapping[str, Any], choices: Mapping[str, Any]) -> None:
    """Refuses what an untrusted run must not decide.

    Raises:
        ConfigError: At the first text that the user did not choose and that may name something outside Duologue.
    """
    known = dict(_leaves(part, choices))
    own = settings.get("judge")
    judge = plugins().judges.get(str(own.get("name") if isinstance(own, Mapping) else own))
    usual = set(_leaves(f"{part}.judge", {} if judge is None else defaults(judge)))
    for name, value in _leaves(part, settings):
        harmless = not isinstance(value, str) or name in known or (name, value) in usual
        if value and not harmless and not _harmless(name, value):
            raise ConfigError(
                f"`{name}={value}` is what the bundle's run used, and a bundle may come from somebody else: set "
                "`trusted=true` if it is yours, or choose it on the command line"
            )


def _harmless(name: str, value: str) -> bool:
    if name == "env.scenarios":
        return value in SHIPPED or value.partition(":")[0] in GAMES
    if name == "env.system":  # the bundle's own is used
        return True
    last = name.rpartition(".")[2]
    return bool(_WORD.fullmatch(value)) and last not in ("model", "api_key_env") and not Path(value).is_file()


def _leaves(where: str, settings: Any) -> Iterator[tuple[str, Any]]:
    """The plain values, by their full names; those of lists under the list's."""
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            yield from _leaves(f"{where}.{name}", value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _leaves(where, value)
    else:
        yield where, settings


def _inference(
    composed: Mapping[str, Any], run: Mapping[str, Any], choices: Mapping[str, Any] | None, trusted: bool
) -> dict[str, Any]:
    """The endpoints: the user's where any is chosen, else the run's."""
    if trusted:
        return with_choices(run or composed, choices or {})
    if any(role in (choices or {}) for role in _ROLES) or not run:
        return dict(composed)
    roles = {role: run.get(role) for role in _ROLES}
    for role, settings in roles.items():
        address = str(settings.get("base_url")) if isinstance(settings, Mapping) else None
        if address is not None and not address.startswith("embedded://"):
            raise ConfigError(
                f"the bundle's run asked `inference.{role}.base_url={address}`, and a bundle may come from somebody else: "
                "set `trusted=true` if it is yours, or name the endpoint, such as by `inference=openai "
                "inference.assistant.model=NAME`"
            )
    return {**composed, **roles}
