"""Contestants of a comparison: models behind endpoints, bundles, untrained policies, answers that are there already."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.interfaces import make_interface
from ..envs.interfaces.plain import Plain
from ..envs.policies import ConstantPolicy, RandomPolicy
from ..envs.scenarios import Scenario
from ..envs.task import Task
from ..inference.completion import Message
from ..inference.endpoint import Endpoint
from ..inference.errors import ConfigError, near_miss
from ..plugins.bench import Bench
from ..plugins.verdict import Turn
from .contestants import Answer, Contestant, OracleContestant, PolicyContestant
from .records import read_lines, read_object

_THINK = re.compile(r"^\s*<think>.*?</think>\s*", re.DOTALL)


def make_entrant(
    name: str, settings: Any, task: Task, where: str, first_draw: int = 0, bench: Bench | None = None
) -> Contestant:
    """Builds a contestant of a comparison.

    Args:
        name: What tables call it.
        settings: ``answers``: a file; ``bundle``: a folder; ``policy``: ``random``, ``constant`` or ``oracle``, with its
            ``interface``; or else an endpoint. Bundles and policies may name an endpoint, too: its settings are those of
            `Endpoint`. Without any they ask the task's.
        task: With the scenarios, the client and the assistant.
        where: The settings' place in the configuration.
        first_draw: Which independent sample of a model's is its first.
        bench: The judge, if it scores replies one by one; the oracle needs it.

    Raises:
        ConfigError: If a value is refused, or the file or the bundle cannot be used.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"`{where}` must hold `base_url` and `model`, or one of {_KINDS}, not {settings!r}")
    if len(kinds := [kind for kind in ("answers", "bundle", "policy") if kind in settings]) > 1:
        raise ConfigError(f"`{where}` has `{kinds[0]}` and `{kinds[1]}`: leave one of them out")
    if "answers" in settings:
        if len(settings) > 1:
            raise ConfigError(f"`{where}` has `answers`, so nothing is asked: leave the other settings out")
        return FileContestant(name, Path(str(settings["answers"])), task)
    rest = dict(settings)
    own = {key: rest.pop(key) for key in ("bundle", "trusted", "policy", "action", "interface") if key in rest}
    if own and not kinds:
        raise ConfigError(f"`{where}.{next(iter(own))}` needs `bundle` or `policy` beside it")
    if rest or not kinds:
        task = replace(task, assistant=Endpoint.from_settings(rest, where))
    if "bundle" in own:
        return _bundled(name, own, task, where, first_draw)
    return _untrained(name, own, task, where, first_draw, bench) if own else plain(name, task, first_draw)


_KINDS = "`answers`, `bundle` and `policy`"
_POLICIES = ("random", "constant", "oracle")


def plain(name: str, task: Task, first_draw: int) -> Contestant:
    """The task's model as it is."""
    return PolicyContestant(name, ConstantPolicy(0), replace(task, interface=Plain()), first_draw)


def _bundled(name: str, own: Mapping[str, Any], task: Task, where: str, first_draw: int) -> Contestant:
    from ..agents.bundle import load_bundle

    if unfit := own.keys() - {"bundle", "trusted"}:
        raise ConfigError(f"`{where}.{min(unfit)}` is the bundle's own: leave it out")
    bundle = load_bundle(own["bundle"], task.client, trusted=bool(own.get("trusted")))
    learnt = bundle.settings["task"]
    task = replace(task, interface=bundle.interface, encoder=bundle.encoder, system=task.system or learnt["system"])
    return PolicyContestant(name, bundle.policy, task, first_draw)


