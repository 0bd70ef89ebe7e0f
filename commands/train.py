"""Evaluation during training: the policy against the plain model on the validation split.

duologue train validation.every=1024
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError
from ..evaluation.validation import make_validator


def train(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """`duologue train`: trains a policy, with validations if configured.

    Args:
        config: The resolved configuration.
        folder: The run folder.

    Returns:
        What ``summary.json`` says of it.
    """
    if (config.get("agent") or {}).get("name") in WRITERS:
        return _train_writer(config, folder)
    from ..agents.training import train as train_policy

    return train_policy(config, folder, lambda task: make_validator(config, folder, task))


WRITERS = ("grpo", "dpo")
"""Agents that are local models and write the turn themselves."""


def refuse_writer(config: Mapping[str, Any], command: str) -> None:
    """Says of an agent that writes how it is trained and compared.

    Args:
        config: The resolved configuration.
        command: That is for policies only.

    Raises:
        ConfigError: If the configuration's agent is one.
    """
    name = (config.get("agent") or {}).get("name")
    if name in WRITERS:
        raise ConfigError(
            f"`agent={name}` is no policy for `duologue {command}`: train it by `duologue train agent={name}`, and compare what "
            "came out by `duologue compare prompts=assistant +contestants.base.local=embedded://smollm2 "
            "+contestants.tuned.adapter=runs/train/latest`"
        )


def _train_writer(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    try:
        from ..agents.lora.training import train as train_writer
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"`agent={config['agent']['name']}` needs the package `{error.name}`: run `pip install 'duologue[train,lora]'`"
        ) from error
    return train_writer(config, folder)
