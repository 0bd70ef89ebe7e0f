"""The state of a dialogue, the assistant's turns as judges see them, transitions, and which scenario an episode plays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import ConfigError, DuologueError
from ..inference.completion import Completion, Message
from ..plugins.judge import Turn
from .scenarios.scenario import Scenario

Observation = dict[str, npt.NDArray[np.float32]]
"""The arrays of a Gymnasium `Dict` space by their names."""


@dataclass
class DialogueState:
    """The state behind observations; nothing in it is hidden, so that serving can rebuild it from a request.

    Attributes:
        messages: The dialogue so far, system prompt first if there is one; ends with a user turn while the assistant
            is to act.
        turn: Number of assistant turns so far.
        draw: Number of the independent repetition of the scenario; determines the sample indices.
        proposals: Candidates for the turn that is being decided, for two-phase interfaces.
    """

    messages: list[Message]
    turn: int = 0
    draw: int = 0
    proposals: Sequence[Completion] = field(default_factory=tuple)

    @classmethod
    def of(cls, messages: Sequence[Mapping[str, Any]], draw: int = 0) -> DialogueState:
        """Builds the state of a request's messages: everything that a deployed policy knows.

        Args:
            messages: As the API takes them. Of content in parts the texts count, of no content nothing.
            draw: Number of the independent sample.

        Returns:
            The state.
        """
        roles = ["system" if m["role"] == "developer" else str(m["role"]) for m in messages]
        plain: list[Message] = [
            {"role": role, "content": _text(m.get("content"))} for role, m in zip(roles, messages, strict=True)
        ]
        return cls(plain, roles.count("assistant"), draw)

    @property
    def user_message(self) -> str:
        """The latest user turn."""
        return next((m["content"] for m in reversed(self.messages) if m["role"] == "user"), "")

    @property
    def last_reply(self) -> str:
        """The latest assistant turn; empty before the first."""
        return next((m["content"] for m in reversed(self.messages) if m["role"] == "assistant"), "")


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part["text"]) for part in parts if isinstance(part, Mapping) and "text" in part)


def as_turn(
    scenario: Scenario, messages: tuple[Message, ...], index: int, reply: str, finish_reason: str, last: bool = True
) -> Turn:
    """Builds one turn of a scenario as judges see it.

    Args:
        scenario: The scenario.
        messages: The dialogue before the reply.
        index: The turn's number, from 0; the reference is that of the last scripted turn.
        reply: The assistant's reply.
        finish_reason: ``stop``, or ``length`` if it was cut.
        last: Whether the dialogue ends with it.

    Returns:
        The turn.
    """
    return Turn(
        messages=messages,
        reply=reply,
        reference=scenario.reference if index == len(scenario.user) - 1 else None,
        scenario_id=scenario.id,
        tags=scenario.tags,
        hidden=scenario.hidden,
        finish_reason=finish_reason,
        index=index,
        last=last,
    )


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
    """The result of one action.

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


@dataclass(frozen=True)
class Episode:
    """One episode to play: its number, its scenario, and which repetition (``draw``) of that scenario's sampling."""

    number: int
    scenario: Scenario
    draw: int = 0


@dataclass(frozen=True)
class Curriculum:
    """Schedules scenarios in epochs: each epoch plays every scenario once, in its own random order.

    Attributes:
        scenarios: The scenarios to schedule.
        draws: Independent repetitions of each scenario's sampling that are ever asked for. With 1 the second epoch
            meets the same candidates again, which the cassette gives for nothing; None never repeats.
    """

    scenarios: Sequence[Scenario]
    draws: int | None = 1

    def __post_init__(self) -> None:
        if self.draws is not None and self.draws < 1:
            raise ConfigError(f"`env.draws` must be at least 1, or null, not {self.draws}")

    def episode(self, seed: int, number: int) -> Episode:
        """The episode with this number, from 0, of the run with this seed."""
        epoch, place = divmod(number, len(self.scenarios))
        draw = epoch if self.draws is None else epoch % self.draws
        return Episode(number, self.scenarios[_order(seed, epoch, len(self.scenarios))[place]], draw)


@lru_cache(maxsize=16)
def _order(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    """In which order an epoch deals; kept, because all of its episodes ask."""
    return tuple(np.random.default_rng([seed, epoch]).permutation(count).tolist())
