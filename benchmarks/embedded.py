"""How much of the embedded model's speed a rollout gets: completion tokens per second against its bare servers.

`DialoguePPO` collects single-turn dialogues on SmolLM2 (interface `select` with four candidates, default encoder, judges
`rules` and `length`, which need no model) with the cassette off; the bare client is an aiohttp loop with as many requests
under way that sends the very same requests in the same order to the same llama.cpp servers and reads nothing but the
number of tokens. Both share the machine's cores with the servers. The first pass through the requests is not counted:
afterwards the servers know all prompts, whoever asks. Rounds are interleaved and ratios taken within each. The window
begins when the servers are full and ends when the last request is sent; a request that reaches beyond it counts in
proportion. Neither loading the model nor the update is in it.

    python benchmarks/embedded.py            # about five minutes on two cores
    python benchmarks/embedded.py --quick
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

import aiohttp
import torch as th
from harness import arguments, progress, report, spread

from duologue.agents import CandidatePolicy, DialoguePPO, DialogueVecEnv
from duologue.envs import Task
from duologue.envs.task import embedded_endpoint
from duologue.inference import Completion, InferenceClient
from duologue.inference.budget.usage import Meter
from duologue.inference.embedded import shared_server

CANDIDATES, DIALOGUES = 4, 8
RAMP_S = 1.5
BARS = {"share_of_bare_server": 0.95}


@dataclass
class Answered:
    """One request as it was answered: its start, its end and its tokens."""

    start: float
    end: float
    tokens: int


@dataclass
class Notebook(Meter):
    """A meter that also notes when every completion came."""

    answered: list[Answered] = field(default_factory=list)

    def count(self, role: str, completion: Completion) -> None:
        """Notes and counts it."""
        now = time.monotonic()
        self.answered.append(Answered(now - completion.latency_s, now, completion.completion_tokens))
        super().count(role, completion)


def main() -> None:
    """Runs rounds of rollout and bare client."""
    quick = arguments(__doc__ or "").quick
    th.set_num_threads(1)
    notebook = Notebook()
    client = InferenceClient(meter=notebook)
    endpoint = replace(embedded_endpoint(), adaptive=False)
    judges = {"rules": {"name": "rules"}, "length": {"name": "length"}}
    interface = {"name": "select", "n": CANDIDATES}
    task = Task.build(
        client=client, endpoints={"assistant": endpoint}, interface=interface, judges=judges, max_turns=1, draws=None
    )
    urls = shared_server("smollm2").urls()
    episodes = 16 if quick else 40
    bodies = requests(task, episodes)
    if not quick:
        rollout(task, episodes, notebook)  # not counted, see above
    shares, ours, bare, loads = [], [], [], []
    for turn in range(1 if quick else 5):
        results = {}
        for name in ("rollout", "bare")[:: -1 if turn % 2 else 1]:
            if name == "rollout":
                results[name] = rollout(task, episodes, notebook)
            else:
                results[name] = asyncio.run(replay(urls, bodies, endpoint.max_concurrency))
        ours.append(tokens_per_s(results["rollout"]))
        bare.append(tokens_per_s(results["bare"]))
        loads.append(under_way(results["rollout"]))
        shares.append(ours[-1] / bare[-1])
        progress(f"round {turn}: rollout {ours[-1]:.1f}, bare {bare[-1]:.1f} tokens/s, {loads[-1]:.1f} under way")
    client.close()
    if notebook.total.failed or notebook.total.reused:
        raise RuntimeError(f"not every answer was sampled: {notebook.total}")
    figures = {
        **spread("share_of_bare_server", shares),
        **spread("rollout_tokens_per_s", ours),
        **spread("bare_tokens_per_s", bare),
        "requests_under_way": mean(loads),
    }
    report("embedded", figures, BARS, quick=quick)


def requests(task: Task, episodes: int) -> list[dict[str, Any]]:
    """What a rollout asks, in its order."""
    bodies: list[dict[str, Any]] = []
    for number in range(episodes):
        scenario = task.curriculum.episode(0, number).scenario
        system = scenario.system if scenario.system is not None else task.system
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": scenario.user[0]})
        body = {"model": task.assistant.model, "messages": messages, "logprobs": True}
        bodies.extend(body | task.assistant.sampling.body(index) for index in range(CANDIDATES))
    return bodies


def rollout(task: Task, episodes: int, notebook: Notebook) -> list[Answered]:
    """One rollout of a new agent, so that all rounds play the same episodes."""
    env = DialogueVecEnv(DIALOGUES, task)
    agent = DialoguePPO(CandidatePolicy, env, n_steps=episodes // DIALOGUES, batch_size=16, n_epochs=1, seed=0)
    notebook.answered.clear()
    agent.learn(episodes)
    if len(notebook.answered) != episodes * CANDIDATES:
        raise RuntimeError(f"{len(notebook.answered)} requests instead of {episodes * CANDIDATES}")
    return list(notebook.answered)


async def replay(urls: Sequence[str], bodies: Sequence[dict[str, Any]], concurrency: int) -> list[Answered]:
    """The same requests by a loop that does nothing else."""
    left, answered = iter(bodies), []
    busy = dict.fromkeys(urls, 0)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:

        async def work() -> None:
            for body in left:
                url = min(busy, key=lambda url: busy[url])
                busy[url] += 1
                start = time.monotonic()
                async with session.post(f"{url}/chat/completions", json=body) as response:
                    usage = json.loads(await response.read())["usage"]
                answered.append(Answered(start, time.monotonic(), usage["completion_tokens"]))
                busy[url] -= 1

        await asyncio.gather(*(work() for _ in range(concurrency)))
    return answered


def window(answered: Sequence[Answered]) -> tuple[float, float]:
    """When the servers were full: from shortly after the first request to the start of the last."""
    return min(a.start for a in answered) + RAMP_S, max(a.start for a in answered)


def tokens_per_s(answered: Sequence[Answered]) -> float:
    """Completion tokens per second in the window, those of requests at its edges in proportion."""
    start, end = window(answered)
    return sum(a.tokens * _inside(a, start, end) / (a.end - a.start) for a in answered) / (end - start)


def under_way(answered: Sequence[Answered]) -> float:
    """Requests under way in the window, on average."""
    start, end = window(answered)
    return sum(_inside(a, start, end) for a in answered) / (end - start)


def _inside(a: Answered, start: float, end: float) -> float:
    return max(0.0, min(a.end, end) - max(a.start, start))


if __name__ == "__main__":
    main()
