"""Games: tasks played by rules on both sides, with scenarios without end and rewards that can be checked."""

from __future__ import annotations

from ..scenarios import GAMES
from .drawing import game_of, generate, make_game, parts_of, with_directives
from .game import Game
from .scripted import scripted_answer

__all__ = ["GAMES", "Game", "game_of", "generate", "make_game", "parts_of", "scripted_answer", "with_directives"]
