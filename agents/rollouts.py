"""Collects a rollout as a queue of episodes: no episode waits for the slowest one, and none is dropped."""

from __future__ import annotations

import math
import queue
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ..core.errors import DuologueError, RunStopped, TooManyFailures
from ..envs.episode import EpisodeFailed, Transition
from ..envs.task import Task
from .buffer import Trajectory
from .scheduler import ActFunction, EpisodeScheduler, Event

WINDOW = 50
"""Dialogues over which failures are counted."""


class FailureWatch:
    """Counts failures among the latest dialogues.

    Args:
        most: Share of failed ones above which the run stops.
        what: Plural noun of the counted things, for the message.
    """

    def __init__(self, most: float, what: str) -> None:
        self._most, self._what = most, what
        self._recent: deque[bool] = deque(maxlen=WINDOW)

    def add(self, failed: EpisodeFailed | None) -> None:
        """Counts a finished episode, or a failed attempt.

        Args:
            failed: The failure
            None for a finished episode.:

        Raises:
            TooManyFailures: If too many of the latest failed, and they are enough to tell.
        """
        self._recent.append(failed is not None)
        share = sum(self._recent) / len(self._recent)
        enough = len(self._recent) >= min(WINDOW, max(10, math.ceil(1 / max(self._most, 1e-9))))
        if failed is not None and enough and share > self._most:
            raise TooManyFailures(
                f"{share:.0%} of the last {len(self._recent)} {self._what} failed, more than "
                f"`agent.max_failure_fraction={self._most:g}` allows; the latest: {failed}"
            )


_GATHER_S = 0.005
"""The main thread looks at events in batches: each time that it wakes, the loop's thread has to wait for it."""

OnStep = Callable[[Trajectory, Transition], bool]


def expected_turns(task: Task) -> float:
    """The expected turns of an episode before any was played: the mean over the scenarios' possible lengths."""
    return sum(task.turns(scenario) for scenario in task.scenarios) / len(task.scenarios)


def next_expected(before: float, turns: int, episodes: int, first: bool) -> float:
    """Turns of an episode after a rollout: the first measurement replaces the assumption, later ones count one half."""
    measured = turns / episodes
    return measured if first else (before + measured) / 2


