"""Turns a mapping of settings (YAML, JSON, ``name=value``) into a constructor call; errors name the near miss.

Constructor signatures are the schema: YAML holds values only, and nothing here imports Hydra.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from string import Formatter
from typing import Any, TypeVar

from .errors import ConfigError, near_miss

T = TypeVar("T")


def construct(make: Callable[..., T], settings: Mapping[str, Any], where: str, **extra: Any) -> T:
    """Calls ``make(**settings)`` after checking every name against its signature.

    Args:
        make: A class or function with named parameters.
        settings: Values by parameter name.
        where: The settings' place in the configuration, for the error message, such as ``interface``.
        **extra: Arguments that the program supplies; passed only where ``make`` names them.

    Returns:
        What ``make`` returns.

    Raises:
        ConfigError: For an unknown or missing name, or a value that ``make`` refuses with TypeError or ValueError.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"`{where}` must hold settings by name, not {settings!r}")
    parameters = inspect.signature(make).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = [n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not open_ended:
        for key in settings:
            if key not in names or key in extra:
                choices = [n for n in names if n not in extra]
                raise ConfigError(f"`{where}.{key}` is not a setting here: {near_miss(str(key), choices)}")
    supplied = {n: v for n, v in extra.items() if n in names}
    required = [n for n in names if parameters[n].default is inspect.Parameter.empty]
    missing = [n for n in required if n not in settings and n not in supplied]
    if missing:
        raise ConfigError(f"`{where}.{missing[0]}` is missing: set it to a value")
    hints = _hints(make)
    for name, value in settings.items():
        if name in hints and not _fits(value, hints[name]):
            raise ConfigError(f"`{where}.{name}` must be {_worded(hints[name])}, not {value!r}")
    try:
        return make(**settings, **supplied)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"`{where}` was refused: {error}") from error


def named(
    registry: Mapping[str, str], settings: Mapping[str, Any] | str, where: str, *, custom: bool = True, **extra: Any
) -> Any:
    """Builds the part that ``settings["name"]`` names.

    Args:
        registry: Name to ``package.module:Class``; imported only when chosen.
        settings: A name, or a mapping with ``name`` and constructor arguments.
        where: The settings' place in the configuration, for error messages.
        custom: Whether a dotted path ``package.module:Class`` is accepted as a name. False for settings that
            come from a file that a stranger may have written.
        **extra: Passed on to `construct`.

    Returns:
        The constructed part.

    Raises:
        ConfigError: If the name is unknown, the import fails or an argument is refused.
    """
    values = {"name": settings} if isinstance(settings, str) else dict(settings or {})
    name = values.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"`{where}.name` is missing: {near_miss('', registry)}")
    if name in registry:
        return construct(load(registry[name], where), values, where, **extra)
    if custom and ":" in name:
        return construct(load(name, where), values, where, **extra)
    if ":" in name:
        raise ConfigError(
            f"`{where}.name={name}` names code outside Duologue, which is only imported with `trusted=true`: set it if you "
            "know where this comes from"
        )
    hint = " or a dotted path `package.module:Class`" if custom else ""
    raise ConfigError(f"`{where}.name={name}` is unknown: {near_miss(name, registry)}{hint}")


def _hints(make: Callable[..., Any]) -> dict[str, Any]:
    """The types of ``make``'s parameters, as far as they can be found."""
    function = getattr(make, "__init__") if isinstance(make, type) else make  # noqa: B009  (mypy doubts the plain form)
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # a stranger's annotations need not resolve at run time
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value fits a type; types unknown to YAML always fit."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    kind = typing.get_origin(hint) or hint
    if kind is typing.Literal:
        return value in typing.get_args(hint)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in (str, bool, type(None)):
        return isinstance(value, kind)
    if kind in (list, tuple, Sequence):
        return isinstance(value, list | tuple)
    return isinstance(value, Mapping) if kind in (dict, Mapping) else True


def _worded(hint: Any) -> str:
    """A type as people write it: ``int or null``."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_worded(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(str(value) for value in typing.get_args(hint))
    kind = typing.get_origin(hint) or hint
    if kind in (list, tuple, Sequence):
        return "a list"
    if kind in (dict, Mapping):
        return "settings by name"
    names = {type(None): "null", str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(hint) or str(getattr(kind, "__name__", kind))


def load(path: str, where: str) -> Callable[..., Any]:
    """Imports ``package.module:attribute`` or ``package.module.attribute``.

    A path that starts with a dot is inside this package.

    Args:
        path: A dotted path.
        where: The setting's full name, for error messages.

    Returns:
        The function or class.

    Raises:
        ConfigError: If the module or the attribute cannot be imported, or is nothing that can be called.
    """
    module, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    package = __name__.rpartition(".")[0].rpartition(".")[0]
    try:
        found: Callable[..., Any] = getattr(import_module(module, package), attribute)
    except (ImportError, AttributeError, ValueError) as error:  # ValueError: no module before the colon
        raise ConfigError(f"`{where}`: cannot import `{path}`: {error}") from error
    if not callable(found):
        raise ConfigError(f"`{where}`: `{path}` is no class or function")
    return found


def check_template(setting: str, text: str, names: Sequence[str], needed: Sequence[str] = ()) -> None:
    """Refuses a template that could not be filled in.

    Args:
        setting: Name in the configuration.
        text: The template, with placeholders such as ``{reply}``.
        names: The placeholders that are known.
        needed: Those of them that it must hold.

    Raises:
        ValueError: If it holds another placeholder, one with a format (``{reply:>9}``, which could be of any length), a brace
            that belongs to none, or lacks one that is needed.
    """
    allowed = " and ".join(filter(None, [", ".join(f"{{{name}}}" for name in names[:-1]), f"{{{names[-1]}}}"]))
    held = set()
    try:
        for _, name, spec, conversion in Formatter().parse(text):
            if name is not None and (name not in names or spec or conversion):
                raise ValueError(
                    f"{{{name}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}}} is another"
                )
            held.add(name)
    except ValueError as error:
        raise ValueError(
            f"`{setting}` may only hold {allowed}: {error}; a brace that is meant as one is written twice"
        ) from error
    if missing := [name for name in needed if name not in held]:
        raise ValueError(f"`{setting}` must hold {{{missing[0]}}}, and is {text!r}")


def read_arguments(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Parts the words from the options.

    Args:
        arguments: As they were typed.

    Returns:
        The words in order, among them any name of a file or folder that exists; and the options, whose values are numbers, booleans or null where they read as such.
    """
    words, options = [], {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if equals and name.isidentifier() and not Path(argument).exists():
            options[name] = _value(text)
        else:
            words.append(argument)
    return words, options


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) or value is None else text
