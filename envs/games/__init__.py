"""Games: tasks played by rules on both sides, with scenarios without end and rewards that can be checked."""

from __future__ import annotations

from ..scenarios import GAMES
from .drawing import generate, make_game
from .game import Game
from .scripted import scripted_answer

__all__ = ["GAMES", "Game", "generate", "make_game", "scripted_answer"]
