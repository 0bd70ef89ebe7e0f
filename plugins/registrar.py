"""What a plugin hands over when it offers judges."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Literal, TypeAlias, get_args

from ..core.errors import PluginError
from .rewards.weights import Weighted

BLOCK = "DUOLOGUE_BLOCK_PLUGINS"
RESERVED = {"name", *(entry.name for entry in fields(Weighted))}
"""Settings that every judge has besides its own."""

Kind: TypeAlias = Literal["score", "compare"]
"""Whether a judge scores replies one by one or compares two of them."""
Cost: TypeAlias = Literal["free", "model", "requests"]
"""What a verdict costs: next to nothing, time of a model on this machine, or requests to an endpoint."""


@dataclass(frozen=True)
class JudgeSpec:
    """One entry of the table of judges.

    Attributes:
        name: What configurations call it.
        target: ``package.module:Class``.
        config: Dataclass of the constructor's arguments, all with defaults; None if there are none.
        summary: One line for listings.
        plugin: Who registered it.
        kind: Whether it scores or compares.
        cost: What a verdict costs.
        distribution: The installed package that it comes from, with its version; empty for a plugin object.
    """

    name: str
    target: str
    config: type | None
    summary: str
    plugin: str
    kind: Kind = "score"
    cost: Cost = "free"
    distribution: str = ""


class JudgeRegistrar:
    """Handed to `duologue_register_judges`; collects what one plugin offers."""

    def __init__(self, table: dict[str, JudgeSpec], plugin: str, distribution: str = "") -> None:
        self._table = table
        self._plugin = plugin
        self._distribution = distribution

    def judge(
        self,
        name: str,
        target: str,
        *,
        config: type | None = None,
        summary: str = "",
        kind: Kind = "score",
        cost: Cost = "free",
    ) -> None:
        """Offers one judge.

        Args:
            name: What configurations call it.
            target: ``package.module:Class``, imported only when selected.
            config: Dataclass of its arguments, all with defaults.
            summary: One line for listings.
            kind: ``score``, or ``compare`` for a `PairwiseJudge`.
            cost: ``free``, ``model`` for a model on this machine, ``requests`` for one behind an endpoint.

        Raises:
            PluginError: If the name is taken, ``config`` is no dataclass or uses a reserved field, or there is no such
                kind or cost.
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
        for word, known in ((kind, get_args(Kind)), (cost, get_args(Cost))):
            if word not in known:
                raise PluginError(f"judge `{name}` of `{self._plugin}`: `{word}` is none of {', '.join(known)}")
        self._table[name] = JudgeSpec(name, target, config, summary, self._plugin, kind, cost, self._distribution)
