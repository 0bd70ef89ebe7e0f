"""Registration of judges by plugins."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, make_dataclass
from dataclasses import field as dataclass_field
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..core.errors import PluginError
from ..core.settings import load
from .judge import Cost, Kind
from .rewards.weights import Weighted

BLOCK = "DUOLOGUE_BLOCK_PLUGINS"
RESERVED = {"name", *(entry.name for entry in fields(Weighted))}
"""Settings that every judge has besides its own."""


@dataclass(frozen=True)
class JudgeSpec:
    """One entry of the table of judges.

    Attributes:
        name: Name in configurations.
        target: ``package.module:Class``.
        config: Dataclass of the constructor's arguments, all with defaults; None if there are none.
        summary: One line for listings.
        plugin: Name of the registering plugin.
        kind: Whether it scores or compares.
        cost: What a verdict costs.
        distribution: The installed package that it comes from, with its version; empty for a plugin object.
        maker: The class or function behind ``target``, where it was imported already.
    """

    name: str
    target: str
    config: type | None
    summary: str
    plugin: str
    kind: Kind = "score"
    cost: Cost = "free"
    distribution: str = ""
    maker: Callable[..., Any] | None = None


class JudgeRegistrar:
    """Handed to `duologue_register_judges`; collects what one plugin offers."""

    def __init__(self, table: dict[str, JudgeSpec], plugin: str, distribution: str = "") -> None:
        self._table = table
        self._plugin = plugin
        self._distribution = distribution

    def judge(
        self,
        name: str | Callable[..., Any],
        target: str | None = None,
        *,
        config: type | None = None,
        summary: str = "",
        kind: Kind | None = None,
        cost: Cost | None = None,
    ) -> None:
        """Registers one judge.

        ``register.judge(MyJudge)`` or ``register.judge("package.module:MyJudge")`` is enough for a class with the attributes
        of `BaseJudge`; its constructor is the schema of its settings. ``register.judge(name, target, …)`` imports the
        class only when a run selects the judge.

        Args:
            name: Name in configurations; or, without ``target``, the judge's class or its dotted path.
            target: ``package.module:Class``, imported only when selected.
            config: Dataclass of its arguments, all with defaults.
            summary: One line for listings.
            kind: ``score``, or ``compare`` for a `PairwiseJudge`.
            cost: ``free``, ``model`` for a model on this machine, ``requests`` for one behind an endpoint.

        Raises:
            PluginError: If the name is taken or missing, a setting is reserved or has no default, or there is no such kind
                or cost.
            ConfigError: If a dotted path without a name cannot be imported.
        """
        maker = None
        if target is None:
            maker = load(name, f"plugin {self._plugin}") if isinstance(name, str) else name
            target = name if isinstance(name, str) else f"{maker.__module__}:{maker.__qualname__}"
            name = str(getattr(maker, "name", "") or "")
            if not name:
                raise PluginError(
                    f"judge `{target}` of `{self._plugin}` has no name: give the class an attribute `name`, or call "
                    "`register.judge(name, target)`"
                )
            config = config or settings_of(maker, name, self._plugin)
            summary = summary or str(getattr(maker, "summary", ""))
            kind, cost = kind or getattr(maker, "kind", None), cost or getattr(maker, "cost", None)
        if not isinstance(name, str):
            raise PluginError(f"a judge of `{self._plugin}`: beside `target`, `name` must be a text, not {name!r}")
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
        kind, cost = kind or "score", cost or "free"
        for word, known in ((kind, get_args(Kind)), (cost, get_args(Cost))):
            if word not in known:
                raise PluginError(f"judge `{name}` of `{self._plugin}`: `{word}` is none of {', '.join(known)}")
        own = self._plugin, kind, cost, self._distribution, maker
        self._table[name] = JudgeSpec(name, target, config, summary, *own)


def settings_of(maker: Callable[..., Any], name: str, plugin: str) -> type | None:
    """Makes the dataclass of a judge's settings from its constructor.

    Args:
        maker: The judge's class, or a function that builds it.
        name: The judge's name, for error messages.
        plugin: The plugin's name, for error messages.

    Returns:
        A dataclass with a default for every setting, in types that Hydra can check; None if there are no settings.

    Raises:
        PluginError: If a parameter besides ``context`` has no default.
    """
    hints = get_type_hints(vars(maker).get("__init__", maker) if isinstance(maker, type) else maker)
    entries: list[tuple[str, Any, Any]] = []
    for parameter in inspect.signature(maker).parameters.values():
        if parameter.name == "context" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.default is parameter.empty:
            raise PluginError(f"judge `{name}` of `{plugin}`: setting `{parameter.name}` needs a default")
        hint, default = _plain(hints.get(parameter.name, Any)), parameter.default
        if get_origin(hint) is dict or isinstance(default, Mapping):
            entries.append((parameter.name, hint, dataclass_field(default_factory=dict(default or {}).copy)))
        elif isinstance(default, list | tuple):
            entries.append((parameter.name, hint, dataclass_field(default_factory=list(default).copy)))
        else:
            entries.append((parameter.name, hint, dataclass_field(default=default)))
    return make_dataclass(f"{name.title()}Settings", entries) if entries else None


def _plain(hint: Any) -> Any:
    """A type as YAML can hold it: lists for sequences, dictionaries for mappings, texts for literals."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return str
    if origin in (Union, UnionType):
        kinds = [_plain(kind) for kind in arguments if kind is not NoneType]
        if len(kinds) != 1:
            return Any
        return kinds[0] if get_origin(kinds[0]) is dict else kinds[0] | None
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict[str, Any]
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return list[_plain(arguments[0])] if arguments else list[Any]  # type: ignore[misc]
    return hint
