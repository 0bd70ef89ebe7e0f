"""What one action led to: a transition, or the failure that ended the episode."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..inference.errors import DuologueError
from .observation import Observation


class EpisodeFailed(DuologueError):
    """A dialogue cannot go on because a call or a judge failed; the others are not concerned.

    Attributes:
        cause: ``assistant``, ``user``, ``encoder``, ``reward``, ``deadline`` or the judge's name, for counting.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(cause, message)  # both, so that it can be pickled
        self.cause = cause

    def __str__(self) -> str:
        return ": ".join(self.args)


class TurnDeadline(EpisodeFailed):
    """A turn took longer than the task allows; what came before it is sound."""


@dataclass(frozen=True)
class Transition:
    """What one action led to.

    Attributes:
        observation: The next one; after the last turn, the state as it was left. Where ``max_turns`` cut the dialogue it
            is what the policy would have seen next, so that its value can be estimated.
        reward: The judged reward; 0 in a task without judges.
        terminated: Whether the user ended the dialogue; or ``max_turns``, where a judge waits for the end.
        truncated: Whether ``max_turns`` cut it.
        info: See `DialogueEnv`.
    """

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any] = field(default_factory=dict)
