"""Stable-Baselines3's PPO with another collection of rollouts; the update is theirs."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

from ..core.concurrency import calm_collection
from ..core.errors import ConfigError, TooManyFailures
from ..envs.episode import Transition
from ..envs.task import Task
from ..plugins.rewards.reward import Reward
from .actor import Actor
from .buffer import EpisodeBuffer, Trajectory, stacked
from .checkpoint import random_states, restore_random_states
from .reference import INITIAL, Reference
from .rollouts import Collector, EpisodeCollector, episodes_to_play, expected_turns, most_training_turns, next_expected
from .vec_env import DialogueVecEnv


class CallbackDriver:
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

    def start(self, callback: BaseCallback) -> CallbackDriver:
        """Begins a rollout; transitions that the last one left over count towards the next call."""
        self._callback, self.stopped = callback, False
        return self

    def add(self, played: Trajectory, transition: Transition) -> bool:
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


class DialoguePPO(PPO):
    """PPO over a queue of episodes: same arguments, callbacks, logger, `learn` and `predict` as `PPO`.

    ``n_steps`` times the number of environments is the number of transitions that a rollout aims at; it holds whole
    episodes, whose number is fixed beforehand from their mean length so far, at first from the longest that they can be. A
    training makes at most `most_training_turns`, besides failed attempts.

    Args:
        policy: See `PPO`.
        env: A `DialogueVecEnv`.
        max_failure_fraction: See `Collector`.
        max_ahead_episodes: Episodes of the next rollout that may be begun while the last of a rollout end. 0 is exact
            on-policy learning. Above 0 the endpoint is kept busy, also during updates; transitions that were begun ahead
            were chosen by a policy that is one update old: they keep the log-probability that it gave them, their value
            is computed anew. Which they are depends on latencies, so such a run cannot be repeated bit for bit.
        kl_coef: Weight in the loss of the mean divergence from the reference policy in nats, exact over all actions.
        kl_reference: Which policy that is: ``initial``, as it is before it learns, or the folder of a bundle.
        **options: Those of `PPO`.

    Besides what `PPO` logs, each rollout logs ``rollout/utilisation`` (seconds that dialogues waited for endpoints over the
    rollout's seconds times ``n_envs``), ``rollout/wait_s`` (nothing was ready), ``rollout/forward_s`` (choosing actions),
    ``rollout/stale_share`` (of the transitions, chosen before the last update), ``rollout/failures``, each judge's
    mean raw score as ``reward/<judge>`` and what it added to the reward as ``term/<judge>``. Where ``env.turn_deadline_s``
    cut episodes also ``rollout/cut_share`` (of the episodes) and ``rollout/cut_mean_turns`` (complete turns before the
    cut): the bias that it brings. With ``kl_coef`` also ``rollout/kl_to_reference``, in nats a turn.

    Raises:
        ConfigError: If the action space has no discrete actions, or ``max_ahead_episodes`` is negative.
    """

    def __init__(
        self,
        policy: Any,
        env: VecEnv,
        *,
        max_failure_fraction: float = 0.2,
        max_ahead_episodes: int = 0,
        kl_coef: float = 0.0,
        kl_reference: str = INITIAL,
        **options: Any,
    ) -> None:
        if not kl_coef >= 0:
            raise ConfigError(f"`kl_coef` must be at least 0, not {kl_coef}")
        if isinstance(max_ahead_episodes, bool) or not isinstance(max_ahead_episodes, int) or max_ahead_episodes < 0:
            raise ConfigError(
                f"`max_ahead_episodes` must be a whole number of at least 0, not {max_ahead_episodes!r}: 0 is exact"
            )
        self.max_failure_fraction = max_failure_fraction
        self.max_ahead_episodes = max_ahead_episodes
        self.mean_length = 0.0  # turns an episode; 0 before any was played
        self.next_episode = 0
        self.failures: dict[str, int] = {}
        self.cut: list[int] = [0, 0, 0]  # episodes that a deadline cut, their turns before that, all episodes
        self.progress: dict[str, Any] = {}
        self.make_collector: Callable[[DialoguePPO, Task], EpisodeCollector] | None = None  # in place of `Collector`
        self._collector: EpisodeCollector | None = None
        self._ticker = CallbackDriver(self)
        self._rollout_start: dict[str, Any] | None = None
        options.setdefault("rollout_buffer_class", EpisodeBuffer)
        super().__init__(policy, env, **options)
        if env is not None and not isinstance(self.action_space, spaces.Discrete | spaces.MultiDiscrete):
            raise ConfigError(f"the PPO agent needs discrete actions, and this interface has {self.action_space}")
        self.kl_coef = kl_coef
        self.reference = Reference.named(kl_reference, self.policy) if kl_coef else None

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_collector", "make_collector", "_ticker", "_rollout_start"]

    def save(self, path: Any, exclude: Any = None, include: Any = None) -> None:
        """Saves everything that `load` needs to continue exactly.

        Saved from inside a rollout, by a callback, it goes on from that rollout's beginning: the answers are in the
        cassette. Episodes that were begun ahead are begun again.

        Args:
            path: See Stable-Baselines3.
            exclude: See Stable-Baselines3.
            include: See Stable-Baselines3.
        """
        self.progress = self._rollout_start or self._counts()
        super().save(path, exclude, include)

    def state(self) -> dict[str, Any]:
        """Everything that an agent built from the same configuration needs to go on: tensors and plain values."""
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self.policy.optimizer.state_dict(),
            "progress": self._rollout_start or self._counts(),
            "n_updates": self._n_updates,
            "episodes": list(self.ep_info_buffer or ()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned, the random generators included.

        ``learn(rest, reset_num_timesteps=False)`` then ends as it does after `load`.

        Args:
            state: What `state` returned.
        """
        self.policy.load_state_dict(state["policy"])
        self.policy.optimizer.load_state_dict(state["optimizer"])
        self._n_updates = state["n_updates"]
        self.ep_info_buffer = deque(state["episodes"], maxlen=self._stats_window_size)
        self.ep_success_buffer = deque(maxlen=self._stats_window_size)
        self._go_on(state["progress"])

    def _go_on(self, progress: Mapping[str, Any]) -> None:
        rest = dict(progress)
        restore_random_states(rest.pop("random"))
        reward, statistics = self._reward, rest.pop("reward")
        if reward is not None:
            reward.restore(statistics)
        self._ticker.left = [tuple(entry) for entry in rest.pop("left")]
        vars(self).update(rest)

    @classmethod
    def load(cls, path: Any, env: Any = None, *args: Any, **options: Any) -> Any:
        """Loads an agent with the state of the random generators.

        ``learn(rest, reset_num_timesteps=False)`` then ends with the parameters of an undisturbed run, if the endpoint,
        or the cassette, gives the same answers and nothing was begun ahead.

        Args:
            path: See Stable-Baselines3.
            env: See Stable-Baselines3.
            *args: See Stable-Baselines3.
            **options: See Stable-Baselines3.

        Returns:
            The agent.
        """
        agent = super().load(path, env, *args, **options)
        agent._go_on(agent.progress)
        return agent

    def _counts(self) -> dict[str, Any]:
        """The progress between rollouts, with random states: callbacks may draw within a rollout, and draw again after a resume."""
        return {
            "random": random_states(),
            "num_timesteps": self.num_timesteps,
            "next_episode": self.next_episode,
            "mean_length": self.mean_length,
            "failures": dict(self.failures),
            "cut": list(self.cut),
            "left": list(self._ticker.left),
            "reward": {} if self._reward is None else self._reward.state(),
        }

    @property
    def _reward(self) -> Reward | None:
        return self.env.task.reward if isinstance(self.env, DialogueVecEnv) else None

    def learn(self, *args: Any, **kwargs: Any) -> Any:
        """See `PPO.learn`; Python's garbage collector runs less often meanwhile (`calm_collection`).

        It ends with the collector closed: other processes that played for it give their cores back.
        """
        try:
            with calm_collection():
                return super().learn(*args, **kwargs)
        finally:
            if self._collector is not None:
                self._collector.close()

    def train(self) -> None:
        """See `PPO.train`; adds the KL divergence from the reference policy, if any, to the loss."""
        if self.reference is None:
            super().train()
            return
        weight = self.ent_coef
        with self.reference.in_the_loss(self.policy, weight, self.kl_coef) as entropies:
            self.ent_coef = 1.0  # both weights are in what stands for the entropy meanwhile
            try:
                super().train()
            finally:
                self.ent_coef = weight
        self.logger.record("train/entropy_loss", -float(np.mean(entropies)))

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self.env, DialogueVecEnv):
            raise ConfigError(f"DialoguePPO needs a DialogueVecEnv, not {type(self.env).__name__}")
        self.env.deferred = True  # the collector starts its own episodes; starting others would be paid for nothing
        try:
            return super()._setup_learn(*args, **kwargs)
        finally:
            self.env.deferred = False

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Plays episodes until the rollout is full.

        Args:
            env: The agent's environment.
            callback: Called after every ``n_envs`` transitions.
            rollout_buffer: Filled with the episodes.
            n_rollout_steps: Turns per environment that the rollout aims at.

        Returns:
            False if a callback asked to stop.

        Raises:
            TooManyFailures: If every episode of it failed, or too large a share.
        """
        assert isinstance(env, DialogueVecEnv)
        assert isinstance(rollout_buffer, EpisodeBuffer)
        self.policy.set_training_mode(False)
        self._rollout_start = self._counts()
        callback.on_rollout_start()
        ticker = self._ticker.start(callback)
        target = n_rollout_steps * env.num_envs
        most = most_training_turns(env.task, self._total_timesteps, target)
        expected = self.mean_length or expected_turns(env.task)
        n_episodes = episodes_to_play(env.task, target, expected, most - self.num_timesteps)
        last = self.num_timesteps + target >= self._total_timesteps  # nothing would come of what is begun ahead
        collector = self._ready_collector(env)
        played, failures = collector.collect(
            n_episodes, Actor(self.policy).act, ticker.add, max_ahead_episodes=0 if last else self.max_ahead_episodes
        )
        self.next_episode = collector.next_episode
        self.failures = dict(Counter(self.failures) + failures)
        lengths = collector.cut
        self.cut = [a + b for a, b in zip(self.cut, (len(lengths), sum(lengths), n_episodes), strict=True)]
        if ticker.stopped:
            self._rollout_start = None
            return False
        if not played:
            raise TooManyFailures(f"every episode of a rollout failed or was cut: {dict(failures)}")
        self._fill(rollout_buffer, played, collector.rollout)
        if self._reward is not None:  # now and in this order, whatever the latencies were
            self._reward.observe(transition.info for episode in played for transition in episode.transitions)
        first = not self.mean_length
        self.mean_length = next_expected(self.mean_length, rollout_buffer.buffer_size, len(played), first)
        self._record(played, failures, collector)
        callback.update_locals({"played": played, "failures": failures})
        callback.on_rollout_end()  # the update is still to come: what is saved here goes on from before the rollout
        self._rollout_start = None
        return True

    def _ready_collector(self, env: DialogueVecEnv) -> EpisodeCollector:
        if self._collector is None or self._collector.task is not env.task:
            self._collector = self.make_collector(self, env.task) if self.make_collector else self.new_collector()
            self._collector.next_episode = self.next_episode
        return self._collector

    def new_collector(self, slots: int | None = None) -> Collector:
        """Makes a collector in this process for a number of concurrent episodes, by default ``n_envs``."""
        assert isinstance(self.env, DialogueVecEnv)
        noise = len(self.action_space.nvec) if isinstance(self.action_space, spaces.MultiDiscrete) else 1
        bound = self.max_failure_fraction
        return Collector(self.env.task, slots or self.env.num_envs, self.seed or 0, noise, max_failure_fraction=bound)

    def _fill(self, buffer: EpisodeBuffer, played: Sequence[Trajectory], current: int) -> None:
        """Computes values and log-probabilities in one batch, in the order of episode numbers."""
        observations = obs_as_tensor(stacked([o for p in played for o in p.observations]), self.device)
        actions = np.array([action for p in played for action in p.actions])
        with th.no_grad():
            values, log_probs, _ = self.policy.evaluate_actions(observations, th.as_tensor(actions, device=self.device))
        rewards = np.array([t.reward for p in played for t in p.transitions], np.float32)
        if self.reference is not None:
            with th.no_grad():
                divergence = self.reference.divergence(self.policy, observations)
            self.logger.record("rollout/kl_to_reference", float(divergence.mean()))
        ends = np.cumsum([len(p.transitions) for p in played]) - 1
        cut = [k for k, p in enumerate(played) if p.transitions[-1].truncated and not p.transitions[-1].terminated]
        if cut:  # the value of where a truncated episode would have gone on
            last = stacked([played[k].transitions[-1].observation for k in cut])
            with th.no_grad():
                beyond = self.policy.predict_values(obs_as_tensor(last, self.device)).cpu().numpy().ravel()
            rewards[ends[cut]] += self.gamma * beyond
        stale = np.array([rollout < current for p in played for rollout in p.rollouts])
        behaviour = np.array([log_prob for p in played for log_prob in p.log_probs], np.float32)
        kept = np.where(stale, behaviour, log_probs.cpu().numpy())
        buffer.load(played, rewards, values.cpu().numpy().ravel(), kept)
        self.logger.record("rollout/stale_share", float(stale.mean()))

    def _record(self, played: Sequence[Trajectory], failures: Counter[str], collector: EpisodeCollector) -> None:
        """Logs the metrics that the class documents."""
        timing = collector.timing
        self.logger.record("rollout/utilisation", timing.busy_s / (timing.wall_s * self.n_envs))
        self.logger.record("rollout/wait_s", timing.wait_s)
        self.logger.record("rollout/forward_s", timing.forward_s)
        scores: dict[str, list[float]] = {}
        for transition in (t for p in played for t in p.transitions):
            for name, value in transition.info.items():
                if name.startswith(("reward/", "term/")):
                    scores.setdefault(name, []).append(value)
        for name, values in scores.items():
            self.logger.record(name, float(np.mean(values)))
        self.logger.record("rollout/failures", sum(failures.values()))
        if collector.cut:
            self.logger.record("rollout/cut_share", len(collector.cut) / (len(played) + collector.cut.count(0)))
            self.logger.record("rollout/cut_mean_turns", float(np.mean(collector.cut)))
