"""Contestants of a comparison: models behind endpoints, local models with adapters, bundles, answers from files."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from ..core.errors import ConfigError, near_miss
from ..envs.dialogue import Dialogue
from ..envs.episode import Observation, as_turn
from ..envs.interfaces import make_interface
from ..envs.interfaces.one_phase import Plain
from ..envs.interfaces.text import Text
from ..envs.policies import ConstantPolicy, RandomPolicy
from ..envs.scenarios.scenario import Scenario
from ..envs.task import Task
from ..inference.completion import Completion, Message
from ..inference.endpoint import Endpoint
from ..plugins.batched_judge import BatchedJudge
from .contestants import Answer, Contestant, OracleContestant, PolicyContestant
from .exchange.answer_files import Replies, read_answers

SETTINGS = ("adapter", "local", "decoding", "device")
"""Of such a contestant: the adapter's folder, the model beneath, how it is sampled, where it runs."""


class Writes(Protocol):
    """Writes turns; see `agents.lora.writer.Desk`."""

    async def write(self, messages: Sequence[Message], key: int) -> Completion:
        """The next turn of a dialogue; equal keys give equal turns."""
        ...


class WriterContestant(PolicyContestant):
    """A local model that writes the turns itself.

    Args:
        name: Name in tables.
        desk: Who writes.
        task: The task without reward.
        first_draw: Added to the repeat to give the key.
    """

    def __init__(self, name: str, desk: Writes, task: Task, first_draw: int = 0) -> None:
        super().__init__(name, ConstantPolicy(""), replace(task, interface=Text()), first_draw)
        self._batched_writer = desk

    async def _act(self, observation: Observation, dialogue: Dialogue, scenario: Scenario, repeat: int) -> Any:
        return await self._batched_writer.write(dialogue.state.messages, self._first_draw + repeat)


def local_writer(name: str, settings: Mapping[str, Any], task: Task, where: str, first_draw: int) -> WriterContestant:
    """Builds a contestant of a local model.

    Args:
        name: Name in tables.
        settings: Of `SETTINGS`.
        task: With the scenarios. Where it has no system prompt an adapter keeps the one that it was trained with.
        where: The settings' place in the configuration.
        first_draw: Number of its first independent sample.

    Returns:
        The contestant.

    Raises:
        ConfigError: If a setting is unknown, something cannot be loaded, or the extra is missing.
    """
    for key in settings:
        if key not in SETTINGS:
            raise ConfigError(f"`{where}.{key}` is not a setting of a local model: {near_miss(key, SETTINGS)}")
    try:
        from ..agents.lora.adapter import load_writer
        from ..agents.lora.writer import BatchedWriter
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"`{where}` needs the package `{error.name}`: run `pip install 'duologue[train,lora]'`"
        ) from error
    writer, record = load_writer(
        settings.get("adapter"), settings.get("local"), settings.get("device", "auto"), settings.get("decoding")
    )
    learnt = (record.get("task") or {}).get("system") or ""
    return WriterContestant(name, BatchedWriter(writer), replace(task, system=task.system or learnt), first_draw)


def make_entrant(
    name: str, settings: Any, task: Task, where: str, first_draw: int = 0, batched_judge: BatchedJudge | None = None
) -> Contestant:
    """Builds a contestant of a comparison.

    Args:
        name: Name in tables.
        settings: ``answers``: a file; ``bundle``: a folder; ``policy``: ``random``, ``constant`` or ``oracle``, with its
            ``interface``; or else an endpoint. Bundles and policies may name an endpoint, too: its settings are those of
            `Endpoint`. Without any they ask the task's. ``adapter``, or ``local``: a model in this process, see `local_writer`.
        task: Task with scenarios, client and assistant.
        where: The settings' place in the configuration.
        first_draw: Number of its first independent sample.
        batched_judge: The judge, if it scores replies one by one; the oracle needs it.

    Returns:
        The contestant.

    Raises:
        ConfigError: If a value is refused, or the file or the bundle cannot be used.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"`{where}` must hold `base_url` and `model`, or one of {_KINDS}, not {settings!r}")
    if len(kinds := [kind for kind in ("answers", "bundle", "policy", "adapter") if kind in settings]) > 1:
        raise ConfigError(f"`{where}` has `{kinds[0]}` and `{kinds[1]}`: leave one of them out")
    if "answers" in settings:
        if len(settings) > 1:
            raise ConfigError(f"`{where}` has `answers`, so nothing is asked: leave the other settings out")
        return FileContestant(name, Path(str(settings["answers"])), task)
    if {"adapter", "local"} & set(settings):
        return local_writer(name, settings, task, where, first_draw)
    rest = dict(settings)
    own = {key: rest.pop(key) for key in ("bundle", "trusted", "policy", "action", "interface") if key in rest}
    if own and not kinds:
        raise ConfigError(f"`{where}.{next(iter(own))}` needs `bundle` or `policy` beside it")
    if rest or not kinds:
        task = replace(task, assistant=Endpoint.from_settings(rest, where))
    if "bundle" in own:
        return _bundled(name, own, task, where, first_draw)
    return _untrained(name, own, task, where, first_draw, batched_judge) if own else plain(name, task, first_draw)


_KINDS = "`answers`, `bundle`, `policy`, `adapter` and `local`"
_POLICIES = ("random", "constant", "oracle")


def plain(name: str, task: Task, first_draw: int) -> Contestant:
    """The task's model without a policy."""
    return PolicyContestant(name, ConstantPolicy(0), replace(task, interface=Plain()), first_draw)


