"""Makes every judge an option of Hydra's config group ``judge``; called before a configuration is composed."""

from __future__ import annotations

from dataclasses import MISSING, fields, make_dataclass
from dataclasses import field as dataclass_field
from typing import Any, get_type_hints

from ..core.errors import PluginError
from .manager import Plugins
from .registrar import RESERVED, JudgeSpec


def publish(registry: Plugins) -> None:
    """Stores ``judge/<name>`` for every judge: its own settings, typed, beside ``name`` and those of `Weighted`.

    So ``+judge@judges.tox=toxicity judges.tox.weight=0.5`` works, with a typed error for a misspelt setting.

    Args:
        registry: All plugins.

    Raises:
        PluginError: If a judge's config has a field without a default, or of a type that Hydra cannot check.
    """
    from hydra.core.config_store import ConfigStore
    from omegaconf.errors import OmegaConfBaseException

    store = ConfigStore.instance()
    for spec in registry.judges.values():
        try:
            store.store(group="judge", name=spec.name, node=node(spec), provider=spec.plugin)
        except (OmegaConfBaseException, NameError) as error:
            raise PluginError(f"judge `{spec.name}` of `{spec.plugin}`: its settings are refused: {error}") from error


def node(spec: JudgeSpec) -> type:
    """Makes the dataclass of a judge's settings: its own, ``name`` and those of `Weighted`.

    Args:
        spec: The registered judge.

    Returns:
        The dataclass.

    Raises:
        PluginError: If a setting has no default.
    """
    own = []
    hints = get_type_hints(spec.config) if spec.config else {}
    for entry in fields(spec.config) if spec.config else ():
        if entry.default is MISSING and entry.default_factory is MISSING:
            raise PluginError(f"judge `{spec.name}` of `{spec.plugin}`: setting `{entry.name}` needs a default")
        default = dataclass_field(default=entry.default, default_factory=entry.default_factory)
        own.append((entry.name, hints[entry.name], default))
    common = [
        ("name", str, dataclass_field(default=spec.name)),
        ("weight", float, dataclass_field(default=1.0)),
        ("gate", bool, dataclass_field(default=False)),
        ("when", str, dataclass_field(default="turn")),
        ("length_control", bool, dataclass_field(default=False)),
        ("normalise", bool, dataclass_field(default=False)),
        ("clip", list[float] | None, dataclass_field(default=None)),
    ]
    # a copy, not a subclass: Hydra makes what comes from a frozen dataclass read-only
    return make_dataclass(f"{spec.name.title()}Judge", [*own, *common])


def defaults(spec: JudgeSpec) -> dict[str, Any]:
    """Lists a judge's own settings with their defaults, as Hydra composes them.

    Args:
        spec: The registered judge.

    Returns:
        Setting to default.

    Raises:
        PluginError: If a setting has no default.
    """
    from omegaconf import OmegaConf

    values: Any = OmegaConf.to_container(OmegaConf.structured(node(spec)))
    return {name: value for name, value in values.items() if name not in RESERVED}
