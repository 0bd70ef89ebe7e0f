"""`duologue pairs`: samples candidates for every turn, judges all of them, and makes preference pairs.

duologue pairs interface.n=8 pairs.margin=0.2
duologue pairs env.scenarios=my.jsonl judge@judges.quality=llm

The candidates are those that a training by `select` chooses from: where one has been, the cassette has them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from ..core.console import say
from ..core.errors import ConfigError, DuologueError
from ..core.files import json_line
from ..core.settings import construct
from ..envs.dialogue import Dialogue
from ..envs.episode import Episode, EpisodeFailed, as_turn
from ..envs.scenarios.scenario import Scenario
from ..envs.task import Task
from ..evaluation.exchange.pairs import CANDIDATES, PairOptions, Take, pairs_of_candidates, write_pairs
from ..evaluation.matches import MAX_FAILURE_FRACTION
from ..inference.client import InferenceClient
from ..inference.completion import Completion, Message
from ..inference.encoders import make_encoder
from ..inference.progress import ProgressLine
from ..plugins.judge import Judged
from ..plugins.rewards.reward import Reward
from ..run.run_folder import Run
from ..run.session import session


@dataclass(frozen=True)
class Settings(PairOptions):
    """The configuration's part ``pairs``.

    Attributes:
        margin: See `PairOptions`.
        take: See `PairOptions`.
        repeats: Independent samplings of every scenario.
    """

    margin: float = 0.0
    take: Take = "best_worst"
    repeats: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.repeats < 1:
            raise ValueError(f"`repeats` must be at least 1, not {self.repeats}")


def make_pairs(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Samples, judges, and writes ``candidates.jsonl`` and ``pairs.jsonl``.

    Args:
        config: The resolved configuration, plain values.
        folder: The run folder.

    Returns:
        What ``summary.json`` says of it.

    Raises:
        ConfigError: If a value is refused.
        DuologueError: If more than a fifth of the candidates have no score.
    """
    from ..agents.agent import build_task

    settings = construct(Settings, dict(config.get("pairs") or {}), "pairs")
    client = InferenceClient.from_settings(config["inference"])
    try:
        task = replace(build_task(config, client), encoder=make_encoder("hashing", client))
        reward = task.reward
        if reward is None or not task.interface.chooses_reply:
            raise ConfigError(
                "`duologue pairs` needs candidates and judges who score them: `interface=select`, and at least one of `judges`"
            )
        sampler = Sampler(task.without_reward(), reward)
        with Run("pairs", folder, config, client.meter) as run, session(run, client):
            records = _sample(sampler, settings, run, client)
            made = pairs_of_candidates(records, settings)
            counts = Counter({name: count for name, count in made.left_out.items() if count})
            run.summary |= {"pairs": len(made.pairs), "left_out": dict(counts), "failures": dict(sampler.failures)}
            said = write_pairs(made, run.folder / "pairs.jsonl")
            _check(records, sampler, run.folder)
        say(said)
        return run.summary
    finally:
        client.close()


def _sample(sampler: Sampler, settings: Settings, run: Run, client: InferenceClient) -> list[dict[str, Any]]:
    jobs = [(scenario, draw) for draw in range(settings.repeats) for scenario in sampler.task.scenarios]
    try:
        with (
            (run.folder / CANDIDATES).open("w", encoding="utf-8") as file,
            ProgressLine("judging candidates", len(jobs), client.meter) as line,
        ):
            done = iter(range(1, len(jobs) + 1))
            return client.run(sampler.play(jobs, file, lambda: line.update(next(done))))
    finally:
        client.run(sampler.reward.aclose())


def _check(records: Sequence[Mapping[str, Any]], sampler: Sampler, folder: Path) -> None:
    candidates = sum(len(record["candidates"]) for record in records)
    failed = sum(sampler.failures.values())
    if failed > MAX_FAILURE_FRACTION * max(candidates, failed):
        causes = ", ".join(f"{cause} ({count:,})" for cause, count in sampler.failures.most_common())
        raise DuologueError(
            f"{failed:,} of {candidates:,} candidates have no score: {causes}; {folder / CANDIDATES} has the reasons"
        )


