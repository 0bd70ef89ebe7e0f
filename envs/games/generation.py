"""Generates the scenarios of a game, any number, in disjoint splits; and the scripted model that plays its assistant."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

from ...core.errors import ConfigError, near_miss
from ...inference.completion import Message
from ..scenarios.scenario import GAMES, SPLITS, Scenario, Split
from .game import Game

COUNT = 256
"""Scenarios of a split where no number is asked for."""

DIRECTED = ("strategy", "strategy_decode")
"""Interfaces whose actions are directives."""

_SHARES = {"train": range(8), "validation": range(8, 9), "test": range(9, 10)}  # of ten, by a digest of the content
_MOST_REPEATS = 10_000  # draws in a row that give nothing new


def make_game(name: str) -> Game:
    """Loads a game.

    Args:
        name: A key of `GAMES`.

    Returns:
        The game.

    Raises:
        ConfigError: If there is none.
    """
    if name not in GAMES:
        raise ConfigError(f"there is no game `{name}`: {near_miss(name, GAMES)}")
    game: Game = import_module(f".{name}", __package__).GAME
    return game


def game_of(source: object, user: object = None) -> str | None:
    """The game that is played.

    Args:
        source: Of the scenarios: ``bargain`` or ``bargain:7`` draw those of a game.
        user: Settings of the user, who may follow the rules of a game on scenarios of any source.

    Returns:
        A key of `GAMES`; None where neither names one.
    """
    rules = user.get("game") if isinstance(user, Mapping) and user.get("name") == "rule" else None
    return next((name for name in (str(source).partition(":")[0], rules) if name in GAMES), None)


def parts_of(name: str) -> dict[str, Any]:
    """Lists the parts of a game's task.

    Args:
        name: A key of `GAMES`.

    Returns:
        Arguments of `Task.build`.

    Raises:
        ConfigError: If there is no such game.
    """
    game = make_game(name)
    return {
        "scenarios": name,
        "user": {"name": "rule", "game": name},
        "interface": with_directives("strategy", name),
        "judges": game.judges,
        "encoder": "hashing",
        "system": "",  # the scenarios bring their own
        "max_turns": game.max_turns,
    }


def with_directives(interface: Mapping[str, Any] | str, game: str | None) -> Mapping[str, Any] | str:
    """An interface's settings with the directives of a game, where it takes directives and names none."""
    settings = {"name": interface} if isinstance(interface, str) else interface
    if game is None or not isinstance(settings, Mapping) or settings.get("name") not in DIRECTED:
        return interface
    own = settings.get("directives")
    return {**settings, "directives": list(make_game(game).directives if own is None else own)}


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


def scripted_answer(name: str) -> Callable[[Sequence[Message], int, str], str]:
    """Answers requests to ``embedded://<game>``.

    Args:
        name: The game.

    Returns:
        A function of the messages, a seed and a model's name. A directive at the end of the system prompt is followed;
        without one the seed picks the move, so that candidates differ as those of a model do.
    """
    game = make_game(name)
    by_text = {text: number for number, text in enumerate(game.directives) if text}

    def answer(messages: Sequence[Message], seed: int, model: str = "rules") -> str:
        system = messages[0]["content"] if messages and messages[0]["role"] == "system" else ""
        move = by_text.get(system.rpartition("\n")[2])
        if move is None:
            move = random.Random(f"{seed} {len(messages)} {messages[-1]['content']}").randrange(len(game.directives))
        return game.answer(messages, move)

    return answer