def _untrained(
    name: str, own: Mapping[str, Any], task: Task, where: str, first_draw: int, bench: Bench | None
) -> Contestant:
    if own["policy"] not in _POLICIES:
        raise ConfigError(
            f"`{where}.policy`: there is no policy `{own['policy']}`: {near_miss(own['policy'], _POLICIES)}"
        )
    task = replace(task, interface=make_interface(own.get("interface", "select")))
    space = task.interface.action_space
    if own["policy"] == "oracle":
        if bench is None or not task.interface.two_phase:
            raise ConfigError(f"`{where}`: the oracle needs candidates, and a judge that scores replies one by one")
        return OracleContestant(task, bench, name, first_draw)
    if own["policy"] == "random":
        return PolicyContestant(name, RandomPolicy(space), task, first_draw)
    action = np.asarray(own.get("action", 0))
    if not space.contains(action.astype(np.int64)):
        raise ConfigError(f"`{where}.action` must be an action of {space}, not {own.get('action')!r}")
    return PolicyContestant(name, ConstantPolicy(action), task, first_draw)


class FileContestant:
    """Answers that are in a file, by prompt.

    JSONL with ``prompt`` or ``id``, and ``reply``; or AlpacaEval's JSON list of ``instruction`` and ``output``. Further answers
    to one prompt are its repeats.

    Args:
        name: What tables call it.
        path: The file.
        task: With the scenarios that it must answer; single-turn ones.

    Raises:
        ConfigError: If the file cannot be read, or lacks an answer.
    """

    def __init__(self, name: str, path: Path, task: Task) -> None:
        self.name = name
        self._system = task.system
        self._replies: dict[str, list[str]] = {}
        for key, reply in _answers(path.expanduser()):
            self._replies.setdefault(key, []).append(_THINK.sub("", reply))
        for scenario in task.scenarios:
            if len(scenario.user) > 1:
                raise ConfigError(f"{path} holds answers to single prompts, and `{scenario.id}` has several turns")
            if not self._found(scenario):
                raise ConfigError(f"{path} holds no answer to `{scenario.id}`: {scenario.user[0][:60]!r}")

    def _found(self, scenario: Scenario) -> list[str]:
        return self._replies.get(scenario.id) or self._replies.get(scenario.user[0]) or []

    async def answer(self, scenario: Scenario, repeat: int) -> Answer:
        """The answer that the file holds; the last one where it holds too few."""
        replies = self._found(scenario)
        system = scenario.system if scenario.system is not None else self._system
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": scenario.user[0]})
        turn = Turn(
            tuple(messages),
            replies[min(repeat, len(replies) - 1)],
            scenario.reference,
            scenario.id,
            scenario.tags,
            scenario.hidden,
        )
        return Answer(scenario, repeat, (turn,), ("from a file",))


def _answers(path: Path) -> list[tuple[str, str]]:
    """Prompts, or ids, with their answers."""
    lines = read_lines(path, "the answers")
    if lines[0][1].lstrip().startswith("["):
        try:
            records = [
                (f"{path} record {n}", entry) for n, entry in enumerate(json.loads("\n".join(t for _, t in lines)), 1)
            ]
        except ValueError as error:
            raise ConfigError(f"the answers {path} are no JSON: {error}") from error
    else:
        records = [(where, read_object(line, where)) for where, line in lines]
    found = []
    for where, record in records:
        values = record if isinstance(record, dict) else {}
        key = values.get("id", values.get("prompt", values.get("instruction")))
        reply = values.get("reply", values.get("output"))
        if not isinstance(key, str | int) or not isinstance(reply, str):
            raise ConfigError(f"{where} must have `id` or `prompt`, and `reply`; or `instruction` and `output`")
        found.append((str(key), reply))
    return found


class Remembered:
    """A contestant that gives each of its answers once, however many others it meets."""

    def __init__(self, contestant: Contestant) -> None:
        self.name = contestant.name
        self._contestant = contestant
        self._given: dict[tuple[str, int], asyncio.Task[Answer]] = {}

    async def answer(self, scenario: Scenario, repeat: int) -> Answer:
        """The answer, asked for at the first time."""
        key = scenario.id, repeat
        if key not in self._given:
            self._given[key] = asyncio.ensure_future(self._contestant.answer(scenario, repeat))
        return await asyncio.shield(self._given[key])
