"""What a plugin hands over when it offers judges."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass

from ..inference.errors import PluginError

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
            PluginError: If the name is taken, or ``config`` is no dataclass or uses a reserved field.
        """
        if (taken := self._table.get(name)) is not None:
            raise PluginError(
                f"judge `{name}` is offered by both `{taken.plugin}` and `{self._plugin}`: "
                f"leave one out with `{BLOCK}={self._plugin}`"
            )
        if config is not None and not is_dataclass(config):
            raise PluginError(f"judge `{name}` of `{self._plugin}`: `config` must be a dataclass, not {config!r}")
        names = {field.name for field in fields(config)} if config else set()
        if clash := sorted(names & (RESERVED | {"context"})):
            raise PluginError(f"judge `{name}` of `{self._plugin}` may not have a setting called `{clash[0]}`")
        self._table[name] = JudgeSpec(name, target, config, summary, self._plugin)
