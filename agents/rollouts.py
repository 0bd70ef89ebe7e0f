"""Rollouts as a queue of episodes: nobody waits for the slowest dialogue, and nothing is dropped.

The number of episodes is fixed before the rollout, every episode is bound to its scenario by its number, free slots
take the next one, and actions are drawn from noise keyed by (seed, episode, step). What is collected is therefore the
same whatever the latencies were: finishing first buys no place in the batch.

With ``max_ahead_episodes`` slots that are free while the last episodes of a rollout end begin episodes of the next one.
These keep running while the policy is updated, belong to the next rollout, and are at most one update old.
"""

from __future__ import annotations

import asyncio
import math
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..envs.dialogue import Dialogue, EpisodeFailed, Transition
from ..envs.episodes import Episode
from ..envs.observation import Observation
from ..envs.task import Task
from ..inference.errors import DuologueError
from .played import Played


class Act(Protocol):
    """Chooses actions for the dialogues that are ready."""

    def __call__(self, observations: Sequence[Observation], noise: np.ndarray) -> tuple[Sequence[Any], Sequence[float]]:
        """Returns one action per observation and its log-probability.

        ``noise`` is uniform in [0, 1), shape (len(observations), k).
        """
        ...


@dataclass
class Timing:
    """Where the time of one rollout went, in seconds.

    Attributes:
        wall_s: From its beginning to its end.
        busy_s: Summed over the slots: how long their dialogues waited for endpoints.
        wait_s: How long nothing was ready.
        forward_s: How long the policy took to choose actions.
    """

    wall_s: float = 0.0
    busy_s: float = 0.0
    wait_s: float = 0.0
    forward_s: float = 0.0


@dataclass(frozen=True)
class _Ready:
    """What a slot's job came to: an observation that wants an action, the end of an episode, or an error."""

    slot: int
    began: float
    ended: float
    observation: Observation | None = None  # None: the episode is over
    transition: Transition | None = None
    failed: EpisodeFailed | None = None
    error: BaseException | None = None


_Job = Coroutine[Any, Any, tuple[Observation | None, Transition | None]]
OnStep = Callable[[Played, Transition], bool]


class TooManyFailures(DuologueError):
    """More episodes failed than the run allows."""


class Stopped(Exception):
    """`on_step` asked for the end of the rollout."""