def most_training_turns(task: Task, total: int, rollout: int) -> int:
    """Bounds the turns that a training plays, failed attempts not counted.

    Where every dialogue has one turn these are whole rollouts. Longer dialogues end when they will, so that a rollout is
    only about as long as it should be: there may be one more.

    Args:
        task: The task.
        total: Turns to learn from.
        rollout: Turns that a rollout aims at.

    Returns:
        The bound.
    """
    longest = max(task.turns(scenario) for scenario in task.scenarios)
    return -(-total // rollout) * rollout + (max(rollout, longest) if longest > 1 else 0)


def episodes_to_play(task: Task, aim: int, expected: float, left: int) -> int:
    """Computes the number of episodes of the next rollout.

    Args:
        task: The task.
        aim: Turns that it should have.
        expected: Turns of an episode.
        left: Turns that may still be played at most; the episodes fit even if each lasts as long as it can.

    Returns:
        The number, at least 1.
    """
    longest = max(task.turns(scenario) for scenario in task.scenarios)
    number = round(aim / expected)
    return max(1, min(number, left // longest) if longest > 1 else number)


@dataclass
class Timing:
    """Times of one rollout.

    Attributes:
        wall_s: From its beginning to its end.
        busy_s: Σ seconds in which slots waited for endpoints: to start an episode, or to carry out an action.
        wait_s: Seconds in which the main thread had nothing to do but wait.
        forward_s: Seconds in which the policy chose actions.
    """

    wall_s: float = 0.0
    busy_s: float = 0.0
    wait_s: float = 0.0
    forward_s: float = 0.0


class EpisodeCollector(Protocol):
    """Interface of collectors: `Collector` in this process, or workers elsewhere.

    Attributes:
        task: The task.
        next_episode: Number of the first episode of the next rollout.
        rollout: Rollouts begun so far.
        timing: Times of the latest rollout.
        cut: Turns that were complete in each episode of the latest rollout that a turn's deadline cut.
    """

    task: Task
    next_episode: int
    rollout: int
    timing: Timing
    cut: list[int]

    def collect(
        self, n_episodes: int, act: ActFunction, on_step: OnStep = ..., *, max_ahead_episodes: int = 0
    ) -> tuple[list[Trajectory], Counter[str]]:
        """Plays a fixed number of episodes to their ends; see `Collector.collect`."""
        ...

    def close(self) -> None:
        """Frees resources between rollouts; the next rollout allocates them again."""
        ...


@dataclass
class _Rollout:
    """The books of one rollout: how many episodes are still to be over, and what came of the others."""

    first: int
    left: int
    finished: list[Trajectory] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    cut: list[int] = field(default_factory=list)

    def outcome(self) -> tuple[list[Trajectory], Counter[str]]:
        """The finished episodes in order, and the failures by cause."""
        return sorted(self.finished, key=lambda played: played.episode.number), self.failures


class Collector:
    """Plays episodes in parallel on the client's loop.

    With ``max_ahead_episodes`` the slots that the last episodes of a rollout leave free start episodes of the next one,
    and go on with them, as far as no action is needed, while the policy is updated. Those episodes belong to the next
    rollout, which they begin; their first actions are then one update old, never more.

    Args:
        task: The task.
        slots: Dialogues under way at once.
        seed: Decides scenarios and noise.
        noise_size: Uniform numbers that one action takes.
        max_failure_fraction: Share of failed attempts, over the last 50, above which the run stops.
        attempts: How often one episode is tried before it is left out.

    Attributes:
        next_episode: Number of the first episode of the next rollout.
        rollout: Rollouts begun so far.
        timing: Times of the latest rollout.
        cut: Turns that were complete in each episode of the latest rollout that a turn's deadline cut.
    """

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
        self.timing = Timing()
        self.cut: list[int] = []
        self.rollout = 0
        self._watch = FailureWatch(max_failure_fraction, "episodes")
        self._sink: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        self._later: list[Event] = []  # of episodes that were started ahead
        self._scheduler = EpisodeScheduler(task, slots, seed, noise_size, attempts, self._sink)

    def collect(
        self,
        n_episodes: int,
        act: ActFunction,
        on_step: OnStep = lambda played, transition: True,
        *,
        max_ahead_episodes: int = 0,
    ) -> tuple[list[Trajectory], Counter[str]]:
        """Plays a fixed number of episodes to their ends.

        Args:
            n_episodes: How many; those that fail after all attempts are among them. If more were started ahead, these.
            act: The policy; called on the loop's thread.
            on_step: Called on this thread after every transition, in order of arrival, those of episodes that were
                started ahead first; returning false ends the rollout: turns under way are waited for, no other is begun.
            max_ahead_episodes: Episodes of the next rollout that may be started once all of this one are.

        Returns:
            The episodes in order of their numbers, failed ones left out, and the failures by cause. After an end by
            ``on_step`` or an error, the next call plays the same episodes from their beginnings.

        Raises:
            TooManyFailures: If too large a share of attempts failed.
            DuologueError: What no retry can mend. The turns under way have ended then, so that what was paid for is in
                the cassette.
        """
        run, first, began = self.task.client.run, self.next_episode, time.perf_counter()
        self.timing, complete = Timing(), False
        self.rollout += 1
        try:
            rollout = _Rollout(
                first, run(self._scheduler.begin(self.rollout, first, n_episodes, max_ahead_episodes, act))
            )
            self.next_episode = first + rollout.left
            if self._play(rollout, on_step):
                self.timing.busy_s = run(self._scheduler.pause())
                complete = True
            else:
                run(self._scheduler.drain())
            self.cut = rollout.cut
        except DuologueError as reason:
            if isinstance(reason, RunStopped):
                self.task.client.stop(reason)
            run(self._scheduler.drain())
            raise
        finally:
            self.timing.forward_s = self._scheduler.forward_s
            self.timing.wall_s = time.perf_counter() - began
            if not complete:
                self.next_episode = first
                self.close()
        return rollout.outcome()

    def close(self) -> None:
        """Drops episodes that were begun ahead; the next rollout begins them again."""
        if not self.task.client.thread.loop.is_closed():
            self.task.client.run(self._scheduler.cancel())
        while not self._sink.empty():
            self._sink.get()
        self._later = []

    def _play(self, rollout: _Rollout, on_step: OnStep) -> bool:
        """Reads events until all episodes are over; false if ``on_step`` said stop."""
        events, self._later = self._later, []
        while True:
            for event in events:
                if event.played.episode.number >= self.next_episode:
                    self._later.append(event)
                    continue
                if event.transition is not None:
                    event.played.transitions.append(event.transition)
                    if not on_step(event.played, event.transition):
                        return False
                self._settle(rollout, event)
            if not rollout.left:
                return True
            events = self._events()

    def _settle(self, rollout: _Rollout, event: Event) -> None:
        rollout.left -= event.over
        if event.cut:
            rollout.cut.append(len(event.played.transitions))
            if event.played.end_before_last_action():
                rollout.finished.append(event.played)
        elif event.failed is not None:
            rollout.failures[event.failed.cause] += 1
        elif event.over:
            rollout.finished.append(event.played)
        if event.over or event.failed is not None:
            self._watch.add(event.failed)

    def _events(self) -> list[Event]:
        """Waits for the first event and takes along all others that come soon after."""
        began = time.perf_counter()
        items = [self._sink.get()]
        time.sleep(_GATHER_S)
        self.timing.wait_s += time.perf_counter() - began
        while not self._sink.empty():
            items.append(self._sink.get())
        for item in items:
            if isinstance(item, BaseException):
                raise item
        return [item for item in items if isinstance(item, Event)]
