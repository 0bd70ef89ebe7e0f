"""Rollouts as a queue of episodes: nobody waits for the slowest dialogue, and nothing is dropped.

The number of episodes is fixed before the rollout, every episode is bound to its scenario by its number, free slots
take the next one, and actions are drawn from noise keyed by (seed, episode, step). What is collected is therefore the
same whatever the latencies were: finishing first buys no place in the batch.
"""

from __future__ import annotations

import math
import queue
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..envs.dialogue import Dialogue, EpisodeFailed, Transition
from ..envs.episodes import Episode
from ..envs.observation import Observation
from ..envs.task import Task
from ..inference.errors import DuologueError


class Act(Protocol):
    """Chooses actions for the dialogues that are ready."""

    def __call__(self, observations: Sequence[Observation], noise: np.ndarray) -> Sequence[Any]:
        """Returns one action per observation; ``noise`` is uniform in [0, 1), shape (len(observations), k)."""
        ...


@dataclass
class Played:
    """One episode as it was played.

    Attributes:
        episode: Number, scenario and draw.
        observations: What the policy saw, one per step.
        actions: What it did.
        transitions: What that led to.
    """

    episode: Episode
    observations: list[Observation] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)

    @property
    def episode_return(self) -> float:
        """The undiscounted sum of rewards."""
        return sum(transition.reward for transition in self.transitions)


@dataclass(frozen=True)
class _Ready:
    slot: int
    observation: Observation | None = None  # None: the episode is over
    transition: Transition | None = None
    failed: EpisodeFailed | None = None


@dataclass
class _Rollout:
    """The books of one rollout: what is to be played and at which attempt, where it is played, what came of it."""

    idle: list[int]
    todo: deque[tuple[Episode, int]] = field(default_factory=deque)
    playing: dict[int, tuple[Played, int]] = field(default_factory=dict)
    finished: list[Played] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    def outcome(self) -> tuple[list[Played], Counter[str]]:
        """The finished episodes in order, and the failures by cause."""
        return sorted(self.finished, key=lambda played: played.episode.number), self.failures


class TooManyFailures(DuologueError):
    """More episodes failed than the run allows."""


