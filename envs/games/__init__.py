"""Games: tasks played by rules on both sides, with scenarios without end and rewards that can be checked."""

from __future__ import annotations

from ..scenarios.scenario import GAMES
from .game import Game
from .generation import game_of, generate, make_game, parts_of, scripted_answer, with_directives

__all__ = ["GAMES", "Game", "game_of", "generate", "make_game", "parts_of", "scripted_answer", "with_directives"]
