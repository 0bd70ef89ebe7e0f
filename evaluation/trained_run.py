"""The configuration of the run that trained a bundle: what `duologue evaluate bundle=…` uses where the user chose nothing.

A bundle and its run folder may come from somebody else. Unless the user trusts them, they name no address, no variable of a
key, no file to write, and no code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..inference.errors import ConfigError
from ..inference.saying import say
from ..plugins.places import CONFIG

_CODE = re.compile(r"[\w.]+:[A-Za-z_]\w*")
"""`package.module:attribute`, as settings name code."""

_ROLES = ("assistant", "judge", "user")


def chosen(values: Mapping[str, Any], defaults: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The part of a configuration that the user chose.

    Args:
        values: The composed configuration.
        defaults: The same without the user's choices.
        names: Settings that the command line names, such as ``evaluation.split``: chosen also where they equal the default.

    Returns:
        Nested settings: those that are named, and those that differ.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = [name.partition(".")[2] for name in names if name.partition(".")[0] == key]
        default = defaults.get(key)
        if "" in inner or not isinstance(value, Mapping) or _other_part(value, default):
            if "" in inner or value != default:
                found[key] = value
        elif part := chosen(value, default or {}, inner):
            found[key] = part
    return found


def _other_part(value: Mapping[str, Any], default: Any) -> bool:
    """Whether two mappings are settings of different parts, of which the one says nothing about the other."""
    return not isinstance(default, Mapping) or value.get("name") != default.get("name")


def with_choices(settings: Any, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the user's choices in place."""
    made = dict(settings or {})
    for key, value in choices.items():
        old = made.get(key)
        nested = isinstance(value, Mapping) and isinstance(old, Mapping)
        other = nested and "name" in value and value["name"] != old["name"] if nested and "name" in old else False
        made[key] = with_choices(old, value) if nested and not other else value
    return made


def of_trained_run(config: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of an evaluation: the user's choices, else those of the run that made the bundle.

    Args:
        config: The composed configuration, with ``bundle``.
        choices: The part of it that the user chose, see `chosen`.

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
        _refuse_foreign("env.user", made["env"].get("user"), choices.get("env", {}).get("user"))
        _refuse_foreign("evaluation.judge", made["evaluation"].get("judge"), choices.get("evaluation", {}).get("judge"))
    made["inference"] = _inference(config["inference"], run.get("inference") or {}, choices.get("inference"), trusted)
    return made


def _read(path: Path) -> dict[str, Any] | None:
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


def _refuse_foreign(where: str, settings: Any, choice: Any) -> None:
    """Refuses what an untrusted run must not decide."""
    if settings == choice:
        return
    for name, value in _leaves(where, settings):
        address = name.rpartition(".")[2] in ("base_url", "api_key_env") and value is not None
        if address or (isinstance(value, str) and _CODE.fullmatch(value)):
            raise ConfigError(
                f"`{name}={value}` is what the bundle's run used, and a bundle may come from somebody else: set "
                "`trusted=true` if it is yours, or choose it on the command line"
            )


def _leaves(where: str, settings: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            yield from _leaves(f"{where}.{name}", value)
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
