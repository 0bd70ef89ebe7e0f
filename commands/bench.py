"""`duologue bench TASK`: returns and costs of chance, constants, a bandit and the agent, over several seeds.

duologue bench bargain
duologue bench assistant bench.seeds=3 agent.total_timesteps=4096
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from ..core.console import Console, say
from ..core.errors import ConfigError, DuologueError
from ..core.files import write_json
from ..core.settings import construct
from ..envs.dialogue import Dialogue
from ..envs.episode import Episode, EpisodeFailed, Observation
from ..envs.policies import PLAIN_SAMPLE, Policy, RandomPolicy, constant_policies
from ..envs.scenarios.loading import load_scenarios
from ..envs.scenarios.scenario import Scenario
from ..envs.task import Task
from ..evaluation.contestants import play_episode
from ..evaluation.report.plots import draw_returns
from ..evaluation.stats.headroom import PolicyReturns, as_markdown, gate, sentence, shown, two_way_interval, within
from ..inference.client import InferenceClient
from ..inference.progress import ProgressLine
from ..run.run_folder import Run
from ..run.session import session

Row = tuple[float, float, float, float]
"""One episode: return, requests, tokens and dollars; NaN where it failed."""

_TIMES = 8
_MOST_FAILURES = 0.2
_AT_ONCE = 64
"""Dialogues under way; the endpoint's own limit comes on top."""


@dataclass(frozen=True)
class Settings:
    """The configuration's part ``bench``.

    Attributes:
        seeds: Number of trainings of each agent.
        split: Split of the scenarios on which policies are compared.
        limit: Number of scenarios.
    """

    seeds: int = 5
    split: str = "test"
    limit: int = 200

    def __post_init__(self) -> None:
        for name, least in (("seeds", 2), ("limit", 2)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"`{name}` must be at least {least}, not {getattr(self, name)}: there is no interval else"
                )


