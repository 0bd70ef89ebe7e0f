"""Builds the task and the untrained agent of a configuration."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.utils import set_random_seed

from ..core.errors import ConfigError, near_miss
from ..core.settings import construct
from ..envs.games import game_of, with_directives
from ..envs.interfaces import make_interface
from ..envs.scenarios.loading import load_scenarios
from ..envs.task import Task
from ..inference.client import InferenceClient
from ..inference.encoders import make_encoder
from ..inference.endpoint import endpoints_from_settings
from .bandits import BANDITS, Bandit, BanditSettings
from .library import LIBRARY, LibraryAgent
from .policies import NETWORKS, PPO_NETWORKS, network_name
from .ppo import DialoguePPO
from .reference import INITIAL
from .vec_env import DialogueVecEnv

Agent: TypeAlias = DialoguePPO | Bandit | LibraryAgent

AGENTS = ("ppo", *BANDITS, *LIBRARY)
"""What `agent` may be."""


@dataclass(frozen=True)
class AgentSettings:
    """Our own settings in the configuration's part ``agent``; all others go to PPO.

    Attributes:
        total_timesteps: Assistant turns to learn from.
        n_envs: Dialogues under way at once.
        network: A key of `NETWORKS`; None for the interface's own.
        policy_kwargs: Arguments of the network.
        max_failure_fraction: See `Collector`.
        max_ahead_episodes: See `DialoguePPO`.
        kl_coef: See `DialoguePPO`.
        kl_reference: See `DialoguePPO`.
    """

    total_timesteps: int
    n_envs: int = 32
    network: str | None = None
    policy_kwargs: Mapping[str, Any] = field(default_factory=dict)
    max_failure_fraction: float = 0.2
    max_ahead_episodes: int = 0
    kl_coef: float = 0.0
    kl_reference: str = INITIAL

    def __post_init__(self) -> None:
        for name in ("total_timesteps", "n_envs"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, not {getattr(self, name)}")

    @classmethod
    def names(cls) -> set[str]:
        """The names of the settings."""
        return {entry.name for entry in fields(cls)}


def build_agent(config: Mapping[str, Any], task: Task) -> tuple[Agent, int]:
    """Builds the untrained agent.

    Args:
        config: The resolved configuration.
        task: The training task.

    Returns:
        The agent, and the number of turns it learns from.

    Raises:
        ConfigError: If the agent is unknown or refuses a setting.
    """
    settings = dict(config["agent"] or {})
    name = settings.pop("name", None)
    if name not in AGENTS:
        raise ConfigError(f"there is no agent `{name}`: {near_miss(str(name), AGENTS)}")
    seed = config["seed"]
    if not isinstance(seed, int) or seed < 0:
        raise ConfigError(f"`seed` must be a whole number of at least 0, not {seed!r}")
    set_random_seed(seed)
    th.set_num_threads(1)  # the networks are small, and the cores have the endpoint's answers to read
    if name != "ppo" and (config.get("validation") or {}).get("every") is not None:
        raise ConfigError("`validation.every` needs `agent=ppo`: the others are evaluated when they have learnt")
    rollouts = (config.get("rollouts") or {}).get("name", "local")
    if rollouts not in ("local", "ray"):
        raise ConfigError(f"there are no rollouts `{rollouts}`: {near_miss(str(rollouts), ['local', 'ray'])}")
    if name != "ppo" and rollouts != "local":
        raise ConfigError("`rollouts=ray` needs `agent=ppo`: the others play in one process")
    if name in BANDITS:
        made = Bandit(task, construct(BanditSettings, settings, "agent"), name, seed)
        return made, made.steps
    if name in LIBRARY:
        agent = LibraryAgent(task, name, settings, seed)
        return agent, agent.steps
    learner, steps = _ppo(settings, task, seed)
    if rollouts == "ray":
        from .distributed.ray_pool import RaySettings
        from .distributed.workers import check_shareable

        construct(RaySettings, config["rollouts"], "rollouts")
        check_shareable(config)
        if learner.max_ahead_episodes:
            raise ConfigError("with `rollouts=ray` a rollout has one policy: set `agent.max_ahead_episodes=0`")
    return learner, steps


def _ppo(settings: dict[str, Any], task: Task, seed: int) -> tuple[DialoguePPO, int]:
    own = construct(AgentSettings, {key: settings.pop(key) for key in AgentSettings.names() & set(settings)}, "agent")
    network = own.network or network_name(task.interface)
    if network not in PPO_NETWORKS or (network == "candidate_scorer" and not task.interface.two_phase):
        fitting = [name for name in PPO_NETWORKS if task.interface.two_phase or name != "candidate_scorer"]
        raise ConfigError(f"`agent.network={network}` is no network for this interface: {near_miss(network, fitting)}")
    known = set(inspect.signature(PPO).parameters) - {"policy", "env", "seed", "_init_setup_model"}
    if unknown := [key for key in settings if key not in known]:
        near = near_miss(unknown[0], known | AgentSettings.names())
        raise ConfigError(f"`agent.{unknown[0]}` is not a setting of PPO: {near}")
    try:
        agent = DialoguePPO(
            NETWORKS[network],
            DialogueVecEnv(own.n_envs, task),
            max_failure_fraction=own.max_failure_fraction,
            max_ahead_episodes=own.max_ahead_episodes,
            kl_coef=own.kl_coef,
            kl_reference=own.kl_reference,
            policy_kwargs=dict(own.policy_kwargs),
            seed=seed,
            **settings,
        )
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:  # what it and torch say of a bad value
        raise ConfigError(f"`agent` was refused: {' '.join(str(error).split())}") from error
    return agent, own.total_timesteps


def build_task(config: Mapping[str, Any], client: InferenceClient) -> Task:
    """Builds the training task.

    Args:
        config: The resolved configuration.
        client: Asks endpoints.

    Returns:
        The task.

    Raises:
        ConfigError: If a name is unknown or a value is refused.
    """
    env = dict(config["env"])
    chosen = {name: env.pop(name) for name in ("scenarios", "split", "limit") if name in env}
    chosen["source"] = chosen.pop("scenarios", None)
    return construct(
        Task.build,
        env,
        "env",
        client=client,
        endpoints=endpoints_from_settings(config["inference"]),
        interface=make_interface(with_directives(config["interface"], game_of(chosen["source"], env.get("user")))),
        encoder=make_encoder(config["encoder"], client),
        judges=config["judges"],
        reward=config.get("reward") or {},
        scenarios=construct(load_scenarios, chosen, "env"),
    )
