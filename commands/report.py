"""`duologue report FOLDER`: writes a run's report again.

duologue report runs/run/latest
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import ConfigError
from ..core.settings import construct, read_arguments
from ..evaluation.report.report import write_report


def run(arguments: Sequence[str]) -> None:
    """Writes the report of a run folder.

    Args:
        arguments: The folder; and, if wanted, ``beside=NAME``: the contestant that is compared with each of the others.

    Raises:
        ConfigError: If there is not one folder, it holds no evaluation, or there is no such contestant.
    """
    words, values = read_arguments(arguments)
    if len(words) != 1:
        raise ConfigError(
            "`duologue report FOLDER [beside=CONTESTANT]` takes one run folder, such as `duologue report runs/run/latest`"
        )
    print(write_report(Path(words[0]), construct(Options, values, "duologue report").beside))  # noqa: T201


@dataclass(frozen=True)
class Options:
    """Options of `duologue report`."""

    beside: str | None = None
