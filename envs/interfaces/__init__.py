"""Action interfaces: what the policy decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...inference.settings import named
from .base import ActionInterface, Request
from .plain import Plain
from .select import Select
from .strategy import Strategy

INTERFACES: Mapping[str, str] = {
    "plain": ".envs.interfaces.plain:Plain",
    "select": ".envs.interfaces.select:Select",
    "strategy": ".envs.interfaces.strategy:Strategy",
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


__all__ = ["INTERFACES", "ActionInterface", "Plain", "Request", "Select", "Strategy", "make_interface"]