def _bundled(name: str, own: Mapping[str, Any], task: Task, where: str, first_draw: int) -> Contestant:
    from ..agents.bundle import load_bundle

    if unfit := own.keys() - {"bundle", "trusted"}:
        raise ConfigError(f"`{where}.{min(unfit)}` is the bundle's own: leave it out")
    bundle = load_bundle(own["bundle"], task.client, trusted=bool(own.get("trusted")))
    task = replace(task, interface=bundle.interface, encoder=bundle.encoder, system=task.system or bundle.system)
    return PolicyContestant(name, bundle.policy, task, first_draw)


def _untrained(
    name: str, own: Mapping[str, Any], task: Task, where: str, first_draw: int, batched_judge: BatchedJudge | None
) -> Contestant:
    if own["policy"] not in _POLICIES:
        raise ConfigError(
            f"`{where}.policy`: there is no policy `{own['policy']}`: {near_miss(own['policy'], _POLICIES)}"
        )
    task = replace(task, interface=make_interface(own.get("interface", "select")))
    space = task.interface.action_space
    if isinstance(space, spaces.Text):
        raise ConfigError(f"`{where}`: whoever plays `text` must write: give an `adapter` or a `local` model")
    if own["policy"] == "oracle":
        if batched_judge is None or not task.interface.chooses_reply:
            raise ConfigError(f"`{where}`: the oracle needs candidates, and a judge that scores replies one by one")
        return OracleContestant(task, batched_judge, name, first_draw)
    if own["policy"] == "random":
        return PolicyContestant(name, RandomPolicy(space), task, first_draw)
    action = np.asarray(own.get("action", 0))
    if not space.contains(action.astype(np.int64)):
        raise ConfigError(f"`{where}.action` must be an action of {space}, not {own.get('action')!r}")
    return PolicyContestant(name, ConstantPolicy(action), task, first_draw)


class FileContestant:
    """Answers that are in a file, by prompt or id. Further answers to one prompt are its repeats.

    Args:
        name: Name in tables.
        path: The file, see `read_answers`.
        task: Task with the scenarios to answer; files need every reply of a dialogue.

    Raises:
        ConfigError: If the file cannot be read, or lacks an answer.
    """

    def __init__(self, name: str, path: Path, task: Task) -> None:
        self.name = name
        self._system = task.system
        self._replies: dict[str, list[Replies]] = {}
        for key, replies in read_answers(path.expanduser()):
            self._replies.setdefault(key, []).append(replies)
        for scenario in task.scenarios:
            found = self._found(scenario)
            if not found:
                raise ConfigError(f"{path} holds no answer to `{scenario.id}`: {scenario.user[0][:60]!r}")
            if any(len(replies) != len(scenario.user) for replies in found):
                raise ConfigError(
                    f"{path} holds {len(found[0])} replies to `{scenario.id}`, which has {len(scenario.user)} turns: "
                    "expected one for each"
                )

    def _found(self, scenario: Scenario) -> list[Replies]:
        return self._replies.get(scenario.id) or self._replies.get(scenario.user[0]) or []

    async def answer(self, scenario: Scenario, repeat: int) -> Answer:
        """The answer that the file holds; the last one where it holds too few."""
        found = self._found(scenario)
        replies = found[min(repeat, len(found) - 1)]
        messages = scenario.opening(self._system)[:-1]
        turns = []
        for index, (said, reply) in enumerate(zip(scenario.user, replies, strict=True)):
            messages.append({"role": "user", "content": said})
            turns.append(as_turn(scenario, tuple(messages), index, reply, "stop", index == len(replies) - 1))
            messages.append({"role": "assistant", "content": reply})
        return Answer(scenario, repeat, tuple(turns), ("from a file",) * len(turns))


class CachedContestant:
    """A contestant that gives each of its answers once, however many others it meets; one that failed is asked for again."""

    def __init__(self, contestant: Contestant) -> None:
        self.name = contestant.name
        self._contestant = contestant
        self._given: dict[tuple[str, int], asyncio.Task[Answer]] = {}

    async def answer(self, scenario: Scenario, repeat: int) -> Answer:
        """The answer, asked for at the first time."""
        key = scenario.id, repeat
        known = self._given.get(key)
        if known is None or (known.done() and (known.cancelled() or known.exception() is not None)):
            known = self._given[key] = asyncio.ensure_future(self._contestant.answer(scenario, repeat))
        return await asyncio.shield(known)
