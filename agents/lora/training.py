"""Trains a local model to write the turn: `agent=grpo` and `agent=dpo`, by TRL."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch as th
from peft import LoraConfig
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint

from ...core.errors import ConfigError
from ...core.files import read_lines, read_object
from ...core.settings import construct
from ...envs.interfaces.text import Text
from ...envs.task import Task
from ...inference.client import InferenceClient
from ...run.run_folder import Run, versions
from ...run.session import session
from ..agent import build_task
from .adapter import find_adapter, save_adapter, with_adapter
from .local_model import LocalModel, load_local_model, quiet
from .reporter import LoraReporter
from .rollouts import Judges, Playing, Rollout, single_turn
from .settings import LoraSettings, read_settings, trl_arguments
from .writer import Decoding, LocalWriter

PARTS = ("prompt", "chosen", "rejected")


def read_pairs(path: Path) -> list[dict[str, Any]]:
    """Reads preference pairs; other fields are ignored.

    Args:
        path: JSON lines.

    Returns:
        Rows with ``prompt``, ``chosen`` and ``rejected``.

    Raises:
        ConfigError: If the file cannot be read, is empty, or a line is no pair.
    """
    rows = []
    for where, line in read_lines(path.expanduser(), "the preference pairs"):
        values = read_object(line, where)
        for part in PARTS:
            messages = values.get(part)
            if not isinstance(messages, list) or not messages or not all(_is_message(message) for message in messages):
                raise ConfigError(
                    f"{where}: `{part}` must be a list of messages with `role` and `content`, not {messages!r}"
                )
        rows.append({part: values[part] for part in PARTS})
    return rows


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("role", "content"))


CHECKPOINTS = "checkpoints"
"""Their place in the run folder."""


@dataclass(frozen=True)
class Parts:
    """The parts of a training, checked before anything is paid.

    Attributes:
        own: Our settings.
        arguments: TRL's, ready but for the place of the checkpoints.
        local: The model.
        decoding: Sampling of the turns.
        task: The task; None for `dpo`.
        data: Rows of the data set.
    """

    own: LoraSettings
    arguments: Callable[[Path], Any]
    local: LocalModel
    decoding: Decoding
    task: Task | None
    data: list[dict[str, Any]]


def train(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Trains an adapter and writes it.

    Args:
        config: The resolved configuration, plain values.
        folder: The run folder.

    Returns:
        What ``summary.json`` says of the training.
    """
    config = {**config, "agent": _absolute(config["agent"])}  # a run that goes on may be told so from another folder
    client = InferenceClient.from_settings(config["inference"])
    try:
        with quiet():
            parts = _grpo(config, client) if config["agent"]["name"] == "grpo" else _dpo(config)
            with Run("train", folder, config, client.meter) as run, session(run, client):
                place = _learn(parts, config, run, client)
        first, last = (
            run.summary.get(f"reward_{which}", run.summary.get(f"loss_{which}")) for which in ("first", "last")
        )
        kind = "reward per dialogue" if parts.task is not None else "loss"
        print(f"{kind}: {_figure(first)} in the first step, {_figure(last)} in the last; the adapter is in {place}")  # noqa: T201
        return run.summary
    finally:
        client.close()


def _absolute(agent: Mapping[str, Any]) -> dict[str, Any]:
    """The part ``agent`` with whole paths."""
    named = {name: Path(str(agent[name])).expanduser() for name in ("pairs", "adapter", "model") if agent.get(name)}
    return {**agent, **{name: str(path.resolve()) for name, path in named.items() if path.exists()}}


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _grpo(config: Mapping[str, Any], client: InferenceClient) -> Parts:
    """The parts of a training by rewards.

    Raises:
        ConfigError: If a name is unknown or a value is refused.
    """
    from trl import GRPOConfig

    own, settings = read_settings(config["agent"])
    if (config.get("validation") or {}).get("every") is not None:
        raise ConfigError(
            "`validation.every` looks at policies: leave it out with `agent=grpo`, and compare afterwards"
        )
    if (config.get("interface") or {}).get("name") != Text.name:
        raise ConfigError(
            f"`interface={(config.get('interface') or {}).get('name')}`: with `agent=grpo` a local model writes the turn itself: "
            "take `interface=text`, and no `experiment` that sets another one"
        )
    task = replace(build_task(config, client), draws=1)
    if task.reward is None:
        raise ConfigError("`judges` is empty, and they are the reward: add one, such as `+judge@judges.rules=rules`")
    names = ("temperature", "top_p", "max_completion_length")
    decoding = construct(Decoding, {name: settings[name] for name in names if name in settings}, "agent")
    arguments = _arguments(GRPOConfig, settings, config["seed"])
    playing = Playing(task)
    if settings.get("use_vllm") and not single_turn(playing):
        raise ConfigError("`agent.use_vllm=true` writes single turns only: set `env.max_turns=1`, or leave it out")
    marked = not single_turn(playing)
    rows = []
    for scenario in task.scenarios:
        prompt: list[dict[str, Any]] = [{**message} for message in scenario.opening(task.system)]
        if marked:
            prompt[-1]["scenario"] = scenario.id  # a rollout is told of the prompt only
        rows.append({"prompt": prompt, "scenario": scenario.id})
    return Parts(own, arguments, _local(own, settings, config["seed"]), decoding, task, rows)


