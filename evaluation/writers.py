"""Contestants that are local models, with a LoRA adapter or without: they write their turns in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from ..envs.dialogue import Dialogue
from ..envs.interfaces.text import Text
from ..envs.observation import Observation
from ..envs.policies import ConstantPolicy
from ..envs.scenarios import Scenario
from ..envs.task import Task
from ..inference.completion import Completion, Message
from ..inference.errors import ConfigError, near_miss
from .contestants import PolicyContestant

SETTINGS = ("adapter", "local", "decoding", "device")
"""Of such a contestant: the adapter's folder, the model beneath, how it is sampled, where it runs."""


class Writes(Protocol):
    """Writes turns; see `agents.lora.desk.Desk`."""

    async def write(self, messages: Sequence[Message], key: int) -> Completion:
        """The next turn of a dialogue; equal keys give equal turns."""
        ...


class WriterContestant(PolicyContestant):
    """Somebody who writes the turns itself.

    Args:
        name: What tables call it.
        desk: Who writes.
        task: The task without reward.
        first_draw: Added to the repeat to give the key.
    """

    def __init__(self, name: str, desk: Writes, task: Task, first_draw: int = 0) -> None:
        super().__init__(name, ConstantPolicy(""), replace(task, interface=Text()), first_draw)
        self._desk = desk

    async def _act(self, observation: Observation, dialogue: Dialogue, scenario: Scenario, repeat: int) -> Any:
        return await self._desk.write(dialogue.state.messages, self._first_draw + repeat)


def local_writer(name: str, settings: Mapping[str, Any], task: Task, where: str, first_draw: int) -> WriterContestant:
    """A local model as a contestant.

    Args:
        name: What tables call it.
        settings: Of `SETTINGS`.
        task: With the scenarios. Where it has no system prompt an adapter keeps the one that it was trained with.
        where: The settings' place in the configuration.
        first_draw: Which independent sample is its first.

    Raises:
        ConfigError: If a setting is unknown, something cannot be loaded, or the extra is missing.
    """
    for key in settings:
        if key not in SETTINGS:
            raise ConfigError(f"`{where}.{key}` is not a setting of a local model: {near_miss(key, SETTINGS)}")
    try:
        from ..agents.lora.adapter import load_writer
        from ..agents.lora.desk import Desk
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"`{where}` needs the package `{error.name}`: run `pip install 'duologue[train,lora]'`"
        ) from error
    writer, record = load_writer(
        settings.get("adapter"), settings.get("local"), settings.get("device", "auto"), settings.get("decoding")
    )
    learnt = (record.get("task") or {}).get("system") or ""
    return WriterContestant(name, Desk(writer), replace(task, system=task.system or learnt), first_draw)
