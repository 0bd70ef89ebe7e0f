"""The interfaces by name, and how a configuration's one is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...inference.settings import named
from .base import ActionInterface

INTERFACES: Mapping[str, str] = {
    "decode": ".envs.interfaces.decode:Decode",
    "plain": ".envs.interfaces.plain:Plain",
    "propose_select": ".envs.interfaces.propose_select:ProposeSelect",
    "route": ".envs.interfaces.route:Route",
    "select": ".envs.interfaces.select:Select",
    "strategy": ".envs.interfaces.strategy:Strategy",
    "strategy_decode": ".envs.interfaces.decode:StrategyDecode",
    "text": ".envs.interfaces.text:Text",
}


def make_interface(settings: Mapping[str, Any] | str, *, custom: bool = True) -> ActionInterface:
    """Builds the interface that ``settings["name"]`` names.

    Args:
        settings: A name, or a mapping with ``name`` and constructor arguments.
        custom: Whether ``name`` may be a dotted path ``package.module:Class``.

    Raises:
        ConfigError: If the name is unknown or an argument is refused.
    """
    interface: ActionInterface = named(INTERFACES, settings, "interface", custom=custom)
    return interface
