"""`duologue judges [--json]`: the judges of this installation and where they come from."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from ..core.console import Console
from ..core.errors import ConfigError
from ..plugins.manager import Plugins, plugins


def run(arguments: Sequence[str], registry: Plugins | None = None) -> None:
    """Lists all judges.

    Args:
        arguments: What follows the command: nothing, or ``--json``.
        registry: Plugins to list; the process's by default.

    Raises:
        ConfigError: If there is another argument.
        PluginError: If two plugins offer one name, or a plugin's hook fails.
    """
    if other := [argument for argument in arguments if argument != "--json"]:
        raise ConfigError(f"`duologue judges` takes `--json` or nothing, not `{other[0]}`")
    judges = sorted((registry or plugins()).judges.values(), key=lambda spec: spec.name)
    console = Console()
    if arguments:
        names = ("name", "kind", "cost", "plugin", "distribution", "target", "summary")
        print(json.dumps([{name: getattr(spec, name) for name in names} for spec in judges], indent=2))  # noqa: T201
        return
    table = Table("judge", "what it scores", "kind", "cost", "from")
    for spec in judges:
        cells = (spec.name, spec.summary, spec.kind, spec.cost, spec.distribution or spec.plugin)
        table.add_row(*map(Text, cells))
    console.print(table)