def _dpo(config: Mapping[str, Any]) -> Parts:
    """The parts of a training on preference pairs.

    Raises:
        ConfigError: If a name is unknown, a value is refused, or the pairs cannot be read.
    """
    from trl import DPOConfig

    own, settings = read_settings(config["agent"])
    if own.pairs is None:
        raise ConfigError("`agent.pairs` is empty: give a file of preference pairs, such as `duologue pairs` writes")
    rows = read_pairs(Path(own.pairs))
    arguments = _arguments(DPOConfig, settings, config["seed"])
    return Parts(own, arguments, _local(own, settings, config["seed"]), Decoding(), None, rows)


def _arguments(kind: type, settings: Mapping[str, Any], seed: Any) -> Callable[[Path], Any]:
    """TRL's arguments; values are checked at once, and the folder comes when it is there."""
    if not isinstance(seed, int) or seed < 0:
        raise ConfigError(f"`seed` must be a whole number of at least 0, not {seed!r}")
    on_gpu = th.cuda.is_available() and not settings.get("use_cpu", False)
    chosen = {"bf16": on_gpu and th.cuda.is_bf16_supported(), **{k: v for k, v in settings.items() if v is not None}}

    def make(folder: Path) -> Any:
        own = {"output_dir": str(folder), "seed": seed, "report_to": "none", "logging_steps": 1, "disable_tqdm": True}
        return trl_arguments(kind, chosen, **own)

    make(Path(CHECKPOINTS))
    return make


def _local(own: LoraSettings, settings: Mapping[str, Any], seed: int) -> LocalModel:
    set_seed(seed)
    local = load_local_model(own.model, "cpu" if settings.get("use_cpu") else "auto")
    local.tokenizer.padding_side = "left"
    return local if own.adapter is None else with_adapter(local, find_adapter(own.adapter), trainable=True)


def _learn(parts: Parts, config: Mapping[str, Any], run: Run, client: InferenceClient) -> Path:
    """Trains, from the latest checkpoint if there is one, and writes the adapter; returns its place."""
    latest = get_last_checkpoint(str(run.folder / CHECKPOINTS)) if (run.folder / CHECKPOINTS).is_dir() else None
    reward = None if parts.task is None else parts.task.reward
    reporter = LoraReporter(run, client, reward, None if latest is None else Path(latest))
    try:
        trainer = _trainer(parts, run.folder / CHECKPOINTS, config["seed"], reporter)
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=latest)
        if client.bounds.stopped is not None:
            raise copy.copy(client.bounds.stopped)
        run.keep()
        place = run.folder / "adapter"
        record = _record(parts, config, run, trainer.state.global_step)
        save_adapter(place, trainer.accelerator.unwrap_model(trainer.model), parts.local, parts.decoding, record)
        run.summary["adapter"] = place.name
        return place
    finally:
        run.summary |= reporter.summary()
        reporter.close()
        if reward is not None:
            client.run(reward.aclose())


def _trainer(parts: Parts, checkpoints: Path, seed: int, reporter: LoraReporter) -> Any:
    from datasets import Dataset
    from trl import DPOTrainer, GRPOTrainer

    fresh = None
    if parts.own.adapter is None:
        fresh = construct(LoraConfig, {"task_type": "CAUSAL_LM", **parts.own.lora}, "agent.lora")
    given = {
        "model": parts.local.model,
        "args": parts.arguments(checkpoints),
        "train_dataset": Dataset.from_list(parts.data),
        "processing_class": parts.local.tokenizer,
        "peft_config": fresh,
        "callbacks": [reporter],
    }
    try:
        if parts.task is None:
            return DPOTrainer(**given)
        playing = Playing(parts.task, parts.own.max_failure_fraction)
        writer, gamma = LocalWriter(parts.local, parts.decoding), parts.own.gamma
        played = Rollout(playing, writer, gamma, seed, reporter.told, reporter.batches)
        rollout = None if single_turn(playing) else played
        return GRPOTrainer(**given, reward_funcs=Judges(playing, writer, gamma, reporter.told), rollout_func=rollout)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"`agent` was refused: {' '.join(str(error).split())}") from error


def _record(parts: Parts, config: Mapping[str, Any], run: Run, steps: int) -> dict[str, Any]:
    """The fields of ``writer.json`` besides model and sampling."""
    task = parts.task
    judges = [] if task is None or task.reward is None else task.reward.entries.items()
    return {
        "agent": config["agent"]["name"],
        "task": {} if task is None else {"system": task.system, "max_turns": task.max_turns},
        "judges": [name for name, entry in judges if entry.weight or entry.gate],
        "seed": config["seed"],
        "steps": steps,
        "config_digest": run.config_digest,
        "versions": versions(),
    }
