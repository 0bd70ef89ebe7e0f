"""The callbacks of Stable-Baselines3 while a queue of episodes is played."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from ..envs.transition import Transition
from .played import Played

if TYPE_CHECKING:
    from .ppo import DialoguePPO


class Ticker:
    """Calls `callback.on_step` once per n_envs transitions, so that frequencies mean what they mean for `PPO`.

    Args:
        agent: Whose timesteps are counted.

    Attributes:
        left: Transitions since the last call: info, whether the episode is over, reward.
        stopped: Whether the callback asked to stop.
    """

    def __init__(self, agent: DialoguePPO) -> None:
        self._agent = agent
        self._callback: BaseCallback | None = None
        self.left: list[tuple[dict[str, Any], bool, float]] = []
        self.stopped = False

    def start(self, callback: BaseCallback) -> Ticker:
        """Begins a rollout; transitions that the last one left over count towards the next call."""
        self._callback, self.stopped = callback, False
        return self

    def add(self, played: Played, transition: Transition) -> bool:
        """Counts a transition; returns false once the callback asked to stop."""
        assert self._callback is not None
        done = transition.terminated or transition.truncated
        info = dict(transition.info)
        if done:
            info["episode"] = {"r": played.episode_return, "l": len(played.transitions), "t": 0.0}
        self.left.append((info, done, transition.reward))
        if len(self.left) == self._agent.n_envs:
            infos = [info for info, _, _ in self.left]
            dones, rewards = np.array([done for _, done, _ in self.left]), np.array([r for _, _, r in self.left])
            self.left = []
            self._agent.num_timesteps += self._agent.n_envs
            self._callback.update_locals({"infos": infos, "dones": dones, "rewards": rewards})
            self.stopped = not self._callback.on_step()
            self._agent._update_info_buffer(infos, dones)
        return not self.stopped
