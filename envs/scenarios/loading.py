"""Finds a scenario set: a shipped one, a game's, or a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from ...core.errors import ConfigError, near_miss
from .scenario import GAMES, SPLITS, Scenario, Split, read_scenarios
from .tables import is_dataset

SHIPPED = {"assistant": Path(__file__).with_name("data") / "assistant.jsonl"}
"""The scenario sets in the package, by name."""


def load_scenarios(source: str | Path, split: str, limit: int | None = None) -> list[Scenario]:
    """Loads one split of a scenario set.

    Args:
        source: A shipped set's name; a game's, with a seed of its own as in ``bargain:7`` where 0 does not do; or a path: see
            `read_scenarios`.
        split: ``train``, ``validation`` or ``test``.
        limit: Take this many from the start; None for all, or of a game for its usual number.

    Returns:
        At least one scenario, in the file's order.

    Raises:
        ConfigError: If the source is unknown, the split has no scenario, or a line is bad.
    """
    if split not in SPLITS:
        raise ConfigError(f"there is no split `{split}`: {near_miss(split, SPLITS)}")
    if limit is not None and limit < 1:
        raise ConfigError(f"the number of scenarios must be at least 1, not {limit}")
    game, _, seed = str(source).partition(":")
    if game in GAMES:
        if seed and not seed.isdecimal():
            raise ConfigError(f"`{source}`: after the colon comes a whole number, the seed of the scenarios")
        from ..games.generation import generate  # it builds scenarios, so it imports this module

        return list(generate(game, cast(Split, split), limit, int(seed or 0)))
    path = SHIPPED.get(str(source), Path(source))
    if str(source) not in SHIPPED and path.suffix not in (".jsonl", ".parquet") and not is_dataset(path):
        raise ConfigError(
            f"there is no scenario set `{source}`: {near_miss(str(source), [*SHIPPED, *GAMES])}, or the path of a .jsonl or "
            ".parquet file"
        )
    chosen: Sequence[Scenario] = [scenario for scenario in read_scenarios(path) if scenario.split == split]
    if not chosen:
        raise ConfigError(f"{path} holds no scenario with `split` {split!r}")
    return list(chosen[:limit])
