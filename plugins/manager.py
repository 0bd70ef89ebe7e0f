"""Finds plugins, keeps the table of judges and builds the ones that a run selects.

Built-in judges register through the same hook as a stranger's. Plugins are found by the entry-point group
``duologue``; ``DUOLOGUE_BLOCK_PLUGINS=name,name`` leaves some out.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

import pluggy

from ..inference.errors import ConfigError, PluginError, near_miss
from ..inference.settings import construct, load
from . import builtin, hookspecs
from .judge import Judge, JudgeContext, PairwiseJudge

BLOCK = "DUOLOGUE_BLOCK_PLUGINS"
RESERVED = {"name", "weight", "gate"}


@dataclass(frozen=True)
class JudgeSpec:
    """One entry of the table of judges.

    Attributes:
        name: What configurations call it.
        target: ``package.module:Class``.
        config: Dataclass of the constructor's arguments, all with defaults; None if there are none.
        summary: One line for listings.
        plugin: Who registered it.
    """

    name: str
    target: str
    config: type | None
    summary: str
    plugin: str


class JudgeRegistrar:
    """Handed to `duologue_register_judges`; collects what one plugin offers."""

    def __init__(self, table: dict[str, JudgeSpec], plugin: str) -> None:
        self._table = table
        self._plugin = plugin

    def judge(self, name: str, target: str, *, config: type | None = None, summary: str = "") -> None:
        """Offers one judge.

        Args:
            name: What configurations call it.
            target: ``package.module:Class``, imported only when selected.
            config: Dataclass of its arguments, all with defaults.
            summary: One line for listings.

        Raises:
            PluginError: If the name is taken, or the dataclass uses a reserved field.
        """
        if (taken := self._table.get(name)) is not None:
            raise PluginError(
                f"judge `{name}` is offered by both `{taken.plugin}` and `{self._plugin}`: "
                f"leave one out with `{BLOCK}={self._plugin}`"
            )
        fields = set(getattr(config, "__dataclass_fields__", {}))
        if clash := sorted(fields & RESERVED):
            raise PluginError(f"judge `{name}` of `{self._plugin}` may not have a setting called `{clash[0]}`")
        self._table[name] = JudgeSpec(name, target, config, summary, self._plugin)


class Plugins:
    """The plugins of this process.

    Args:
        discover: Whether to look for installed plugins besides the built-in ones.
        block: Entry-point names to leave out, besides those in ``DUOLOGUE_BLOCK_PLUGINS``.
    """

    def __init__(self, *, discover: bool = True, block: tuple[str, ...] = ()) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        for name in [*block, *filter(None, os.environ.get(BLOCK, "").replace(" ", "").split(","))]:
            self.manager.set_blocked(name)
        self.manager.register(builtin, name="duologue")
        if discover:
            for point in metadata.entry_points(group=hookspecs.PROJECT):
                self._load(point)
        self._table: dict[str, JudgeSpec] | None = None

    @property
    def hook(self) -> pluggy.HookRelay:
        """Calls the hooks."""
        return self.manager.hook

    def register(self, plugin: object, name: str | None = None) -> None:
        """Adds a plugin object, as a test or a script does.

        Raises:
            PluginError: If it has a hook that does not exist.
        """
        self.manager.register(plugin, name=name)
        try:
            self.manager.check_pending()
        except pluggy.PluginValidationError as error:
            self.manager.unregister(plugin)
            raise PluginError(f"plugin `{name or plugin}`: {error}") from error
        self._table = None

    def _load(self, point: metadata.EntryPoint) -> None:
        """Loads one installed plugin; a broken one is named and does not take the others down."""
        if self.manager.is_blocked(point.name) or self.manager.has_plugin(point.name):
            return
        dist = f"{point.dist.name} {point.dist.version}" if point.dist else "?"
        try:
            self.register(point.load(), name=point.name)
        except Exception as error:  # noqa: BLE001  (whatever a stranger's module does on import)
            warnings.warn(
                f"plugin `{point.name}` ({point.value}, from {dist}) was left out: {type(error).__name__}: {error}. "
                f"Fix or uninstall it, or set `{BLOCK}={point.name}`",
                stacklevel=2,
            )

    @property
    def judges(self) -> Mapping[str, JudgeSpec]:
        """All judges by name.

        Raises:
            PluginError: If two plugins offer one name, or a plugin's hook fails.
        """
        if self._table is None:
            table: dict[str, JudgeSpec] = {}
            # one by one, so that an error names its plugin; pluggy calls the latest first, we want the order of loading
            for implementation in reversed(self.hook.duologue_register_judges.get_hookimpls()):
                try:
                    implementation.function(JudgeRegistrar(table, implementation.plugin_name))
                except PluginError:
                    raise
                except Exception as error:
                    raise PluginError(f"plugin `{implementation.plugin_name}` failed to register: {error}") from error
            self._table = table
        return self._table

    def build(self, settings: Mapping[str, Any] | str, where: str, context: JudgeContext) -> Judge | PairwiseJudge:
        """Builds one judge.

        Args:
            settings: Its name, or a mapping with ``name`` and its arguments; ``weight`` and ``gate`` are ignored.
            where: The settings' place in the configuration, for error messages.
            context: Given to judges that ask for it.

        Raises:
            ConfigError: If there is no such judge or an argument is refused.
        """
        values = {"name": settings} if isinstance(settings, str) else dict(settings)
        name = values.get("name")
        spec = self.judges.get(str(name))
        if spec is None:
            raise ConfigError(f"`{where}`: there is no judge `{name}`: {near_miss(str(name), self.judges)}")
        arguments = {key: value for key, value in values.items() if key not in RESERVED}
        judge: Judge | PairwiseJudge = construct(load(spec.target, where), arguments, where, context=context)
        if not isinstance(judge, Judge | PairwiseJudge):
            raise PluginError(f"judge `{name}` of `{spec.plugin}` has neither `score` nor `compare`, or no `aclose`")
        return judge


@cache
def plugins() -> Plugins:
    """The process's plugins, found once."""
    return Plugins()
