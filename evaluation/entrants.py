"""Contestants that need no training: models behind endpoints, and answers that are there already."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..envs.policies import ConstantPolicy
from ..envs.scenarios import Scenario
from ..envs.task import Task
from ..inference.completion import Message
from ..inference.endpoint import Endpoint
from ..inference.errors import ConfigError
from ..plugins.verdict import Turn
from .contestants import Answer, Contestant, PolicyContestant
from .records import read_lines, read_object

_THINK = re.compile(r"^\s*<think>.*?</think>\s*", re.DOTALL)


def make_entrant(name: str, settings: Any, task: Task, where: str, first_draw: int = 0) -> Contestant:
    """Builds a contestant of a comparison.

    Args:
        name: What tables call it.
        settings: Those of an `Endpoint`, or ``answers``: a file.
        task: With the scenarios and the client.
        where: The settings' place in the configuration.
        first_draw: Which independent sample of a model's is its first.

    Raises:
        ConfigError: If a value is refused, or the file cannot be used.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"`{where}` must hold `base_url` and `model`, or `answers`, not {settings!r}")
    if "answers" in settings:
        if len(settings) > 1:
            raise ConfigError(f"`{where}` has `answers`, so nothing is asked: leave the other settings out")
        return FileContestant(name, Path(str(settings["answers"])), task)
    endpoint = Endpoint.from_settings(settings, where)
    return PolicyContestant(name, ConstantPolicy(0), replace(task, assistant=endpoint), first_draw)


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
