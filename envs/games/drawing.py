"""Draws the scenarios of a game: any number, and no two splits share one."""

from __future__ import annotations

import hashlib
import random
from functools import lru_cache
from importlib import import_module

from ...inference.errors import ConfigError, near_miss
from ..scenarios import GAMES, SPLITS, Scenario, Split
from .game import Game

COUNT = 256
"""Scenarios of a split where no number is asked for."""

_SHARES = {"train": range(8), "validation": range(8, 9), "test": range(9, 10)}  # of ten, by a digest of the content
_MOST_REPEATS = 10_000  # draws in a row that give nothing new


def make_game(name: str) -> Game:
    """The game with this name.

    Raises:
        ConfigError: If there is none.
    """
    if name not in GAMES:
        raise ConfigError(f"there is no game `{name}`: {near_miss(name, GAMES)}")
    game: Game = import_module(f".{name}", __package__).GAME
    return game


@lru_cache(maxsize=32)
def generate(name: str, split: Split, count: int | None = None, seed: int = 0) -> tuple[Scenario, ...]:
    """Draws scenarios of a game.

    Which split a scenario belongs to is a function of its own text, so that splits are disjoint also between seeds.

    Args:
        name: A key of `GAMES`.
        split: ``train``, ``validation`` or ``test``.
        count: How many; `COUNT` if None.
        seed: Other seeds draw others.

    Returns:
        Scenarios that all differ in what is seen of them.

    Raises:
        ConfigError: If the game has not so many.
    """
    game, count = make_game(name), COUNT if count is None else count
    rng = random.Random(f"{name} {seed} {SPLITS.index(split)}")
    found: dict[str, Scenario] = {}
    repeats = 0
    while len(found) < count:
        scenario = game.scenario(rng, f"{name}-{seed}-{split}-{len(found):05d}", split)
        text = f"{scenario.system}\n{scenario.user[0]}"
        share = hashlib.sha256(text.encode()).digest()[0] % 10
        if share not in _SHARES[split] or text in found:
            repeats += 1
            if repeats >= _MOST_REPEATS:
                raise ConfigError(
                    f"`{name}` has no more than about {len(found)} scenarios in `{split}`: ask for fewer than {count}"
                )
            continue
        found[text] = scenario
        repeats = 0
    return tuple(found.values())