def bench(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Trains the agent and its rival with every seed, and plays them with everything that learns nothing.

    Args:
        config: The resolved configuration, plain values.
        folder: The run folder; the trainings are in folders of their own below it.

    Returns:
        What ``summary.json`` says of it: ``results``, the gate's ``verdict``.

    Raises:
        ConfigError: If a value is refused, or there are no judges.
        DuologueError: If more than a fifth of a policy's episodes failed.
    """
    from ..agents.agent import build_agent, build_task
    from ..agents.training import check_deployable

    settings = construct(Settings, dict(config.get("bench") or {}), "bench")
    scenarios = load_scenarios(config["env"]["scenarios"], settings.split, settings.limit)
    seeds = range(config["seed"], config["seed"] + settings.seeds)
    client = InferenceClient.from_settings(config["inference"])
    try:
        task = replace(build_task(config, client), scenarios=scenarios, turn_deadline_s=None)
        if task.reward is None:  # said before anything is trained
            raise ConfigError("`judges` is empty: a return needs a reward")
        for agent in (config["agent"], config.get("rival")):
            if agent and agent.get("name"):
                check_deployable(build_agent({**config, "agent": _as_trained(config, agent)}, task)[0], config)
        with Run("bench", folder, config, client.meter) as run, session(run, client):
            try:
                learnt = {
                    str(agent["name"]): [_train(config, agent, seed, folder) for seed in seeds]
                    for agent in (config["agent"], config.get("rival"))
                    if agent and agent.get("name")
                }
            finally:
                if any(path.is_dir() for path in folder.iterdir()):  # trainings that were paid for
                    run.keep()
            standings = _play_all(task, learnt, seeds)
            verdict = gate(standings)
            run.summary |= {"results": [asdict(standing) for standing in standings], "verdict": verdict}
            _write(folder, str(config["env"]["scenarios"]), standings, verdict)
        _show(standings, verdict, folder)
        return run.summary
    finally:
        client.close()


def _train(config: Mapping[str, Any], agent: Mapping[str, Any], seed: int, folder: Path) -> Path:
    from ..agents.training import train

    place = folder / f"{agent['name']}-seed-{seed}"
    train({**config, "agent": _as_trained(config, agent), "seed": seed}, place)
    return place


def _as_trained(config: Mapping[str, Any], agent: Mapping[str, Any]) -> dict[str, Any]:
    """An agent's settings, with as many turns to learn from as the first agent has."""
    return {**agent, "total_timesteps": config["agent"]["total_timesteps"]}


def _play_all(task: Task, learnt: Mapping[str, Sequence[Path]], seeds: Sequence[int]) -> list[PolicyReturns]:
    from ..agents.bundle import load_bundle

    players: list[tuple[str, str, list[Policy | None]]] = []
    for name, folders in learnt.items():
        trained: list[Policy | None] = [load_bundle(f, task.client, trusted=True).policy for f in folders]
        players.append((name, "learnt", trained))
    players.append(("random", "random", [RandomPolicy(task.interface.action_space)] * len(seeds)))
    for name, policy in constant_policies(task.interface).items():
        players.append((name if name == PLAIN_SAMPLE else f"always: {name}", "constant", [policy] * len(seeds)))
    if task.interface.chooses_reply:
        players.append((f"best-of-{task.interface.proposals_per_turn} oracle", "oracle", [None] * len(seeds)))
    total = len(players) * len(seeds) * len(task.scenarios)
    with ProgressLine("playing", total, task.client.meter) as line:
        standings, worst, best = [], math.inf, -math.inf
        for name, kind, policies in players:
            # the candidates are there: where one of them is sent, chance costs nothing more, and less of it is left to chance
            times = _TIMES if kind == "random" and task.interface.chooses_reply else 1
            rows = [
                np.mean([task.client.run(_play(task, policy, seed, time)) for time in range(times)], axis=0)
                for policy, seed in zip(policies, seeds, strict=True)
            ]
            standings.append(_standing(name, kind, np.array(rows)))
            returns = np.array(rows)[..., 0]
            worst, best = min(worst, float(np.nanmin(returns))), max(best, float(np.nanmax(returns)))
            line.update(len(standings) * len(seeds) * len(task.scenarios), f"{name}: {standings[-1].mean:.3f}")
    if task.reward is not None:
        task.client.run(task.reward.aclose())
    return [within(standing, worst, best) for standing in standings]


def _standing(name: str, kind: str, rows: np.ndarray) -> PolicyReturns:
    """From (seeds, scenarios, 4): return, requests, tokens and dollars; NaN where the episode failed."""
    failures = int(np.isnan(rows[..., 0]).sum())
    if failures > _MOST_FAILURES * rows[..., 0].size:
        raise DuologueError(
            f"{failures} of {rows[..., 0].size} episodes of `{name}` failed: there is no fair comparison"
        )
    mean, low, high = two_way_interval(rows[..., 0])
    requests, tokens, usd = (float(np.nanmean(rows[..., k])) for k in (1, 2, 3))
    by_seed = tuple(float(value) for value in np.nanmean(rows[..., 0], axis=1))
    return PolicyReturns(name, kind, mean, low, high, by_seed, requests, tokens, usd, failures)


async def _play(task: Task, policy: Policy | None, seed: int, time: int = 0) -> list[Row]:
    """All scenarios once: return, requests, tokens and dollars of each; ``time`` gives a random policy other actions."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(scenario: Scenario) -> Row:
        async with places:
            try:
                return await _episode(task, policy, scenario, seed, time)
            except EpisodeFailed:
                return math.nan, math.nan, math.nan, math.nan

    return list(await asyncio.gather(*(one(scenario) for scenario in task.scenarios)))


async def _episode(task: Task, policy: Policy | None, scenario: Scenario, seed: int, time: int) -> Row:
    async def act(seen: Observation, dialogue: Dialogue) -> Any:
        if policy is None:
            return await _best(task, dialogue)
        return policy.act(seen, (crc32(scenario.id.encode()), seed, dialogue.state.turn, time))

    sums = np.zeros(4)
    async for _, transition in play_episode(task, Episode(0, scenario, seed), act):
        info = transition.info
        sums += transition.reward, info["requests"], info["completion_tokens"], info["cost_usd"]
    reward, requests, tokens, usd = sums.tolist()
    return reward, requests, tokens, usd


async def _best(task: Task, dialogue: Dialogue) -> int:
    """The candidate that the reward likes best, as if the dialogue ended with it where this turn may be the last."""
    assert task.reward is not None
    values = []
    for candidate in dialogue.state.proposals:
        judged = await task.reward.judge(dialogue.turn(candidate))
        values.append(-math.inf if judged.reward is None else judged.reward)
    return int(np.argmax(values))


def _write(folder: Path, task: str, standings: Sequence[PolicyReturns], verdict: Mapping[str, Any]) -> None:
    write_json(
        folder / "bench.json", {"task": task, "results": [asdict(s) for s in standings], "verdict": dict(verdict)}
    )
    (folder / "bench.md").write_text(as_markdown(task, standings, verdict), encoding="utf-8")
    draw_returns(task, shown(standings), [folder / "bench.svg", folder / "bench.png"])


def _show(standings: Sequence[PolicyReturns], verdict: Mapping[str, Any], folder: Path) -> None:
    console = Console()
    table = Table(box=SIMPLE)
    table.add_column("policy", overflow="fold")
    for name in ("return", "95% interval", "requests", "tokens", "US dollars"):
        table.add_column(name, justify="right")
    for s in shown(standings):
        figures = (
            f"{s.mean:.3f}",
            f"{s.low:.3f} to {s.high:.3f}",
            f"{s.requests:.1f}",
            f"{s.tokens:.0f}",
            f"{s.usd:.6f}",
        )
        table.add_row(s.name, *figures)
    console.print(table)
    say(sentence(verdict), console)
    say(f"table and plot: {folder}/bench.md, bench.svg", console)
