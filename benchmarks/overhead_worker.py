"""Our side of `overhead.py`: reads cases as lines of JSON, plays dialogues, writes what they cost.

python benchmarks/overhead_worker.py BASE_URL
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from simulated_task import Windows, rss_mb, simulated_task
from stable_baselines3.common.callbacks import BaseCallback

from duologue.agents import Collector, DialoguePPO, DialogueVecEnv
from duologue.envs import Task
from duologue.inference import Cassette, InferenceClient

JUDGES = {"length": {"name": "length"}}
PAUSE_S = 0.005


class Watch(BaseCallback):
    """Notes when rollouts are collected, and the resident memory after each."""

    def __init__(self) -> None:
        super().__init__()
        self.windows = Windows()
        self.memory: list[tuple[int, float]] = []

    def _on_rollout_start(self) -> None:
        self.windows.open()

    def _on_rollout_end(self) -> None:
        self.windows.close()
        self.memory.append((self.num_timesteps, rss_mb()))

    def _on_step(self) -> bool:
        return True


class LagProbe:
    """Sleeps again and again on the client's loop and measures how late it wakes."""

    def __init__(self) -> None:
        self.lags: list[float] = []
        self.stop = False

    async def run(self) -> None:
        """Until `stop`."""
        while not self.stop:
            due = time.monotonic() + PAUSE_S
            await asyncio.sleep(PAUSE_S)
            self.lags.append(max(0.0, time.monotonic() - due))


def learn(task: Task, case: dict[str, Any], watch: Watch) -> None:
    """Whole rollouts and updates of `DialoguePPO`, as many as the case asks for."""
    options = {"n_steps": case["steps"], "batch_size": case.get("batch_size", 256), "n_epochs": case.get("epochs", 1)}
    env = DialogueVecEnv(case["concurrency"], task)
    agent = DialoguePPO("MultiInputPolicy", env, seed=0, device="cpu", **options)
    agent.learn(case["transitions"], callback=watch)
    if agent.failures:
        raise RuntimeError(f"episodes failed: {agent.failures}")


def speed(task: Task, case: dict[str, Any]) -> dict[str, Any]:
    """Transitions and the time of their collection: by the agent, or by the collector with a constant action."""
    if case["agent"] == "ppo":
        watch = Watch()
        learn(task, case, watch)
        done = watch.windows.closed[1:]  # the first opens the connections
        return {"transitions": len(done) * case["steps"] * case["concurrency"], "wall_s": Windows.seconds(done)}

    def constant(observations: Sequence[Any], noise: np.ndarray) -> tuple[list[int], list[float]]:
        return [0] * len(observations), [0.0] * len(observations)

    collector = Collector(task, case["concurrency"], seed=0)
    collector.collect(case["concurrency"], constant)
    start = time.monotonic()
    played, failures = collector.collect(case["transitions"], constant)
    if failures:
        raise RuntimeError(f"episodes failed: {failures}")
    return {"transitions": len(played), "wall_s": time.monotonic() - start}


def lag(task: Task, case: dict[str, Any]) -> dict[str, Any]:
    """Percentiles of the loop's lag in milliseconds over collection and updates."""
    probe = LagProbe()
    watching = task.client.thread.submit(probe.run())
    learn(task, case, Watch())
    probe.stop = True
    watching.result()
    p50, p99 = np.percentile(probe.lags, [50, 99])
    return {"p50_ms": 1000 * p50, "p99_ms": 1000 * p99, "most_ms": 1000 * max(probe.lags)}


def memory(task: Task, case: dict[str, Any]) -> dict[str, Any]:
    """Resident memory after the first transitions and at the end."""
    watch = Watch()
    learn(task, case, watch)
    early = next(mb for transitions, mb in watch.memory if transitions >= case["after"])
    transitions, late = watch.memory[-1]
    return {"transitions": transitions, "early_mb": early, "late_mb": late}


def main() -> None:
    """Answers every case until standard input closes; each has a client of its own."""
    th.set_num_threads(1)
    (base_url,) = sys.argv[1:]
    kinds = {"speed": speed, "lag": lag, "memory": memory}
    for line in sys.stdin:
        case = json.loads(line)
        with tempfile.TemporaryDirectory(prefix="duologue-bench-") as folder:
            client = InferenceClient(Cassette(f"{folder}/cassette.sqlite") if case.get("recording") else None)
            task: Task = simulated_task(client, base_url, turns=case.get("turns", 1), judges=JUDGES)
            answer = kinds[case["kind"]](task, case)
            if client.meter.total.reused or client.meter.total.failed:
                raise RuntimeError(f"not every answer was paid for: {client.meter.total}")
            client.close()
        gc.collect()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