class Collector:
    """Plays episodes in parallel on the client's loop.

    Args:
        task: What is played.
        slots: Dialogues under way at once.
        seed: Decides scenarios and noise.
        noise_size: Uniform numbers that one action takes.
        max_failure_fraction: Share of failed attempts, over the last 50, above which the run stops.
        attempts: How often one episode is tried before it is left out.

    Attributes:
        next_episode: Number of the next rollout's first episode.
        rollout: Rollouts begun so far.
        timing: Of the latest rollout.
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
        self.rollout = 0
        self.timing = Timing()
        self._dialogues = [Dialogue(task) for _ in range(slots)]
        self._noise_size = noise_size
        self._max_failure_fraction = max_failure_fraction
        self._attempts = attempts
        self._recent: deque[bool] = deque(maxlen=self.window)
        self._jobs: set[asyncio.Task[Any]] = set()  # touched on the loop's thread only
        self._window_start = 0.0
        self._forget()

    def _forget(self) -> None:
        """As if no episode had been begun."""
        self._ready: queue.SimpleQueue[_Ready] = queue.SimpleQueue()
        self._idle = list(range(len(self._dialogues)))
        self._playing: dict[int, tuple[Played, int]] = {}  # by slot, with the attempt
        self._again: deque[tuple[Episode, int]] = deque()
        self._over: dict[int, Played | None] = {}  # by number; None for one that is left out
        self._under_way: dict[int, float] = {}  # by slot: when its job was handed over
        self._begun: int | None = None  # number of the next episode to begin

    def collect(
        self,
        n_episodes: int,
        act: Act,
        on_step: OnStep = lambda played, transition: True,
        *,
        max_ahead_episodes: int = 0,
    ) -> tuple[list[Played], Counter[str]]:
        """Plays a fixed number of episodes to their ends.

        Args:
            n_episodes: How many; those that fail after all attempts are among them. At least those that were begun
                ahead are played.
            act: The policy.
            on_step: Called after every transition, in order of arrival, those of episodes begun ahead first. If it
                returns false no further request is made, what is under way is awaited, and the rollout is given up:
                the next one plays its episodes again.
            max_ahead_episodes: Episodes of the next rollout that may be begun while the last of this one end.

        Returns:
            The episodes in order of their numbers, failed ones left out, and the failures by cause. Fewer episodes
            than asked for without a failure mean that ``on_step`` ended the rollout.

        Raises:
            TooManyFailures: If too large a share of attempts failed.
            DuologueError: What no retry can mend.
        """
        first = self.next_episode
        begun = first if self._begun is None else self._begun
        self._begun, end = begun, max(first + n_episodes, begun)
        self.rollout += 1
        self.timing = Timing()
        failures: Counter[str] = Counter()
        self._window_start = time.monotonic()
        try:
            self._recount(end, on_step)
            while any(number not in self._over for number in range(first, end)):
                self._fill_slots(end + max_ahead_episodes)
                waiting = self._take(end, failures, on_step)
                self._step(waiting, act)
        except BaseException as error:  # noqa: BLE001  (raised again below)
            try:
                if not isinstance(error, Stopped):
                    raise
                self._drain()
                return [played for number in range(first, end) if (played := self._over.get(number))], failures
            finally:
                self._cancel()
                self._forget()
        self._close_window(time.monotonic())
        self.next_episode = end
        finished = [played for number in range(first, end) if (played := self._over.pop(number))]
        return finished, failures

    def _recount(self, end: int, on_step: OnStep) -> None:
        """Tells of the transitions that were made ahead, now that their rollout has begun."""
        ahead = [played for played in self._over.values() if played is not None]
        ahead += [played for played, _ in self._playing.values()]
        for played in sorted(ahead, key=lambda played: played.episode.number):
            for transition in played.transitions:
                self._tell(played, transition, end, on_step)

    def _tell(self, played: Played, transition: Transition, end: int, on_step: OnStep) -> None:
        if played.episode.number < end and not on_step(played, transition):
            raise Stopped

    def _fill_slots(self, limit: int) -> None:
        """Starts the next episodes, those below the limit, in the slots that are free."""
        assert self._begun is not None
        starts = {}
        while self._idle:
            if self._again:
                episode, attempt = self._again.popleft()
            elif self._begun < limit:
                episode, attempt = self.task.curriculum.episode(self.seed, self._begun), 1
                self._begun += 1
            else:
                break
            slot = self._idle.pop()
            self._playing[slot] = (Played(episode), attempt)
            starts[slot] = _start(self._dialogues[slot], episode)
        self._spawn(starts)

    def _take(self, end: int, failures: Counter[str], on_step: OnStep) -> list[tuple[int, Played, Observation]]:
        """Waits for dialogues that are ready; returns those that want an action."""
        waiting = []
        for item in self._receive():
            played, _ = self._playing[item.slot]
            if item.transition is not None:
                played.transitions.append(item.transition)
            if item.observation is not None:
                waiting.append((item.slot, played, item.observation))
            else:
                self._settle(item, failures)
            if item.transition is not None:
                self._tell(played, item.transition, end, on_step)
        return waiting

    def _settle(self, item: _Ready, failures: Counter[str]) -> None:
        """Takes an episode that is over out of its slot: finished, to be tried again, or left out."""
        played, attempt = self._playing.pop(item.slot)
        self._idle.append(item.slot)
        if item.failed is None:
            self._over[played.episode.number] = played
        else:
            failures[item.failed.cause] += 1
            if attempt < self._attempts:
                self._again.append((played.episode, attempt + 1))
            else:
                self._over[played.episode.number] = None
        self._watch(item.failed)

    def _step(self, waiting: list[tuple[int, Played, Observation]], act: Act) -> None:
        """One choice of actions for all dialogues that are ready, then their steps."""
        if not waiting:
            return
        noise = np.stack(
            [
                np.random.default_rng([self.seed, played.episode.number, len(played.actions)]).random(self._noise_size)
                for _, played, _ in waiting
            ]
        )
        start = time.monotonic()
        actions, log_probs = act([observation for _, _, observation in waiting], noise)
        self.timing.forward_s += time.monotonic() - start
        steps = {}
        for (slot, played, observation), action, log_prob in zip(waiting, actions, log_probs, strict=True):
            played.observations.append(observation)
            played.actions.append(action)
            played.log_probs.append(float(log_prob))
            played.rollouts.append(self.rollout)
            steps[slot] = _advance(self._dialogues[slot], action)
        self._spawn(steps)

    def _spawn(self, work: dict[int, _Job]) -> None:
        """Starts the work of several slots with one hop to the loop's thread."""
        sink = self._ready

        async def report(slot: int, job: _Job) -> None:
            began = time.monotonic()
            observation = transition = failed = error = None
            try:
                observation, transition = await job
            except EpisodeFailed as failure:
                failed = failure
            except BaseException as fault:  # the main thread must learn of it: nobody else awaits this task
                error = fault
                if not isinstance(fault, Exception):
                    raise
            finally:
                sink.put(_Ready(slot, began, time.monotonic(), observation, transition, failed, error))

        now = time.monotonic()
        self._under_way |= dict.fromkeys(work, now)
        self.task.client.thread.spawn_batch([report(slot, job) for slot, job in work.items()], self._jobs)

    def _receive(self) -> list[_Ready]:
        """Waits for the first dialogue that is ready and takes along all others that are."""
        start = time.monotonic()
        items = [self._ready.get()]
        self.timing.wait_s += time.monotonic() - start
        while not self._ready.empty():
            items.append(self._ready.get())
        for item in items:
            del self._under_way[item.slot]
            self.timing.busy_s += item.ended - max(item.began, self._window_start)
        for item in items:
            if item.error is not None:
                raise item.error
        return items

    def _close_window(self, now: float) -> None:
        """Adds what is still under way to the rollout's figures."""
        self.timing.wall_s = now - self._window_start
        self.timing.busy_s += sum(now - max(since, self._window_start) for since in self._under_way.values())

    def _drain(self) -> None:
        """Waits for what is under way, so that every answer that is paid for arrives."""
        while self._under_way:
            self._receive()

    def _cancel(self) -> None:
        """Ends what is under way and waits until it has ended."""

        async def end() -> None:
            jobs = list(self._jobs)
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

        ending = end()
        with suppress(RuntimeError):  # the loop is closed, and with it all that ran there
            self.task.client.thread.run(ending)

    def _watch(self, failed: EpisodeFailed | None) -> None:
        self._recent.append(failed is not None)
        share = sum(self._recent) / len(self._recent)
        enough = len(self._recent) >= min(self.window, max(10, math.ceil(1 / max(self._max_failure_fraction, 1e-9))))
        if failed is not None and enough and share > self._max_failure_fraction:
            raise TooManyFailures(
                f"{share:.0%} of the last {len(self._recent)} episodes failed, more than "
                f"`agent.max_failure_fraction={self._max_failure_fraction:g}` allows; the latest: {failed}"
            )


async def _start(dialogue: Dialogue, episode: Episode) -> tuple[Observation | None, Transition | None]:
    observation, _ = await dialogue.reset(episode)
    return observation, None


async def _advance(dialogue: Dialogue, action: Any) -> tuple[Observation | None, Transition | None]:
    transition = await dialogue.step(action)
    over = transition.terminated or transition.truncated
    return None if over else transition.observation, transition
