"""The third shell: Stable-Baselines3's `VecEnv`, so that any of its agents trains on dialogues unchanged.

Lock-step like every `VecEnv`; `agents.ppo.DialoguePPO` collects from the same dialogues without waiting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from ..core.errors import ConfigError
from ..envs.env import task_from
from ..envs.interfaces.text import NOT_FOR_SB3
from ..envs.task import Task
from ..envs.vector import DialogueVectorEnv, Outcome


class DialogueVecEnv(VecEnv):
    """N dialogues for Stable-Baselines3, reset in the step that ends them.

    Its own agents cannot leave a transition out. A turn that failed therefore ends its episode as a truncation in the state
    that it began in, whose value the agents put in place of the reward that there is not: the action is neither praised nor
    blamed. ``info["failure"]`` says why, and `failures` counts. `agents.ppo.DialoguePPO` does leave such episodes out.

    Args:
        num_envs: Number of dialogues.
        task: A ready task, or give the arguments of `Task.build`.
        **parts: Arguments of `Task.build`.

    Raises:
        ConfigError: If the interface is `text`: no agent of Stable-Baselines3 writes texts.

    Attributes:
        failures: Turns that failed, by cause.
    """

    def __init__(self, num_envs: int = 8, task: Task | None = None, **parts: Any) -> None:
        self.task = task_from(task, parts)
        if isinstance(self.task.interface.action_space, spaces.Text):
            raise ConfigError(NOT_FOR_SB3)
        self._core = DialogueVectorEnv(num_envs, self.task, autoreset_mode=AutoresetMode.SAME_STEP)
        self._future: Future[list[Outcome]] | None = None
        self._returns = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, int)
        self.failures: Counter[str] = Counter()
        self.deferred = False
        """While true, `reset` starts nothing: for agents that start their episodes themselves."""
        self.render_mode = None
        super().__init__(num_envs, self._core.single_observation_space, self._core.single_action_space)

    def reset(self) -> VecEnvObs:
        """Starts an episode in every copy; only the first of the seeds given to `seed` counts.

        Of the options given to `set_options` the key ``scenario`` is known: the id of the scenario that a copy plays.

        Raises:
            ConfigError: If there is another key, or no such scenario.
        """
        if self.deferred:
            space = self._core.observation_space
            return {name: np.zeros(box.shape, box.dtype) for name, box in space.items()}  # type: ignore[attr-defined]
        if unknown := {key for options in self._options for key in options} - {"scenario"}:
            raise ConfigError(f"`{min(unknown)}` is no option of a reset: known: `scenario`")
        named = [options.get("scenario") for options in self._options]
        observation, _ = self._core.reset(seed=self._seeds[0], options={"scenario": named})
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0
        self._lengths[:] = 0
        return dict(observation)

    def step_async(self, actions: np.ndarray) -> None:
        """Sends one action to every copy."""
        none = np.zeros(self.num_envs, bool)
        self._future = self.task.client.thread.submit(self._core.advance(list(actions), none))

    def step_wait(self) -> VecEnvStepReturn:
        """Waits for all copies.

        Raises:
            RuntimeError: If nothing was sent.
        """
        if self._future is None:
            raise RuntimeError("`step_wait` was called before `step_async`")
        outcomes, self._future = self._future.result(), None
        self._core.observe(outcomes)
        rewards = np.zeros(self.num_envs, np.float32)
        dones = np.zeros(self.num_envs, bool)
        infos: list[dict[str, Any]] = []
        rows = []
        for i, (transition, started) in enumerate(outcomes):
            assert transition is not None
            failed = "failure" in transition.info
            if failed:
                self.failures[transition.info["failure_cause"]] += 1
            rewards[i] = 0.0 if failed else transition.reward
            dones[i] = started is not None
            self._returns[i] += rewards[i]
            self._lengths[i] += 1
            info = transition.info | {"TimeLimit.truncated": transition.truncated and not transition.terminated}
            if started is not None:
                info["terminal_observation"] = transition.observation
                info["episode"] = {"r": float(self._returns[i]), "l": int(self._lengths[i]), "t": 0.0}
                self._returns[i], self._lengths[i], self.reset_infos[i] = 0, 0, started[1]
            rows.append(transition.observation if started is None else started[0])
            infos.append(info)
        self._core.observations = rows
        observation = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        return observation, rewards, dones, infos

    def close(self) -> None:
        """Does nothing: the client belongs to the task."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute, the same for every copy."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets the attribute for all copies: they share one task."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Calls a method once per copy; ``action_masks`` returns each copy's mask."""
        if method_name == "action_masks":
            masks = self.action_masks()
            return [masks[i] for i in self._get_indices(indices)]
        return [getattr(self, method_name)(*args, **kwargs) for _ in self._get_indices(indices)]

    def action_masks(self) -> np.ndarray:
        """Which actions make sense in each copy, as sb3-contrib's MaskablePPO asks for them: (num_envs, choices)."""
        return self._core.action_masks()

    def env_is_wrapped(self, wrapper_class: Any, indices: VecEnvIndices = None) -> list[bool]:
        """No copy is wrapped."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Dialogues have no images."""
        return [None] * self.num_envs

    def _get_indices(self, indices: VecEnvIndices) -> Iterable[int]:
        if indices is None:
            return range(self.num_envs)
        return [indices] if isinstance(indices, int) else indices