class Collector:
    """Plays episodes in parallel on the client's loop.

    Args:
        task: What is played.
        slots: Dialogues under way at once.
        seed: Decides scenarios and noise.
        noise_size: Uniform numbers that one action takes.
        max_failure_fraction: Share of failed attempts, over the last 50, above which the run stops.
        attempts: How often one episode is tried before it is left out.
    """

    window = 50

    def __init__(
        self,
        task: Task,
        slots: int,
        seed: int,
        noise_size: int = 1,
        *,
        max_failure_fraction: float = 0.2,
        attempts: int = 3,
    ) -> None:
        self.task = task
        self.seed = seed
        self.next_episode = 0
        self._dialogues = [Dialogue(task) for _ in range(slots)]
        self._noise_size = noise_size
        self._max_failure_fraction = max_failure_fraction
        self._attempts = attempts
        self._recent: deque[bool] = deque(maxlen=self.window)
        self._ready: queue.SimpleQueue[_Ready | BaseException] = queue.SimpleQueue()

    def collect(
        self,
        n_episodes: int,
        act: Act,
        on_step: Callable[[Played, Transition], bool] = lambda played, transition: True,
    ) -> tuple[list[Played], Counter[str]]:
        """Plays a fixed number of episodes to their ends.

        Args:
            n_episodes: How many; those that fail after all attempts are among them.
            act: The policy.
            on_step: Called after every transition, in order of arrival; returning false ends the rollout at once.

        Returns:
            The episodes in order of their numbers, failed ones left out, and the failures by cause. Fewer episodes
            than asked for without a failure mean that ``on_step`` ended the rollout.

        Raises:
            TooManyFailures: If too large a share of attempts failed.
            DuologueError: What no retry can mend.
        """
        rollout = _Rollout(idle=list(range(len(self._dialogues))))
        for number in range(self.next_episode, self.next_episode + n_episodes):
            rollout.todo.append((self.task.curriculum.episode(self.seed, number), 1))
        self.next_episode += n_episodes
        try:
            while rollout.todo or rollout.playing:
                self._fill_slots(rollout)
                waiting = []
                for item in self._drain():
                    played, _ = rollout.playing[item.slot]
                    if item.transition is not None:
                        played.transitions.append(item.transition)
                        if not on_step(played, item.transition):
                            return rollout.outcome()
                    if item.observation is not None:
                        waiting.append((item.slot, played, item.observation))
                    else:
                        self._settle(rollout, item)
                self._step(waiting, act)
        finally:
            self._abandon(rollout)
        return rollout.outcome()

    def _fill_slots(self, rollout: _Rollout) -> None:
        """Starts the next episodes in the slots that are free."""
        starts = {}
        while rollout.idle and rollout.todo:
            episode, attempt = rollout.todo.popleft()
            slot = rollout.idle.pop()
            rollout.playing[slot] = (Played(episode), attempt)
            starts[slot] = self._start(slot, self._dialogues[slot], episode)
        self._spawn(starts)

    def _settle(self, rollout: _Rollout, item: _Ready) -> None:
        """Takes an episode that is over out of its slot: finished, to be tried again, or left out."""
        played, attempt = rollout.playing.pop(item.slot)
        rollout.idle.append(item.slot)
        if item.failed is None:
            rollout.finished.append(played)
        else:
            rollout.failures[item.failed.cause] += 1
            if attempt < self._attempts:
                rollout.todo.append((played.episode, attempt + 1))
        self._watch(item.failed)

    def _step(self, waiting: list[tuple[int, Played, Observation]], act: Act) -> None:
        """One forward pass for all dialogues that are ready, then their steps."""
        if not waiting:
            return
        noise = np.stack(
            [
                np.random.default_rng([self.seed, played.episode.number, len(played.actions)]).random(self._noise_size)
                for _, played, _ in waiting
            ]
        )
        actions = act([observation for _, _, observation in waiting], noise)
        steps = {}
        for (slot, played, observation), action in zip(waiting, actions, strict=True):
            played.observations.append(observation)
            played.actions.append(action)
            steps[slot] = self._advance(slot, self._dialogues[slot], action)
        self._spawn(steps)

    async def _start(self, slot: int, dialogue: Dialogue, episode: Episode) -> _Ready:
        observation, _ = await dialogue.reset(episode)
        return _Ready(slot, observation)

    async def _advance(self, slot: int, dialogue: Dialogue, action: Any) -> _Ready:
        transition = await dialogue.step(action)
        over = transition.terminated or transition.truncated
        return _Ready(slot, None if over else transition.observation, transition)

    def _spawn(self, work: dict[int, Coroutine[Any, Any, _Ready]]) -> None:
        """Starts the work of several slots with one hop to the loop's thread."""
        sink = self._ready

        async def report(slot: int, job: Coroutine[Any, Any, _Ready]) -> None:
            try:
                sink.put(await job)
            except EpisodeFailed as error:
                sink.put(_Ready(slot, failed=error))
            except BaseException as error:  # the main thread must learn of it: nobody else awaits this task
                sink.put(error)
                if not isinstance(error, Exception):
                    raise

        self.task.client.thread.spawn_batch([report(slot, job) for slot, job in work.items()])

    def _drain(self) -> list[_Ready]:
        """Waits for the first dialogue that is ready and takes along all others that are."""
        items = [self._ready.get()]
        while not self._ready.empty():
            items.append(self._ready.get())
        for item in items:
            if isinstance(item, BaseException):
                raise item
        return [item for item in items if isinstance(item, _Ready)]

    def _watch(self, failed: EpisodeFailed | None) -> None:
        self._recent.append(failed is not None)
        share = sum(self._recent) / len(self._recent)
        enough = len(self._recent) >= min(self.window, max(10, math.ceil(1 / max(self._max_failure_fraction, 1e-9))))
        if failed is not None and enough and share > self._max_failure_fraction:
            raise TooManyFailures(
                f"{share:.0%} of the last {len(self._recent)} episodes failed, more than "
                f"`agent.max_failure_fraction={self._max_failure_fraction:g}` allows; the latest: {failed}"
            )

    def _abandon(self, rollout: _Rollout) -> None:
        """After an early end: dialogues under way report to a queue that nobody reads, in slots that nobody uses."""
        if rollout.playing:
            self._ready = queue.SimpleQueue()
            self._dialogues = [Dialogue(self.task) for _ in self._dialogues]
