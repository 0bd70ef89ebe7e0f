"""Schedules a rollout's episodes on the client's event loop and batches the policy's decisions."""

from __future__ import annotations

import asyncio
import heapq
import queue
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ..envs.dialogue import Dialogue
from ..envs.episode import EpisodeFailed, Observation, Transition, TurnDeadline
from ..envs.task import Task
from .buffer import Trajectory


class SlotOccupancy:
    """Σ seconds in which slots were occupied: the integral of their number over time.

    Attributes:
        count: How many are occupied now.
    """

    def __init__(self) -> None:
        self.count, self._seconds, self._since = 0, 0.0, time.perf_counter()
        self._nobody: asyncio.Event | None = None

    def restart(self) -> None:
        """Counts from zero; slots that are occupied stay so."""
        self._seconds, self._since = 0.0, time.perf_counter()

    def seconds(self) -> float:
        """The sum up to now."""
        self.change(0)
        return self._seconds

    def change(self, by: int) -> None:
        """Changes the number of occupied slots."""
        now = time.perf_counter()
        self._seconds += self.count * (now - self._since)
        self._since = now
        self.count += by
        if self.count == 0 and self._nobody is not None:
            self._nobody.set()

    async def nobody(self) -> None:
        """Waits until no slot is occupied."""
        self._nobody = asyncio.Event()
        if self.count:
            await self._nobody.wait()


T = TypeVar("T")

_REST = 8.0
"""Times as long as a forward pass took, before the next one: at 570 turns a second they took 15% of the time without."""


class ActFunction(Protocol):
    """Chooses actions for the dialogues that are ready; called on the loop's thread."""

    def __call__(
        self, observations: Sequence[Observation], noise: npt.NDArray[np.float64]
    ) -> tuple[Sequence[Any], Sequence[float] | npt.NDArray[np.float64]]:
        """Returns one action per observation and its log-probability.

        ``noise`` is uniform in [0, 1), shape (len(observations), k).
        """
        ...


@dataclass(frozen=True)
class Event:
    """An event of an episode: a transition, a failure or a cut, and whether the episode is over.

    A cut is a turn that took too long: the episode ends before it.
    """

    played: Trajectory
    transition: Transition | None = None
    failed: EpisodeFailed | None = None
    cut: bool = False
    over: bool = False


