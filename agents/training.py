"""Trains a policy and saves its bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..core.console import say
from ..core.errors import ConfigError
from ..core.settings import construct
from ..envs.dialogue import Dialogue
from ..envs.task import Task
from ..inference.client import InferenceClient
from ..inference.progress import ProgressLine
from ..run.run_folder import Run, versions
from ..run.session import session
from .agent import Agent, build_agent, build_task
from .bundle import save_bundle
from .checkpoint import read_checkpoint
from .library import run_training_loop
from .policies import NETWORKS
from .ppo import DialoguePPO
from .reporter import CHECKPOINT, Reporter, Validation, Validator, open_curves


def train(
    config: Mapping[str, Any], folder: Path, make_validator: Callable[[Task], Validator | None] = lambda task: None
) -> dict[str, Any]:
    """Trains a policy and writes its bundle.

    Args:
        config: The resolved configuration, plain values.
        folder: The run folder.
        make_validator: Builds the validator of the task.

    Returns:
        What ``summary.json`` says of the training.
    """
    client = InferenceClient.from_settings(config["inference"])
    try:
        task = build_task(config, client)
        agent, steps = build_agent(config, task)
        warn_of_one_rollout(config, steps)
        validator = make_validator(task)
        with Run("train", folder, config, client.meter) as run, session(run, client):
            learn(agent, steps, run, task, validator)
            bundle = save(agent, task, run, config) if deployable(agent) else None
        first, last = (run.summary[name] for name in ("reward_first", "reward_last"))
        rewards = (
            "" if first is None else f"reward per episode: {first:.3f} in the first rollout, {last:.3f} in the last; "
        )
        where = f"the policy is in {bundle}" if bundle else f"there is no bundle: {NO_BUNDLE}"
        print(f"{rewards}{where}")  # noqa: T201
        return run.summary
    finally:
        client.close()


def learn(agent: Agent, steps: int, run: Run, task: Task, validator: Validator | None = None) -> None:
    """Trains with a progress line; curves go to ``progress.csv`` and TensorBoard in the run folder.

    Where the folder holds a checkpoint, training goes on from there; a checkpoint is written before every rollout. With
    a validator the agent ends with the policy that the validator keeps.

    Args:
        agent: The agent.
        steps: Turns to learn from.
        run: The run, for its folder and summary.
        task: The training task.
        validator: Validates the policy during the training.

    Raises:
        ConfigError: If the checkpoint cannot be used.
        RunStopped: If the run was told to end, or too much failed.
    """
    path = run.folder / CHECKPOINT
    if not path.exists() and task.interface.requires and task.client.cassette.mode != "off":
        task.client.run(Dialogue(task).try_api(task.curriculum.episode(run.info.config["seed"], 0)))
    if not isinstance(agent, DialoguePPO):
        run_training_loop(agent, steps, run, task)
        return
    _collect_with_ray(agent, run.info.config)
    notes = read_checkpoint(agent, path) if path.exists() else {}
    agent.set_logger(open_curves(run.folder, agent.num_timesteps))
    validation = Validation(validator, notes.get("validation", ()), notes.get("kept", {})) if validator else None
    reporter: Reporter | None = None
    try:
        with ProgressLine("training", steps, task.client.meter) as line:
            reporter = Reporter(run, line, task.reward, notes, validation)
            if agent.num_timesteps < steps:
                watching = [callback for callback in (validation, reporter) if callback is not None]
                agent.learn(steps - agent.num_timesteps, callback=watching, reset_num_timesteps=not notes)
        if validation is not None:
            agent.policy.load_state_dict(validation.chosen(agent.policy.state_dict()))
    finally:
        run.summary |= _learnt(agent) | (reporter.summary() if reporter is not None else {})
        agent.logger.close()
        for closing in (validator, task.reward):
            if closing is not None:
                task.client.run(closing.aclose())


def _collect_with_ray(agent: DialoguePPO, config: Mapping[str, Any]) -> None:
    """Moves the rollouts to a Ray cluster, if so configured."""
    if (config.get("rollouts") or {}).get("name") == "ray":
        from .distributed.ray_collector import RayCollector
        from .distributed.ray_pool import RaySettings

        chosen = construct(RaySettings, config["rollouts"], "rollouts")
        agent.make_collector = partial(RayCollector, config=config, settings=chosen)


def _learnt(agent: DialoguePPO) -> dict[str, Any]:
    """The training's part of ``summary.json``."""
    cut, turns, episodes = agent.cut
    bias = {"cut": {"share": round(cut / episodes, 6), "mean_turns": round(turns / cut, 3)}} if cut else {}
    return {
        "timesteps": agent.num_timesteps,
        "failures": dict(agent.failures),
        **bias,
    }


def save(agent: Agent, task: Task, run: Run, config: Mapping[str, Any]) -> Path:
    """Writes the bundle into the run folder.

    Args:
        agent: The trained agent.
        task: The training task.
        run: The run.
        config: The resolved configuration.

    Returns:
        The bundle's folder.

    Raises:
        ConfigError: If a policy of this kind cannot be one.
    """
    folder = run.folder / "bundle"
    settings = {
        "model": task.assistant.model,
        "assistant": task.assistant.to_settings(),
        "task": {"system": task.system, "max_turns": task.max_turns},
        "judges": [n for n, e in task.reward.entries.items() if e.weight or e.gate] if task.reward is not None else [],
        "seed": config["seed"],
        "timesteps": run.summary.get("validation", {}).get("kept", run.summary["timesteps"]),
        "config_digest": run.config_digest,
        "versions": versions(),
    }
    check_deployable(agent, config)
    name = next(name for name, network in NETWORKS.items() if type(agent.policy) is network)
    save_bundle(folder, agent.policy, name, agent.policy_kwargs, task.interface, task.encoder, settings)
    run.summary["bundle"] = "bundle"
    return folder


NO_BUNDLE = "a recurrent policy remembers earlier turns, and a deployed one knows only its request"


def deployable(agent: Agent) -> bool:
    """Whether the agent's policy can be saved as a bundle."""
    return type(agent.policy) in NETWORKS.values()


def check_deployable(agent: Agent, config: Mapping[str, Any]) -> None:
    """Refuses an agent without a bundle where one is needed, before anything is paid.

    Args:
        agent: The agent.
        config: The resolved configuration.

    Raises:
        ConfigError: If its policy cannot be one.
    """
    if not deployable(agent):
        raise ConfigError(
            f"`agent={config['agent']['name']}` leaves no bundle to evaluate: {NO_BUNDLE}. `duologue train` trains it and "
            "keeps its curve; for a bundle choose another agent, for example `agent=ppo`"
        )


def warn_of_one_rollout(config: Mapping[str, Any], steps: int) -> None:
    """Says in one line that a training is so short that its figures cannot depend on how it learns."""
    agent = config["agent"]
    if "n_steps" not in agent or steps > (rollout := agent["n_envs"] * agent["n_steps"]):
        return
    say(
        f"Warning: `agent.total_timesteps={steps}` is one rollout of about {rollout:,} turns (`agent.n_envs` times "
        "`agent.n_steps`) and one update: the rewards shown are those of the untrained policy, whatever the learning rate"
    )
