"""Finds plugins, keeps the table of judges and builds the ones that a run selects.

Built-in judges register through the same hook as a stranger's. Plugins are found by the entry-point group
``duologue``; ``DUOLOGUE_BLOCK_PLUGINS=name,name`` leaves some out.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from functools import cache
from importlib import metadata
from typing import Any

import pluggy

from ..core.errors import ConfigError, PluginError, near_miss
from ..core.settings import construct, load
from . import builtin, hookspecs
from .judge import Judge, JudgeContext, PairwiseJudge
from .registrar import BLOCK, RESERVED, JudgeRegistrar, JudgeSpec
from .trackers import Tracking


class Plugins:
    """The plugins of this process.

    Args:
        discover: Whether to look for installed plugins besides the built-in ones.
        block: Entry-point names to leave out, besides those in ``DUOLOGUE_BLOCK_PLUGINS``.
    """

    def __init__(self, *, discover: bool = True, block: tuple[str, ...] = ()) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._table: dict[str, JudgeSpec] | None = None
        self._distributions: dict[str, str] = {"duologue": _distribution(hookspecs.PROJECT)}
        self.manager.add_hookspecs(hookspecs)
        for name in [*block, *filter(None, os.environ.get(BLOCK, "").replace(" ", "").split(","))]:
            self.manager.set_blocked(name)
        self.manager.register(builtin, name="duologue")
        self.manager.register(Tracking(), name="trackers")
        if discover:
            for point in metadata.entry_points(group=hookspecs.PROJECT):
                self._load(point)

    @property
    def hook(self) -> pluggy.HookRelay:
        """Calls the hooks."""
        return self.manager.hook

    def register(self, plugin: object, name: str | None = None) -> None:
        """Adds a plugin object, as a test or a script does.

        Args:
            plugin: Module or object with hook implementations.
            name: Name in error messages.

        Raises:
            PluginError: If it has a hook, or an argument of a hook, that does not exist, or is registered already.
        """
        try:
            self.manager.register(plugin, name=name)
            self.manager.check_pending()
        except pluggy.PluginValidationError as error:
            if self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            raise PluginError(f"plugin `{name or plugin}`: {' '.join(str(error).split())}") from error
        except ValueError as error:
            known = self.manager.get_name(plugin) or name
            raise PluginError(f"plugin `{name or plugin}`: there is a plugin `{known}` already") from error
        self._table = None

    def _load(self, point: metadata.EntryPoint) -> None:
        """Loads one installed plugin; a broken one is named and does not take the others down."""
        if self.manager.is_blocked(point.name):
            return
        dist = f"{point.dist.name} {point.dist.version}" if point.dist else "?"
        self._distributions[point.name] = dist
        try:
            with redirect_stdout(sys.stderr):  # standard output is for results
                self.register(point.load(), name=point.name)
        except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever a stranger's module does on import)
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
            # one by one and in the order of loading, so that an error names the plugin that came later
            for implementation in self.hook.duologue_register_judges.get_hookimpls():
                plugin = implementation.plugin_name
                if implementation.wrapper or implementation.hookwrapper:
                    raise PluginError(
                        f"plugin `{plugin}`: `duologue_register_judges` cannot be a wrapper, which registers nothing: mark it "
                        f"by `@hookimpl` alone, or set `{BLOCK}={plugin}`"
                    )
                try:
                    with redirect_stdout(sys.stderr):
                        implementation.function(JudgeRegistrar(table, plugin, self._distributions.get(plugin, "")))
                except PluginError:
                    raise
                except Exception as error:
                    raise PluginError(
                        f"plugin `{plugin}` failed to register: {error}. Fix it, or set `{BLOCK}={plugin}`"
                    ) from error
            self._table = table
        return self._table

    def build(self, settings: Mapping[str, Any] | str, where: str, context: JudgeContext) -> Judge | PairwiseJudge:
        """Builds one judge.

        Args:
            settings: Its name, or a mapping with ``name`` and its arguments; ``weight`` and ``gate`` are ignored.
            where: The settings' place in the configuration, for error messages.
            context: Context for judges that take one.

        Returns:
            The judge.

        Raises:
            ConfigError: If there is no such judge or an argument is refused.
        """
        if not isinstance(settings, str | Mapping):
            raise ConfigError(f"`{where}` must be a judge's name or a mapping with `name`, not {settings!r}")
        values = {"name": settings} if isinstance(settings, str) else dict(settings)
        name = values.get("name")
        spec = self.judges.get(str(name))
        if spec is None:
            raise ConfigError(f"`{where}`: there is no judge `{name}`: {near_miss(str(name), self.judges)}")
        arguments = {key: value for key, value in values.items() if key not in RESERVED}
        judge: Judge | PairwiseJudge = construct(
            spec.maker or load(spec.target, where), arguments, where, context=context
        )
        if not isinstance(judge, Judge | PairwiseJudge):
            raise PluginError(f"judge `{name}` of `{spec.plugin}` has neither `score` nor `compare`, or no `aclose`")
        return judge


def _distribution(name: str) -> str:
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:  # a checkout that is only on the path
        return name


@cache
def plugins() -> Plugins:
    """The process's plugins, found once."""
    return Plugins()
