"""Dialogues whose turns come from outside, many at once: the judges' rewards, and the failures that are no numbers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...envs.dialogue import Dialogue
from ...envs.episodes import Episode
from ...envs.scenarios import Scenario
from ...envs.task import Task
from ...envs.transition import EpisodeFailed
from ...inference.completion import Completion, Message
from ..failure_watch import FailureWatch

Write = Callable[[Sequence["Play"]], Sequence[Completion]]


@dataclass
class Play:
    """One dialogue under way.

    Attributes:
        scenario: What is played.
        messages: So far.
        rewards: Of each turn.
        infos: Likewise, see `DialogueEnv`.
        over: Whether it has ended.
        failure: Why it ended before its time.
    """

    scenario: Scenario
    messages: Sequence[Message] = ()
    rewards: list[float] = field(default_factory=list)
    infos: list[dict[str, Any]] = field(default_factory=list)
    over: bool = False
    failure: EpisodeFailed | None = None

    def worth(self, gamma: float) -> float | None:
        """The discounted sum of its rewards; None if anything in it failed."""
        if self.failure is not None:
            return None
        return sum(gamma**turn * reward for turn, reward in enumerate(self.rewards))


class Playing:
    """Plays dialogues on the `text` interface.

    Args:
        task: What is played; with the interface `text`.
        max_failure_fraction: Share of failed dialogues, over the last 50, above which the run stops.
    """

    def __init__(self, task: Task, max_failure_fraction: float = 0.2) -> None:
        self.task = task
        self._watch = FailureWatch(max_failure_fraction, "dialogues")
        self.failures: Counter[str] = Counter()

    def play(self, scenarios: Sequence[Scenario], write: Write) -> list[Play]:
        """Plays each scenario to its end; all dialogues that wait for a turn get it together.

        Args:
            scenarios: One for each dialogue.
            write: Gives the next turn of each of the dialogues that it is handed.

        Raises:
            TooManyFailures: If more failed than is allowed.
            DuologueError: What no retry can mend.
        """
        plays = [Play(scenario) for scenario in scenarios]
        dialogues = [Dialogue(self.task, observe_end=False) for _ in scenarios]
        self.task.client.run(_all(_start(play, dialogue) for play, dialogue in zip(plays, dialogues, strict=True)))
        while waiting := [(play, dialogue) for play, dialogue in zip(plays, dialogues, strict=True) if not play.over]:
            written = write([play for play, _ in waiting])
            steps = (_step(*pair, turn) for pair, turn in zip(waiting, written, strict=True))
            self.task.client.run(_all(steps))
        for play in plays:
            if play.failure is not None:
                self.failures[play.failure.cause] += 1
            self._watch.add(play.failure)
        if self.task.reward is not None:
            self.task.reward.observe(info for play in plays for info in play.infos)
        return plays


async def _start(play: Play, dialogue: Dialogue) -> None:
    try:
        _, info = await dialogue.reset(Episode(0, play.scenario))
        play.messages = info["messages"]
    except EpisodeFailed as error:
        play.over, play.failure = True, error


async def _step(play: Play, dialogue: Dialogue, turn: Completion) -> None:
    try:
        transition = await dialogue.step(turn)
    except EpisodeFailed as error:
        play.over, play.failure = True, error
        return
    play.messages = transition.info["messages"]
    play.rewards.append(transition.reward)
    play.infos.append(transition.info)
    play.over = transition.terminated or transition.truncated


async def _all(coroutines: Any) -> None:
    """Waits for every one, then raises the first error."""
    for result in await asyncio.gather(*coroutines, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
