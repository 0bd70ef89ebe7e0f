"""One dialogue from its first turn to its end, whoever acts in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

from ..envs.dialogue import Dialogue
from ..envs.episodes import Episode
from ..envs.observation import Observation
from ..envs.task import Task
from ..envs.transition import Transition
from ..inference.completion import Message

Act: TypeAlias = Callable[[Observation, Dialogue], Awaitable[Any]]
"""From what is seen, and the dialogue itself, to the action."""


async def played(task: Task, episode: Episode, act: Act) -> AsyncIterator[tuple[tuple[Message, ...], Transition]]:
    """Plays an episode.

    Yields:
        Every turn: the messages before it, and what came of it.

    Raises:
        EpisodeFailed: If a call failed after its retries.
    """
    dialogue = Dialogue(task, observe_end=False)
    observation, _ = await dialogue.reset(episode)
    over = False
    while not over:
        action = await act(observation, dialogue)
        before = tuple(dialogue.state.messages)
        transition = await dialogue.step(action)
        observation, over = transition.observation, transition.terminated or transition.truncated
        yield before, transition
