"""One scheme of `rollouts.py`: reads a case as a line of JSON, collects rollouts, writes when it did and what it took.

python benchmarks/rollouts_worker.py {exact,ahead,lock-step,dummy,async}
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from simulated_task import Windows, pss_mb, simulated_task

from duologue.envs import DialogueEnv, Task
from duologue.inference import Cassette, InferenceClient
from duologue.inference.encoders import make_encoder

TURNS = 3
JUDGES = {"grade": {"name": "llm"}}


def make_task(case: dict[str, Any], **parts: Any) -> Task:
    """Three turns, one generation and one judge call each, the cassette in its default mode, one per process."""
    client = InferenceClient(Cassette(f"{case['folder']}/cassette-{os.getpid()}.sqlite"))
    task: Task = simulated_task(client, case["base_url"], turns=TURNS, judges=JUDGES, **parts)
    return task


def measured(windows: list[tuple[float, float]], transitions: int, task: Task | None, **more: Any) -> dict[str, Any]:
    """A worker's answer; memory is taken now, while everything is still there."""
    memory, processes = pss_mb()
    used = task.client.meter.total if task else None
    spoilt = used.failed + used.reused if used else 0  # an answer that was reused has no latency and would flatter us
    return {
        "windows": windows,
        "transitions": transitions,
        "pss_mb": memory,
        "processes": processes,
        "failures": spoilt,
        **more,
    }


def ppo(case: dict[str, Any], scheme: str) -> dict[str, Any]:
    """Our agent in exact or ahead mode, or plain Stable-Baselines3 PPO on the lock-step shell: whole `learn()`."""
    import torch as th
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback

    from duologue.agents import DialoguePPO, DialogueVecEnv

    class Clock(BaseCallback):
        """Notes when rollouts are collected."""

        windows = Windows()

        def _on_rollout_start(self) -> None:
            self.windows.open()

        def _on_rollout_end(self) -> None:
            self.windows.close()

        def _on_step(self) -> bool:
            return True

    th.set_num_threads(1)
    task = make_task(case)
    slots, steps = case["slots"], case["steps"]
    options = {"n_steps": steps, "batch_size": 256, "seed": case["seed"], "device": "cpu"}
    env = DialogueVecEnv(slots, task)
    if scheme == "lock-step":
        agent: Any = PPO("MultiInputPolicy", env, **options)
    else:
        if scheme == "ahead":
            options["max_ahead_episodes"] = 8 * slots
        agent = DialoguePPO("MultiInputPolicy", env, **options)
        agent.mean_length = float(TURNS)  # known here; otherwise the first rollout is thrice as long
    clock = Clock()
    agent.learn(case["rollouts"] * slots * steps, callback=clock)
    first, last = case["windows"]
    windows = clock.windows.closed[first:last]
    learnt = [(windows[0][0], windows[-1][1])]  # with the updates between them
    logged = {name: agent.logger.name_to_value.get(f"rollout/{name}") for name in ("utilisation", "stale_share")}
    failures = sum(getattr(agent, "failures", {}).values())
    answer = measured(windows, len(windows) * slots * steps, task, learnt=learnt, logged=logged)
    return answer | {"failures": answer["failures"] + failures}


def stepped(case: dict[str, Any], make: Callable[[int], Any], task: Task | None) -> dict[str, Any]:
    """A vector environment with constant actions: nothing but its own waiting."""
    import numpy as np

    env = make(case["slots"])
    env.reset()
    actions = np.zeros(case["slots"], int)
    env.step(actions)  # opens the connections
    windows = Windows()
    windows.open()
    for _ in range(case["steps"]):
        env.step(actions)
    windows.close()
    answer = measured(windows.closed, case["steps"] * case["slots"], task)
    env.close()
    return answer


def dummy(case: dict[str, Any]) -> dict[str, Any]:
    """Stable-Baselines3's `DummyVecEnv`: one dialogue after another."""
    from stable_baselines3.common.vec_env import DummyVecEnv

    task = make_task(case)
    own = [replace(task, scenarios=[scenario]) for scenario in task.scenarios]  # so that no two ask the same
    return stepped(case, lambda n: DummyVecEnv([partial(DialogueEnv, part) for part in own[:n]]), task)


def processes(case: dict[str, Any]) -> dict[str, Any]:
    """Gymnasium's `AsyncVectorEnv`: a process per dialogue, forked before there is any client, the encoder shared."""
    from gymnasium.vector import AsyncVectorEnv

    encoder = make_encoder("static")

    def make() -> DialogueEnv:
        return DialogueEnv(make_task(case, encoder=encoder))

    return stepped(case, lambda n: AsyncVectorEnv([make] * n, context="fork"), None)


def main() -> None:
    """Runs one case."""
    scheme = sys.argv[1]
    case = json.loads(sys.stdin.readline())
    with tempfile.TemporaryDirectory(prefix="duologue-bench-") as folder:
        case["folder"] = folder
        special: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"dummy": dummy, "async": processes}
        answer = special[scheme](case) if scheme in special else ppo(case, scheme)
        print(json.dumps(answer), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
