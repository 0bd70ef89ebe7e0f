"""`duologue train`: a policy learns on dialogues with the frozen model.

duologue train env.scenarios=my.jsonl inference.assistant.base_url=https://host/v1 inference.assistant.model=name
duologue train -m seed=1,2,3
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import set_random_seed

from ..envs.scenarios import load_scenarios
from ..envs.task import Task
from ..inference.client import InferenceClient
from ..inference.endpoint import endpoints_from_settings
from ..inference.errors import ConfigError, near_miss
from ..inference.progress import ProgressLine
from ..inference.settings import construct
from ..plugins.lifecycle import RolloutStats
from ..plugins.manager import plugins
from ..plugins.run_folder import Run, versions
from .bundle import NETWORKS, network_name, save_bundle
from .ppo import DialoguePPO
from .vec_env import DialogueVecEnv


def build_task(config: Mapping[str, Any], client: InferenceClient) -> Task:
    """The training task of a configuration.

    Raises:
        ConfigError: If a name is unknown or a value is refused.
    """
    env = dict(config["env"])
    source = env.pop("scenarios")
    return construct(
        Task.build,
        env,
        "env",
        client=client,
        endpoints=endpoints_from_settings(config["inference"]),
        interface=config["interface"],
        encoder=config["encoder"],
        judges=config["judges"],
        reward=config.get("reward") or {},
        scenarios=load_scenarios(source, env.get("split", "train"), env.get("limit")),
    )


def train(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Trains a policy and writes its bundle.

    Args:
        config: The resolved configuration, plain values.
        folder: The run folder.

    Returns:
        What ``summary.json`` says of the training.
    """
    client = InferenceClient.from_settings(config["inference"])
    try:
        task = build_task(config, client)
        agent, network_arguments, steps = build_agent(config, task)
        with Run("train", folder, config, client.meter) as run:
            learn(agent, steps, run, client)
            save(agent, network_arguments, task, run, config)
            return run.summary
    finally:
        client.close()


def build_agent(config: Mapping[str, Any], task: Task) -> tuple[DialoguePPO, dict[str, Any], int]:
    """The untrained agent, its network's arguments and the number of turns it is to learn from.

    Raises:
        ConfigError: If the agent is unknown or refuses a setting.
    """
    settings = dict(config["agent"])
    if (name := settings.pop("name")) != "ppo":
        raise ConfigError(f"there is no agent `{name}`: {near_miss(str(name), ['ppo'])}")
    steps, n_envs = int(settings.pop("total_timesteps")), int(settings.pop("n_envs"))
    network = settings.pop("network", None) or network_name(task.interface)
    if network not in NETWORKS:
        raise ConfigError(f"`agent.network={network}` is unknown: {near_miss(network, NETWORKS)}")
    arguments = dict(settings.pop("policy_kwargs", None) or {})
    set_random_seed(config["seed"])
    th.set_num_threads(1)  # the networks are small, and the cores have the endpoint's answers to read
    known = set(DialoguePPO.__init__.__kwdefaults__ or {}) | set(_ppo_settings())
    if unknown := [key for key in settings if key not in known]:
        raise ConfigError(f"`agent.{unknown[0]}` is not a setting of PPO: {near_miss(unknown[0], known)}")
    try:
        agent = DialoguePPO(
            NETWORKS[network], DialogueVecEnv(n_envs, task), seed=config["seed"], policy_kwargs=arguments, **settings
        )
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"`agent` was refused: {error}") from error
    return agent, {"name": network, "arguments": arguments}, steps


def _ppo_settings() -> list[str]:
    import inspect

    from stable_baselines3 import PPO

    return [
        name for name in inspect.signature(PPO).parameters if name not in ("policy", "env", "seed", "_init_setup_model")
    ]


def learn(agent: DialoguePPO, steps: int, run: Run, client: InferenceClient) -> None:
    """Trains with a progress line; curves go to ``progress.csv`` and TensorBoard in the run folder."""
    run.folder.mkdir(parents=True, exist_ok=True)
    agent.set_logger(configure(str(run.folder), ["csv", "tensorboard"]))
    with ProgressLine("training", steps, client.meter) as line:
        callback = _Reporter(run, line)
        agent.learn(steps, callback=callback)
    agent.logger.close()
    run.summary |= {
        "timesteps": agent.num_timesteps,
        "failures": dict(agent.failures),
        "reward_first": callback.rewards[0] if callback.rewards else None,
        "reward_last": callback.rewards[-1] if callback.rewards else None,
    }


def save(agent: DialoguePPO, network: Mapping[str, Any], task: Task, run: Run, config: Mapping[str, Any]) -> Path:
    """Writes the bundle into the run folder and returns its path."""
    folder = run.folder / "bundle"
    settings = {
        "model": task.assistant.model,
        "assistant": task.assistant.to_settings(),
        "task": {"system": task.system, "max_turns": task.max_turns},
        "judges": [name for name, judge in config["judges"].items() if judge],
        "seed": config["seed"],
        "timesteps": agent.num_timesteps,
        "config_digest": run.config_digest,
        "versions": versions(),
    }
    save_bundle(folder, agent.policy, network["name"], network["arguments"], task.interface, task.encoder, settings)
    run.summary["bundle"] = "bundle"
    return folder


class _Reporter(BaseCallback):
    """Feeds the progress line and the plugins' hook."""

    def __init__(self, run: Run, line: ProgressLine) -> None:
        super().__init__()
        self._run, self._line = run, line
        self._latest: list[float] = []
        self.rewards: list[float] = []

    def _on_step(self) -> bool:
        self._latest = [*self._latest, *self.locals["rewards"]][-512:]
        mean = sum(self._latest) / len(self._latest)
        self._line.update(self.num_timesteps, f"reward {mean:.3f}")
        return True

    def _on_rollout_end(self) -> None:
        self._run.keep()
        played, failures = self.locals["played"], self.locals["failures"]
        scores: dict[str, list[float]] = {}
        for info in (transition.info for episode in played for transition in episode.transitions):
            for name, value in info.items():
                if name.startswith("reward/"):
                    scores.setdefault(name.removeprefix("reward/"), []).append(value)
        mean = sum(episode.episode_return for episode in played) / len(played)
        self.rewards.append(round(mean, 6))
        plugins().hook.duologue_rollout_end(
            run=self._run.info,
            stats=RolloutStats(
                index=len(self.rewards) - 1,
                timesteps=self.num_timesteps,
                episodes=len(played) + sum(failures.values()),
                mean_reward=mean,
                scores={name: sum(values) / len(values) for name, values in scores.items()},
                failures=dict(failures),
            ),
        )
