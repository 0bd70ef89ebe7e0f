"""The scripted model of a game: follows directives to the letter, and without one does what chance says."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from ...inference.completion import Message
from .drawing import make_game


def scripted_answer(name: str) -> Callable[[Sequence[Message], int, str], str]:
    """What ``embedded://<game>`` answers with.

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
