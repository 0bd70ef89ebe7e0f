"""`duologue cassette ACTION [name=value …]`: statistics, export, import, pruning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from json import dumps
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ..core.console import Console, say
from ..core.errors import ConfigError, near_miss
from ..core.settings import construct, read_arguments
from ..inference.cassette import archive
from ..inference.cassette.cassette import DEFAULT_PLACE


def stats(path: str = DEFAULT_PLACE, json: bool = False) -> None:
    """Prints the number and length of answers by endpoint."""
    found = archive.stats(Path(path))
    console = Console()
    if json:
        console.print_json(dumps(found.summary()))
        return
    table = Table("endpoint", "asked for", "answers", "kB", "prompt tokens", "completion tokens", "from", "to")
    for shelf in found.shelves:
        counted = max(shelf.counted, 1)
        table.add_row(
            Text(shelf.endpoint),
            Text(shelf.path),
            f"{shelf.answers:,}",
            f"{shelf.bytes / 1000:,.0f}",
            f"{shelf.prompt_tokens / counted:,.1f} each",
            f"{shelf.completion_tokens / counted:,.1f} each",
            *(f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}" for at in (shelf.first, shelf.last)),
        )
    console.print(table)
    damaged = f", {found.damaged:,} of them damaged: `duologue cassette prune` removes those" if found.damaged else ""
    say(
        f"{found.answers + found.damaged:,} answers{damaged}. {found.file_bytes / 1e6:,.1f} MB in {found.path}", console
    )


def export(to: str, path: str = DEFAULT_PLACE) -> None:
    """Writes all answers as lines of JSON, for another machine or for reading."""
    count = archive.export(Path(path), Path(to))
    say(f"{count:,} answers written to {to}")


def import_(source: str, path: str = DEFAULT_PLACE) -> None:
    """Adds the answers of an export."""
    added, lines = archive.import_(Path(path), Path(source))
    say(f"{added:,} of {lines:,} answers added to {path}; the others were there")


def prune(
    path: str = DEFAULT_PLACE, endpoint: str | None = None, older_than_days: float | None = None, yes: bool = False
) -> None:
    """Removes answers for good; without ``yes=true`` it only counts them."""
    count = archive.prune(Path(path), endpoint=endpoint, older_than_days=older_than_days, dry_run=not yes)
    if yes:
        say(f"{count:,} answers removed from {path}")
    else:
        say(f"{count:,} answers would be removed from {path}, and paid for again when they are needed: add yes=true")


ACTIONS: Mapping[str, Callable[..., None]] = {"stats": stats, "export": export, "import": import_, "prune": prune}

USAGE = """\
usage: duologue cassette ACTION [name=value …]

  stats   [json=true]                                     answers by endpoint, their lengths, the file's size
  export  to=FILE.jsonl                                   all answers as lines of JSON
  import  source=FILE.jsonl                               add the answers of an export
  prune   [endpoint=PART] [older_than_days=N] [yes=true]  remove answers for good, and those that are damaged

Every action takes path=CASSETTE; .cache/cassette.sqlite by default."""


def run(arguments: Sequence[str]) -> None:
    """Carries out one action.

    Args:
        arguments: The action and its values.

    Raises:
        ConfigError: If there is no such action, or an option is refused.
        CassetteError: If the file cannot be used.
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE)  # noqa: T201
        return
    name, *options = arguments
    if name not in ACTIONS:
        raise ConfigError(f"`duologue cassette` cannot `{name}`: {near_miss(name, ACTIONS)}")
    words, values = read_arguments(options)
    if words:
        raise ConfigError(f"`{words[0]}` cannot be read: write name=value")
    construct(ACTIONS[name], values, f"cassette {name}")
