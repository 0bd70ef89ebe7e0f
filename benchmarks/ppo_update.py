"""The time of the update, `agent.train()`, against Stable-Baselines3's own PPO on the same network, batch and transitions.

`multi_input` is SB3's `MultiInputPolicy` on the observations of the interface `strategy` with the default 256-number
encoder, `candidate` our `CandidatePolicy` on those of `select`. Both agents hold the same weights and the same synthetic
transitions, ours in its buffer of episodes end to end, and go ten times through them; one torch thread. The time is CPU
seconds of the process, on a GPU seconds of wall time with the device drained. Rounds are interleaved, their order
alternates, and ratios are taken within each round; `worst_ratio` is the largest of the medians, and its bar allows for 5%
of noise. `same_parameters` says whether both ended every update with the same weights, bit for bit. The shares say what
bounds the update: the forward pass, the backward pass, the optimizer with the clipping of gradients, and
the rest (the loss, drawing minibatches, numbers for the log).

    python benchmarks/ppo_update.py            # about five minutes on two cores
    python benchmarks/ppo_update.py --quick
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from harness import arguments, progress, report, spread
from simulated_task import simulated_task
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy

from duologue.agents import CandidatePolicy, DialoguePPO, DialogueVecEnv
from duologue.inference import InferenceClient

ENVS = 32
NETWORKS: dict[str, tuple[str, Any]] = {
    "multi_input": ("strategy", "MultiInputPolicy"),
    "candidate": ("select", CandidatePolicy),
}
BARS = {"max_worst_ratio": 1.05}


def main() -> None:
    """Measures every network, number of transitions and batch, on the CPU and on a GPU if there is one."""
    quick = arguments(__doc__ or "").quick
    th.set_num_threads(1)
    client = InferenceClient()
    devices = ["cpu", *(["cuda"] if th.cuda.is_available() else [])]
    figures: dict[str, Any] = {}
    medians, same = [], []
    for device in devices:
        for network in NETWORKS:
            env = make_env(client, network)
            for transitions in (2048,) if quick else (2048, 16384):
                for batch_size in (256,) if quick else (64, 256):
                    rounds = 8 if quick else 15 if transitions == 2048 else 6
                    cell = f"{network}, {transitions} transitions, batch {batch_size}, {device}"
                    times, shares, equal = measure(env, network, transitions, batch_size, device, rounds)
                    ratios = [ours / theirs for ours, theirs in zip(times["DialoguePPO"], times["PPO"], strict=True)]
                    for name, values in times.items():
                        figures |= spread(f"update/{cell}/{name}, s", values)
                    figures |= spread(f"update/{cell}/ratio", ratios)
                    figures |= {f"what bounds it/{cell}/{part}": share for part, share in shares.items()}
                    medians.append(float(np.median(ratios)))
                    same.append(equal)
                    progress(f"{cell}: {medians[-1]:.3f} of the time of SB3, {np.median(times['PPO']):.2f} s; {shares}")
    client.close()
    notes = [] if "cuda" in devices else ["No GPU was at hand."]
    figures = {"worst_ratio": max(medians), "same_parameters": all(same), **figures}
    report("ppo_update", figures, BARS, quick=quick, notes=notes)


def make_env(client: InferenceClient, network: str) -> DialogueVecEnv:
    """An environment that is never stepped: it gives the spaces."""
    task = simulated_task(client, "http://127.0.0.1:9/v1", turns=1, judges={}, interface=NETWORKS[network][0])
    return DialogueVecEnv(ENVS, task)


def measure(
    env: DialogueVecEnv, network: str, transitions: int, batch_size: int, device: str, rounds: int
) -> tuple[dict[str, list[float]], dict[str, float], bool]:
    """Times of both agents' updates, where that time goes, and whether both end with the same weights."""
    data = synthetic(env, transitions)
    clock = time.process_time if device == "cpu" else drained
    makers = {"DialoguePPO": DialoguePPO, "PPO": PPO}
    agents = {}
    for name, maker in makers.items():
        options = {"n_steps": transitions // ENVS, "batch_size": batch_size, "seed": 0, "device": device}
        agents[name] = maker(NETWORKS[network][1], env, **options)
        agents[name].set_logger(Logger(folder=None, output_formats=[]))
    times: dict[str, list[float]] = {name: [] for name in makers}
    shares: dict[str, float] = {}
    equal = True
    for turn in range(-1, rounds):  # the first warms up, and is taken apart
        for name in list(makers)[:: 1 if turn % 2 else -1]:
            agent = agents[name]
            fill(agent, data)
            np.random.seed(turn + 1)  # SB3 draws minibatches from numpy's global generator
            if turn < 0:
                taken = taken_apart(agent, clock)
                shares = taken if name == "DialoguePPO" else shares
            else:
                start = clock()
                agent.train()
                times[name].append(clock() - start)
        ours, theirs = (agents[name].policy.state_dict() for name in makers)
        equal = equal and all(th.equal(ours[key], theirs[key]) for key in ours)
    return times, shares, equal


def synthetic(env: DialogueVecEnv, transitions: int) -> dict[str, Any]:
    """Rows such as a rollout leaves behind, one episode after another."""
    rng = np.random.default_rng(0)
    observations: dict[str, np.ndarray] = {}
    for name, box in env.observation_space.spaces.items():  # type: ignore[attr-defined]
        observations[name] = rng.normal(0, 0.1, (transitions, *box.shape)).astype(np.float32)
    n = env.action_space.n  # type: ignore[attr-defined]
    return {
        "observations": observations,
        "actions": rng.integers(n, size=(transitions, 1)).astype(np.float32),
        "log_probs": np.full(transitions, -np.log(n), np.float32),
        **{name: rng.normal(size=transitions).astype(np.float32) for name in ("values", "advantages", "returns")},
    }


def fill(agent: Any, data: dict[str, Any]) -> None:
    """Writes the rows into an agent's buffer so that it reads them in this order: one column, or one per environment."""
    buffer, transitions = agent.rollout_buffer, len(data["values"])
    buffer.n_envs = 1 if isinstance(agent, DialoguePPO) else ENVS
    buffer.buffer_size = transitions // buffer.n_envs
    buffer.reset()

    def columns(rows: np.ndarray) -> np.ndarray:
        return rows.reshape(buffer.n_envs, buffer.buffer_size, *rows.shape[1:]).swapaxes(0, 1).copy()

    for name, rows in data["observations"].items():
        buffer.observations[name] = columns(rows)
    for name in data.keys() - {"observations"}:
        setattr(buffer, name, columns(data[name]))
    buffer.pos, buffer.full = buffer.buffer_size, True


def taken_apart(agent: Any, clock: Callable[[], float]) -> dict[str, float]:
    """The shares of an update: forward, backward, optimizer with clipping, the rest."""
    marks: dict[str, float] = defaultdict(float)

    @contextmanager
    def timed(part: str, owner: Any, name: str) -> Iterator[None]:
        original = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = clock()
            try:
                return original(*args, **kwargs)
            finally:
                marks[part] += clock() - start

        setattr(owner, name, wrapper)
        try:
            yield
        finally:
            setattr(owner, name, original)

    policy: ActorCriticPolicy = agent.policy
    with (
        timed("forward", policy, "evaluate_actions"),
        timed("backward", th.Tensor, "backward"),
        timed("optimizer", th.nn.utils, "clip_grad_norm_"),
        timed("optimizer", policy.optimizer, "step"),
    ):
        start = clock()
        agent.train()
        whole = clock() - start
    del policy.__dict__["evaluate_actions"]
    return {part: marks[part] / whole for part in ("forward", "backward", "optimizer")} | {
        "loss, minibatches and log": 1 - sum(marks.values()) / whole
    }


def drained() -> float:
    """Wall time once the device has done what it was given."""
    th.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