class EpisodeScheduler:
    """Plays episodes by number in a fixed number of slots. Its coroutines run on the client's loop, and only there.

    Args:
        task: The task.
        slots: Dialogues under way at once.
        seed: Decides scenarios and noise.
        noise_size: Uniform numbers that one action takes.
        attempts: How often one episode is tried.
        sink: Gets the events, and errors that no retry can mend.
    """

    def __init__(
        self,
        task: Task,
        slots: int,
        seed: int,
        noise_size: int,
        attempts: int,
        sink: queue.SimpleQueue[Event | BaseException],
    ) -> None:
        self._task, self._seed, self._noise_size, self._attempts, self._sink = task, seed, noise_size, attempts, sink
        self._idle = [Dialogue(task, observe_end=False) for _ in range(slots)]
        self._next = self._end = self._limit = 0  # next to start, first of the next rollout, first not to be started
        self._retries: list[tuple[int, int]] = []  # a heap of number and attempt
        self._tasks: set[asyncio.Task[None]] = set()
        self._rollout = 0
        self._waiting: list[tuple[Trajectory, Observation, asyncio.Future[Any]]] = []
        self._act: ActFunction | None = None
        self._due: asyncio.Handle | None = None
        self._resting = False
        self._rest_until = 0.0
        self._cancelling = False
        self._occupied = SlotOccupancy()
        self.forward_s = 0.0

    async def begin(self, rollout: int, first: int, n_episodes: int, ahead: int, act: ActFunction) -> int:
        """Begins a rollout, or goes on with the episodes of it that were started ahead.

        Args:
            rollout: Its number.
            first: Number of its first episode.
            n_episodes: Number of episodes.
            ahead: How many of the next rollout may be started once all of this one are.
            act: The policy.

        Returns:
            How many episodes it has: those that were started belong to it.
        """
        self._next = max(self._next, first)
        self._end = max(first + n_episodes, self._next)
        self._limit = self._end + ahead
        self._rollout, self._act, self._cancelling = rollout, act, False
        self.forward_s = 0.0
        self._occupied.restart()
        self._fill()
        self._act_soon()
        return self._end - first

    async def pause(self) -> float:
        """Ends a rollout: no action is taken until the next one begins; requests in flight go on.

        Returns:
            Σ seconds in which slots waited for endpoints.
        """
        self._act = None
        return self._occupied.seconds()

    async def drain(self) -> None:
        """Stops a rollout: waits for the running turns and begins no new ones."""
        self._stop()
        await self._occupied.nobody()
        await self.cancel()

    async def cancel(self) -> None:
        """Cancels a rollout with its running turns, and waits until they have ended."""
        self._stop()
        self._cancelling = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._next = 0
        self._waiting.clear()

    def _stop(self) -> None:
        self._act = None
        self._end = self._limit = 0
        self._retries.clear()

    def _fill(self) -> None:
        """Starts episodes in the free slots: the rollout's own, those that failed again, those ahead."""
        while self._idle and (chosen := self._choose()) is not None:
            number, attempt = chosen
            played = Trajectory(self._task.curriculum.episode(self._seed, number))
            dialogue = self._idle.pop()
            task = asyncio.get_running_loop().create_task(self._play(dialogue, played, attempt))
            self._tasks.add(task)
            task.add_done_callback(partial(self._free, dialogue))

    def _free(self, dialogue: Dialogue, task: asyncio.Task[None]) -> None:
        """Takes a slot back, also from an episode that was cancelled before it began."""
        self._tasks.discard(task)
        self._idle.append(dialogue)
        self._fill()

    def _choose(self) -> tuple[int, int] | None:
        if self._next >= self._end and self._retries:
            return heapq.heappop(self._retries)
        if self._next < self._limit:
            self._next += 1
            return self._next - 1, 1
        return None

    async def _play(self, dialogue: Dialogue, played: Trajectory, attempt: int) -> None:
        """Plays one episode and reports its events."""
        try:
            observation, _ = await self._wait_for(dialogue.reset(played.episode))
            over = False
            while not over:
                action = await self._decision(played, observation)
                transition = await self._wait_for(dialogue.step(action))
                over = transition.terminated or transition.truncated
                self._sink.put(Event(played, transition, over=over))
                observation = transition.observation
        except TurnDeadline:
            self._sink.put(Event(played, cut=True, over=True))
        except EpisodeFailed as error:
            again = attempt < self._attempts
            if again and self._limit:
                heapq.heappush(self._retries, (played.episode.number, attempt + 1))
            self._sink.put(Event(played, failed=error, over=not again))
        except BaseException as error:  # the main thread must learn of it: nobody else awaits this task
            if not self._cancelling:
                self._stop()
                self._sink.put(error)
            if not isinstance(error, Exception):
                raise

    async def _wait_for(self, job: Coroutine[Any, Any, T]) -> T:
        self._occupied.change(1)
        try:
            return await job
        finally:
            self._occupied.change(-1)

    async def _decision(self, played: Trajectory, observation: Observation) -> Any:
        decision: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((played, observation, decision))
        self._act_soon()
        return await decision

    def _act_soon(self) -> None:
        """One forward pass serves all dialogues that become ready in the same round of the loop.

        Under load it serves those of several rounds: after a pass the next one waits for some times as long as that took,
        unless nothing else is going on.
        """
        if not self._waiting or self._act is None:
            return
        loop = asyncio.get_running_loop()
        rest_s = self._rest_until - time.perf_counter() if self._occupied.count else 0.0
        if self._due is not None and rest_s <= 0 and self._resting:
            self._due.cancel()
            self._due = None
        if self._due is None:
            self._resting = rest_s > 0
            self._due = loop.call_later(rest_s, self._decide) if self._resting else loop.call_soon(self._decide)

    def _decide(self) -> None:
        self._due = None
        if self._act is None:
            return
        waiting, self._waiting = self._waiting, []
        began = time.perf_counter()
        try:
            noise = np.stack([self._noise(played) for played, _, _ in waiting])
            actions, log_probs = self._act([observation for _, observation, _ in waiting], noise)
            for (played, observation, decision), action, log_prob in zip(waiting, actions, log_probs, strict=True):
                played.observations.append(observation)
                played.actions.append(action)
                played.log_probs.append(float(log_prob))
                played.rollouts.append(self._rollout)
                if not decision.done():
                    decision.set_result(action)
        except Exception as error:  # noqa: BLE001  (raised again on the main thread)
            self._stop()
            self._sink.put(error)
        now = time.perf_counter()
        self.forward_s += now - began
        self._rest_until = now + _REST * (now - began)

    def _noise(self, played: Trajectory) -> npt.NDArray[np.float64]:
        key = [self._seed, played.episode.number, len(played.actions)]
        return np.random.default_rng(key).random(self._noise_size)