class Sampler:
    """Plays dialogues, judging every candidate of every turn, and going on with the best one.

    Args:
        task: Task without a reward, whose interface chooses a reply.
        reward: Judges the candidates.

    Attributes:
        failures: Candidates without a score, and dialogues that broke off, by cause.
    """

    def __init__(self, task: Task, reward: Reward) -> None:
        self.task, self.reward = task, reward
        self.failures: Counter[str] = Counter()

    async def play(
        self, jobs: Sequence[tuple[Scenario, int]], file: TextIO, done: Callable[[], None]
    ) -> list[dict[str, Any]]:
        """Plays all scenarios concurrently, within the endpoint's limits.

        Args:
            jobs: Scenarios, with the number of their sampling.
            file: Receives one line for each turn when it was judged.
            done: Called after each dialogue.

        Returns:
            The lines, in the order of the jobs.

        Raises:
            DuologueError: What no retry can mend.
        """

        async def one(scenario: Scenario, draw: int) -> list[dict[str, Any]]:
            records = await self._dialogue(scenario, draw)
            file.writelines(map(json_line, records))
            file.flush()
            done()
            return records

        results = await asyncio.gather(*(one(*job) for job in jobs), return_exceptions=True)
        found: list[dict[str, Any]] = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            found += result
        return found

    async def _dialogue(self, scenario: Scenario, draw: int) -> list[dict[str, Any]]:
        dialogue, records = Dialogue(self.task, observe_end=False), []
        potentials: Mapping[str, float] = {}
        try:
            await dialogue.reset(Episode(draw, scenario, draw))
            over = False
            while not over:
                messages, proposals = tuple(dialogue.state.messages), dialogue.state.proposals
                judged = await self._judge(scenario, messages, dialogue.state.turn, proposals, potentials)
                records.append(_record(scenario, draw, dialogue.state.turn, messages, proposals, judged))
                best = max(range(len(judged)), key=lambda i: _worth(judged[i]))
                if judged[best].reward is None:
                    break
                potentials = judged[best].potentials
                transition = await dialogue.step(best)
                over = transition.terminated or transition.truncated
        except EpisodeFailed as error:
            self.failures[error.cause] += 1
        return records

    async def _judge(
        self,
        scenario: Scenario,
        messages: tuple[Message, ...],
        index: int,
        proposals: Sequence[Completion],
        potentials: Mapping[str, float],
    ) -> list[Judged]:
        last = index + 1 >= self.task.turns(scenario)
        turns = [as_turn(scenario, messages, index, c.text, c.finish_reason, last) for c in proposals]
        judged = await asyncio.gather(
            *(
                self.reward.judge(turn, None, potentials, completion.cost_usd, completion.completion_tokens)
                for turn, completion in zip(turns, proposals, strict=True)
            )
        )
        for one in judged:
            if one.reward is None:
                self.failures[(one.failure or "reward").partition(":")[0]] += 1
        return list(judged)


def _worth(judged: Judged) -> float:
    return float("-inf") if judged.reward is None else judged.reward


def _record(
    scenario: Scenario,
    repeat: int,
    turn: int,
    messages: Sequence[Message],
    proposals: Sequence[Completion],
    judged: Sequence[Judged],
) -> dict[str, Any]:
    """One line of ``candidates.jsonl``."""
    return {
        "scenario": scenario.id,
        "repeat": repeat,
        "turn": turn,
        "messages": list(messages),
        "candidates": [
            {
                "reply": completion.text,
                "finish_reason": completion.finish_reason,
                "score": one.reward,
                "scores": one.scores,
                "failure": one.failure,
            }
            for completion, one in zip(proposals, judged, strict=True)
        ],
    }
