"""Words the errors of Hydra, OmegaConf and YAML on one line: full name of the setting, near miss, file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from .core.errors import near_miss

_NOISE = ("Set the environment variable", "full_key:", "object_type=", "reference_type=")
"""How those lines of Hydra's begin that help nobody who only mistyped a setting."""


def missing_package(error: BaseException) -> str | None:
    """Names the extra that installs a missing package; None for any other error."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    from importlib import metadata

    package = error.name.partition(".")[0]
    try:
        required = metadata.requires("duologue") or []
    except metadata.PackageNotFoundError:  # a checkout that is only on the path
        return None
    for line in required:
        found = re.match(r"([\w.-]+).*;.*extra == ['\"]([\w-]+)['\"]", line)
        if found and _MODULES.get(found[1], re.sub(r"[-.]", "_", found[1].lower())) == package:
            return f"this needs the package `{found[1]}`: run `pip install 'duologue[{found[2]}]'`"
    return None


_MODULES = {"alt-profanity-check": "profanity_check", "lingua-language-detector": "lingua", "mlflow-skinny": "mlflow"}
"""Packages whose module is called otherwise than they are."""


def is_worded(error: Exception) -> bool:
    """Whether `worded` can word this error: an unreadable configuration, or a missing package."""
    if missing_package(error) is not None:
        return True
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    return isinstance(error, HydraException | OmegaConfBaseException | YAMLError)


def worded(error: Exception) -> str:
    """An error of reading the configuration, or of a missing package, on one line, with the cure."""
    if (missing := missing_package(error)) is not None:
        return missing
    from hydra.errors import MissingConfigException, OverrideParseException
    from omegaconf.errors import (
        ConfigAttributeError,
        ConfigKeyError,
        InterpolationResolutionError,
        MissingMandatoryValue,
    )
    from yaml import YAMLError

    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = error.__cause__ or error.__context__
    if isinstance(error, YAMLError):
        return _yaml(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"the group `{group}` has no `{name}`: {near_miss(name, error.options)}"
    if isinstance(error, OverrideParseException):
        return f"`{error.override}` cannot be read: write name=value, and 'name=\"value\"' around special characters"
    if isinstance(error, InterpolationResolutionError) and (
        source := re.search(r"(?:trying to access |Interpolation key ')([\w.]+)", lines[0])
    ):
        return f"`{error.full_key}` takes its value from `{source[1]}`, which is not there: set one of the two"
    if isinstance(error, MissingMandatoryValue):
        return f"`{error.full_key}` is missing: set it to a value"
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        known = cause.parent_node if isinstance(cause.parent_node, Mapping) else ()
        names = [str(name) for name in known if name != "hydra"]
        hint = lines[-1] if lines[-1].startswith("To append") else ""
        return f"`{cause.full_key}` is not in the configuration: {near_miss(str(cause.key), names)} {hint}"
    reason = [str(cause).splitlines()[0]] if cause is not None and str(cause) else []
    return ": ".join([" ".join(line for line in lines if not line.startswith(_NOISE)), *reason])


def _yaml(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"{mark.name}, line {mark.line + 1}" if mark else "a configuration file"
    return f"{place}: this is no YAML ({getattr(error, 'problem', None) or error})"


def misspelt_part(config: Mapping[str, Any], known: Sequence[str]) -> str | None:
    """Words the mistake of a misspelt part of the configuration.

    Other names are left alone, since a plugin may read them.

    Args:
        config: The composed configuration.
        known: The names of the command's own parts.

    Returns:
        The message; None if there is no such part.
    """
    for name in config:
        if name not in known and (hint := near_miss(str(name), known)).startswith("did you mean"):
            return f"`{name}` is not in the configuration: {hint}"
    return None


def unfit_part(config: Mapping[str, Any], overrides: Sequence[str], known: Mapping[str, Sequence[str]]) -> str | None:
    """Words the mistake of a part that must be a mapping and is not.

    Args:
        config: The composed configuration, as far as there is one.
        overrides: The command line, which Hydra refuses in words of its own where it sets such a part to null or to a list.
        known: The parts that must, with the options that they can be chosen from.

    Returns:
        The message; None if there is no such part.
    """
    given = {
        name: "null" if value is None else str(value)
        for name, value in config.items()
        if not isinstance(value, Mapping)
    }
    words = (override.lstrip("+").partition("=") for override in overrides)
    given |= {name: value for name, _, value in words if value == "null" or value.startswith("[")}
    for name, options in known.items():
        if name in given:
            cure = f"choose one of {', '.join(options)}"
            if name == "judges":
                cure = "add one by `+judge@judges.NAME=JUDGE`, or write `~judges.NAME` to leave one out"
            return f"`{name}` must hold settings by name, not {given[name]}: {cure}"
    return None


def with_file(message: str, arguments: Sequence[str]) -> str:
    """Adds the user's own file to a message about one of its settings.

    Args:
        message: With the setting's name between the first backticks.
        arguments: The command line, which names the folder (``--config-dir``) and the files (``experiment=mine``).

    Returns:
        The message.
    """
    found = re.search(r"`([\w.@/-]+?)(?:=[^`]*)?`", message)
    option = re.match(r"the group `[^`]+` has no `([^`]+)`", message)
    if option is not None and not any(argument.endswith(f"={option[1]}") for argument in arguments):
        holding = [path for path in _files(arguments) if re.search(rf"\b{re.escape(option[1])}\b", _text(path))]
        return f"{holding[0]}: {message}" if holding else message
    if found is None or any(argument.lstrip("+~").startswith(f"{found[1]}=") for argument in arguments):
        return message
    for path in _files(arguments):
        if _holds(path, found[1].split(".")):
            return f"{path}: {message}"
    return message


def _files(arguments: Sequence[str]) -> Iterator[Path]:
    """The files of the user's configuration folder that the command line chooses."""
    folders = [argument.partition("=")[2] for argument in arguments if argument.startswith("--config-dir=")]
    folders += [folder for flag, folder in pairwise(arguments) if flag in ("--config-dir", "-cd")]
    for argument in arguments:
        group, equals, name = argument.lstrip("+").partition("=")
        for folder in folders if equals else ():
            path = Path(folder, group.partition("@")[0], f"{name}.yaml")
            if path.is_file():
                yield path


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def not_utf8(arguments: Sequence[str]) -> Path | None:
    """The first of the user's configuration files that is not UTF-8; None if there is none."""
    return next((path for path in _files(arguments) if "\ufffd" in _text(path)), None)


def _holds(path: Path, names: Sequence[str]) -> bool:
    """Whether the file sets this name; a group's file may leave out the group's own part."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return any(_reaches(content, names[start:]) for start in range(len(names)))


def _reaches(content: object, names: Sequence[str]) -> bool:
    for name in names:
        if not isinstance(content, Mapping) or name not in content:
            return False
        content = content[name]
    return True
