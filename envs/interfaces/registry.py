"""The interfaces by name, and how a configuration's one is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core.errors import ConfigError
from ...core.settings import named
from .base import ActionInterface

INTERFACES: Mapping[str, str] = {
    "decode": ".envs.interfaces.one_phase:Decode",
    "plain": ".envs.interfaces.one_phase:Plain",
    "propose_select": ".envs.interfaces.select:ProposeSelect",
    "route": ".envs.interfaces.one_phase:Route",
    "select": ".envs.interfaces.select:Select",
    "strategy": ".envs.interfaces.one_phase:Strategy",
    "strategy_decode": ".envs.interfaces.one_phase:StrategyDecode",
    "text": ".envs.interfaces.text:Text",
}


def make_interface(settings: Mapping[str, Any] | str, *, custom: bool = True) -> ActionInterface:
    """Builds the interface that ``settings["name"]`` names.

    Args:
        settings: A name, or a mapping with ``name`` and constructor arguments.
        custom: Whether ``name`` may be a dotted path ``package.module:Class``.

    Returns:
        The interface.

    Raises:
        ConfigError: If the name is unknown or an argument is refused.
    """
    if not settings:
        raise ConfigError(f"`interface` is empty: choose one of {', '.join(sorted(INTERFACES))}")
    name = settings if isinstance(settings, str) else str(settings.get("name"))
    try:
        interface = named(INTERFACES, settings, "interface", custom=custom)
    except ConfigError as error:
        if name in INTERFACES or ":" not in name or "is not a setting" not in str(error):
            raise
        raise ConfigError(
            f"{error}. Leave the default interface's settings out by `interface=own interface.name={name}`"
        ) from error
    if not isinstance(interface, ActionInterface):
        raise ConfigError(f"`interface.name={name}` is no `ActionInterface`: derive the class from it")
    return interface
