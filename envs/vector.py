"""The vector environment: N dialogues on one event loop, stepped together.

A lock-step interface waits for its slowest dialogue at every step; `agents.rollouts` does not, and is what `duologue
train` uses. This one is for every other library that takes a Gymnasium vector environment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from ..core.errors import ArgumentError, ConfigError
from .dialogue import Dialogue
from .env import scenario_by_id, task_from
from .episode import Episode, EpisodeFailed, Observation, Transition
from .policies import action_mask
from .scenarios.scenario import Scenario
from .task import Task

Started = tuple[Observation, dict[str, Any]]
Outcome = tuple[Transition | None, Started | None]
Flags = npt.NDArray[np.bool_]
T = TypeVar("T")

RESET_ATTEMPTS = 3
"""How often an episode is tried that fails before its first turn."""


class DialogueVectorEnv(gym.vector.VectorEnv[Any, Any, Any]):
    """N copies of `DialogueEnv` with concurrent requests.

    Episodes are numbered over all copies: with one seed, copy i plays the episodes i, i + N, i + 2N, … of that seed,
    so that the N copies together deal every scenario once an epoch.

    Args:
        num_envs: Number of dialogues.
        task: A ready task, or give the arguments of `Task.build`.
        autoreset_mode: `NEXT_STEP` (default), `SAME_STEP` or `DISABLED`, as a member or its value.
        max_episode_steps: Turns after which a dialogue is truncated, as by Gymnasium's `TimeLimit`: a judge with
            ``when=end`` does not take it for the end, as it does ``max_turns``.
        render_mode: None: many dialogues are not rendered.
        **parts: Arguments of `Task.build`.

    Raises:
        ConfigError: If a value is refused.
    """

    def __init__(
        self,
        num_envs: int = 1,
        task: Task | None = None,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **parts: Any,
    ) -> None:
        if render_mode is not None:
            raise ArgumentError("the vector environment does not render: use `gymnasium.make` for one dialogue")
        self.task = task_from(task, parts)
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ConfigError(f"`max_episode_steps` must be at least 1, or None, not {max_episode_steps}")
        self._max_episode_steps = max_episode_steps
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": self.autoreset_mode}
        self.single_action_space = self.task.interface.action_space
        self.single_observation_space = self.task.observer.space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._dialogues = [Dialogue(self.task) for _ in range(num_envs)]
        self._seeds: list[tuple[int, int, int]] = []  # per copy: seed, number of its first episode, stride
        self._played = [0] * num_envs
        self._ended: Flags = np.zeros(num_envs, bool)
        self.observations: list[Observation] = [{} for _ in range(num_envs)]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode in every copy, or in those of ``options["reset_mask"]``.

        Args:
            seed: One seed for all copies, or one for each. The first reset without one takes one by chance.
            options: ``reset_mask``: boolean array (num_envs,), at least one true. ``scenario``: the id of the scenario that
                the copies play, or one id, or None, for each copy.

        Returns:
            Batched observation and info.

        Raises:
            ConfigError: If the mask, the seeds or the scenarios do not fit the number of copies, or there is no such
                scenario.
            EpisodeFailed: If an episode failed before its first turn in all `RESET_ATTEMPTS`.
        """
        mask = None if options is None else options.get("reset_mask")
        chosen = np.ones(self.num_envs, bool) if mask is None else np.asarray(mask)
        if chosen.dtype != bool or chosen.shape != (self.num_envs,) or not chosen.any():
            raise ConfigError(f"`reset_mask` must be a boolean array of shape ({self.num_envs},) with a true entry")
        if not self._seeds:
            self._seed_all(int(self.np_random.integers(2**31)))
        named = None if options is None else options.get("scenario")
        names = [named] * self.num_envs if named is None or isinstance(named, str) else list(named)
        if len(names) != self.num_envs:
            raise ConfigError(f"`scenario` names {len(names)} scenarios for {self.num_envs} environments")
        scenarios = {i: scenario_by_id(self.task, name) for i, name in enumerate(names) if name is not None}
        if seed is not None:
            self._seed_all(seed)
        infos: dict[str, Any] = {}
        started = self.task.client.run(self.begin(list(np.flatnonzero(chosen)), scenarios))
        for i, (observation, info) in started.items():
            self.observations[i] = observation
            infos = self._add_info(infos, info, i)
        self._ended[chosen] = False
        return self._batch(), infos

    def step(self, actions: Any) -> tuple[Any, npt.NDArray[np.float64], Flags, Flags, dict[str, Any]]:
        """Makes one assistant turn in every copy.

        Args:
            actions: One action per copy; those of copies that only reset are ignored.

        Returns:
            Batched observation, rewards, terminated, truncated and info. In `SAME_STEP` the last observation of an
            ended episode is in ``info["final_obs"]``, its info in ``info["final_info"]``. A turn that failed truncates
            its copy's episode, with ``failure`` in its info and NaN for a reward; the other copies go on.

        Raises:
            ConfigError: If an action is not in the space, or an episode has ended and the mode is `DISABLED`.
            EpisodeFailed: If a next episode failed before its first turn in all `RESET_ATTEMPTS`.
        """
        if self.autoreset_mode is AutoresetMode.DISABLED and self._ended.any():
            raise ConfigError("an episode has ended: reset it with `reset(options={'reset_mask': mask})` first")
        resting = (
            self._ended.copy() if self.autoreset_mode is AutoresetMode.NEXT_STEP else np.zeros(self.num_envs, bool)
        )
        outcomes = self.task.client.run(self.advance(list(iterate(self.action_space, actions)), resting))
        self.observe(outcomes)
        rewards = np.zeros(self.num_envs)
        terminated, truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        infos: dict[str, Any] = {}
        for i, (transition, started) in enumerate(outcomes):
            info: dict[str, Any] = {}
            if transition is not None:
                rewards[i], terminated[i], truncated[i] = transition.reward, transition.terminated, transition.truncated
                self.observations[i], info = transition.observation, transition.info
            if started is not None:
                final = {} if transition is None else {"final_obs": transition.observation, "final_info": info}
                self.observations[i], info = started[0], {**final, **started[1]}
            infos = self._add_info(infos, info, i)
        self._ended = (
            (terminated | truncated) if self.autoreset_mode is not AutoresetMode.SAME_STEP else self._ended & False
        )
        return self._batch(), rewards, terminated, truncated, infos

    def action_masks(self) -> Flags:
        """Which actions make sense in each copy, one column for each choice of each part of an action."""
        return np.stack([action_mask(self.task.interface, seen) for seen in self.observations])

    async def advance(self, actions: Sequence[Any], resting: Flags) -> list[Outcome]:
        """Steps all copies without batching infos, for shells with their own info format.

        Args:
            actions: One per copy.
            resting: Copies that only start their next episode.

        Returns:
            Per copy: the transition, if one was made, and the start of the next episode, if one was started.

        Raises:
            ConfigError: If an action is not in the space; no copy has acted then.
        """
        if len(actions) != self.num_envs:
            raise ConfigError(f"{len(actions)} actions were given for {self.num_envs} environments")
        for action, rests in zip(actions, resting, strict=True):
            if not rests:
                self.task.interface.check(action)

        async def one(i: int) -> Outcome:
            if resting[i]:
                return None, (await self.begin([i]))[i]
            transition = await self._dialogues[i].step_or_end(actions[i])
            if self._dialogues[i].state.turn == self._max_episode_steps and not transition.terminated:
                transition = replace(transition, truncated=True)
            over = transition.terminated or transition.truncated
            if over and self.autoreset_mode is AutoresetMode.SAME_STEP:
                return transition, (await self.begin([i]))[i]
            return transition, None

        return await _all(one(i) for i in range(self.num_envs))

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """Adds the turns' scores, in the order of the copies, to the statistics that later turns are normalised by."""
        if self.task.reward is not None:
            self.task.reward.observe(transition.info for transition, _ in outcomes if transition is not None)

    async def begin(
        self, copies: Sequence[int], scenarios: Mapping[int, Scenario] = MappingProxyType({})
    ) -> dict[int, Started]:
        """Starts the next episode of each of these copies; ``scenarios`` by copy replace those that are dealt."""
        episodes = []
        for i in copies:
            seed, first, stride = self._seeds[i]
            number = first + self._played[i] * stride
            dealt = self.task.curriculum.episode(seed, number)
            episodes.append(Episode(number, scenarios[i]) if i in scenarios else dealt)
            self._played[i] += 1
        started = await _all(self._start(i, episode) for i, episode in zip(copies, episodes, strict=True))
        return dict(zip(copies, started, strict=True))

    async def _start(self, i: int, episode: Episode) -> Started:
        """Starts one episode; one that cannot be started is tried again."""
        for _ in range(RESET_ATTEMPTS - 1):
            try:
                return await self._dialogues[i].reset(episode)
            except EpisodeFailed:
                continue
        return await self._dialogues[i].reset(episode)

    def _seed_all(self, seed: int | Sequence[int | None]) -> None:
        if isinstance(seed, int | np.integer):
            self._seeds = [(int(seed), i, self.num_envs) for i in range(self.num_envs)]
            self._played = [0] * self.num_envs
            return
        if len(seed) != self.num_envs:
            raise ConfigError(f"`seed` holds {len(seed)} seeds for {self.num_envs} environments")
        for i, own in enumerate(seed):
            if own is not None:
                self._seeds[i], self._played[i] = (int(own), 0, 1), 0

    def _batch(self) -> Any:
        out = create_empty_array(self.single_observation_space, self.num_envs)
        assert isinstance(out, dict)
        return concatenate(self.single_observation_space, self.observations, out)


async def _all(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Waits for every one, then raises the first error: a dialogue left behind would go on into its next episode."""
    results = await asyncio.gather(*coroutines, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results  # type: ignore[return-value]  # no exception is left among them
