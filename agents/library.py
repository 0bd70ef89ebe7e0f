"""Agents of Stable-Baselines3 and sb3-contrib on `DialogueVecEnv`, and the training loop for agents that run their own."""

from __future__ import annotations

import csv
import inspect
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy, MultiInputActorCriticPolicy

from ..core.errors import ConfigError, near_miss
from ..core.run_files import PROGRESS, STEP
from ..envs.task import Task
from ..inference.progress import ProgressLine
from ..run.run_folder import Run
from .bandits import Tell
from .policies import QNetworkPolicy
from .vec_env import DialogueVecEnv


class _Offer(NamedTuple):
    """A library's agent: its class, its policy, and the network of its bundle (None: no bundle)."""

    target: str
    policy: type[BasePolicy] | str
    network: str | None


LIBRARY: Mapping[str, _Offer] = {
    "a2c": _Offer("stable_baselines3:A2C", MultiInputActorCriticPolicy, "multi_input"),
    "dqn": _Offer("stable_baselines3:DQN", QNetworkPolicy, "q_network"),
    "maskable_ppo": _Offer("sb3_contrib:MaskablePPO", MaskableMultiInputActorCriticPolicy, "maskable"),
    "recurrent_ppo": _Offer("sb3_contrib:RecurrentPPO", "MultiInputLstmPolicy", None),
}
"""Name to what it is. A recurrent policy remembers, and a served one knows only its request's messages: so it has no bundle."""

_OWN = ("policy", "env", "seed", "_init_setup_model")
_TOLD_EVERY = 100  # episodes


class LibraryAgent:
    """An agent of a library.

    Args:
        task: The task.
        name: A key of `LIBRARY`.
        settings: ``total_timesteps``, ``n_envs``, ``policy_kwargs`` and what the agent itself takes.
        seed: Decides scenarios and weights.

    Raises:
        ConfigError: If a setting is unknown or refused, or the agent does not fit the action space.
    """

    def __init__(self, task: Task, name: str, settings: Mapping[str, Any], seed: int) -> None:
        offer, values = LIBRARY[name], dict(settings)
        module, _, attribute = offer.target.partition(":")
        try:
            algorithm: type[BaseAlgorithm] = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"`agent={name}` needs the package `{error.name}`: run `pip install 'duologue[train]'`"
            ) from error
        self.steps, n_envs = _whole(values, "total_timesteps"), _whole(values, "n_envs")
        known = set(inspect.signature(algorithm).parameters) - {*_OWN}
        if unknown := [key for key in values if key not in known]:
            near = near_miss(unknown[0], known | {"total_timesteps", "n_envs"})
            raise ConfigError(f"`agent.{unknown[0]}` is not a setting of {attribute}: {near}")
        self.policy_kwargs = dict(values.pop("policy_kwargs", {}))
        self.network = offer.network
        self._env = DialogueVecEnv(n_envs, task)
        try:
            made = algorithm(offer.policy, self._env, policy_kwargs=dict(self.policy_kwargs), seed=seed, **values)
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            raise ConfigError(f"`agent` was refused: {' '.join(str(error).split())}") from error
        self.algorithm = made

    @property
    def policy(self) -> BasePolicy:
        """The network that a bundle holds."""
        return self.algorithm.policy

    @property
    def turns(self) -> int:
        """Turns so far."""
        return self.algorithm.num_timesteps

    @property
    def failures(self) -> Counter[str]:
        """Turns that failed, by cause."""
        return self._env.failures

    def learn(self, tell: Tell, on_step: Callable[[], None]) -> None:
        """Learns from ``total_timesteps`` turns.

        Args:
            tell: Told now and then.
            on_step: Called after every turn.
        """
        self.algorithm.learn(self.steps, callback=_Ticks(tell, on_step, self._env.num_envs))


class _Ticks(BaseCallback):
    """Forwards the library's callbacks."""

    def __init__(self, tell: Tell, on_step: Callable[[], None], n_envs: int) -> None:
        super().__init__()
        self._tell, self._on_turn, self._n_envs = tell, on_step, n_envs
        self._returns: list[float] = []

    def _on_step(self) -> bool:
        for _ in range(self._n_envs):
            self._on_turn()
        self._returns += [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        if len(self._returns) >= _TOLD_EVERY:
            self._tell(self.num_timesteps, sum(self._returns) / len(self._returns))
            self._returns.clear()
        return True


def _whole(values: dict[str, Any], name: str) -> int:
    value = values.pop(name, None)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"`agent.{name}` must be a whole number of at least 1, not {value!r}")
    return value


class Learner(Protocol):
    """An agent that runs its own training loop and reports its progress."""

    @property
    def turns(self) -> int:
        """Turns so far."""
        ...

    @property
    def failures(self) -> Counter[str]:
        """Failed attempts by cause."""
        ...

    def learn(self, tell: Tell, on_step: Callable[[], None]) -> None:
        """Learns; see `agents.bandits.Bandit.learn`."""
        ...


def run_training_loop(agent: Learner, steps: int, run: Run, task: Task) -> None:
    """Trains; ``progress.csv`` gets the mean return of the episodes by the turns so far.

    A run that was ended begins anew: what it asked is in the cassette.

    Args:
        agent: Who learns.
        steps: Turns, for the progress line.
        run: The run, for its folder and summary.
        task: The task.
    """
    rewards: list[float] = []
    try:
        with (
            ProgressLine("training", steps, task.client.meter) as line,
            (run.folder / PROGRESS).open("w", encoding="utf-8", newline="") as file,
        ):
            rows = csv.writer(file)
            rows.writerow([STEP, "rollout/ep_rew_mean"])

            def tell(turns: int, reward: float) -> None:
                rows.writerow([turns, reward])
                rewards.append(reward)

            done = itertools.count(1)
            agent.learn(tell, lambda: line.update(next(done), f"reward {rewards[-1]:.3f}" if rewards else ""))
    finally:
        run.summary |= {
            "timesteps": agent.turns,
            "failures": dict(agent.failures),
            "alarms": [],
            "reward_first": rewards[0] if rewards else None,
            "reward_last": rewards[-1] if rewards else None,
        }
        if task.reward is not None:
            task.client.run(task.reward.aclose())
