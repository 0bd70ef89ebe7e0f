"""The definition of a game: a task whose both sides are played by rules, so that everything can be checked."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...inference.completion import Message
from ..scenarios.scenario import Scenario, Split


@dataclass(frozen=True)
class Game:
    """One game. All its parts are pure functions, so that one object serves any number of dialogues.

    Attributes:
        scenario: Draws a scenario with this id and split.
        reply: The user's next turn, from the hidden facts and the dialogue so far, which ends with the assistant's turn;
            None ends the dialogue.
        answer: What a model that follows directives to the letter would say: the dialogue with its system prompt, and
            the number of the directive.
        directives: What the assistant can be told to do, one per action of the interface `strategy`; the first is
            empty.
        judges: Key to settings of the judges that read the outcome off the dialogue.
        max_turns: Assistant turns after which a dialogue is over.
    """

    scenario: Callable[[random.Random, str, Split], Scenario]
    reply: Callable[[Mapping[str, Any], Sequence[Message]], str | None]
    answer: Callable[[Sequence[Message], int], str]
    directives: tuple[str, ...]
    judges: Mapping[str, Any]
    max_turns: int = 8

    def facts(self) -> frozenset[str]:
        """The names of the hidden facts that every scenario of the game has."""
        return frozenset(self.scenario(random.Random(0), "", "train").hidden)
