"""What a transition costs when the endpoint costs nothing, how smooth the event loop stays, and whether memory grows.

Single-turn dialogues with the simulated endpoint at zero latency: one generation of 200 tokens without logprobs, the
interface `strategy`, the default encoder, one trivial judge, 64 under way at once. The client's process is bound to one
core, the endpoint's to another. `DialoguePPO` counts its collection, policy included; `Collector` plays a constant action;
both with the cassette off, as the rivals have none, and recording to a fresh file. The rivals are the same dialogues
through verifiers' `SingleTurnEnv` and Inspect's `eval`, which have no policy and no observation; rounds are interleaved
and ratios taken within each. The bar is on `DialoguePPO` without the cassette against the faster rival of the same round;
if neither could be installed it is against 107 samples per second, which verifiers made on another machine.
`loop_lag_p99_ms` is how late a coroutine wakes that sleeps 5 ms on the client's loop, during rollouts and updates.
`memory_growth_percent` is that of the resident set over 100,000 transitions of dialogues of three turns, no answer like
another, after 20,000 that filled the encoder's memory of 10,000 texts.

    python benchmarks/overhead.py            # about five minutes on two cores
    python benchmarks/overhead.py --quick
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import ExitStack
from typing import Any

from harness import arguments, progress, report, spread
from other_environments import Environment, environment
from simulated_endpoint import SimulatedEndpoint, start
from worker_process import WorkerProcess

STREAMS = 64
PUBLISHED_PER_S = 107.0
RIVALS = {
    "verifiers": ("verifiers==0.1.14",),
    "inspect": ("inspect-ai==0.3.285", "openai"),
}
OURS: dict[str, dict[str, Any]] = {
    f"{shown}, cassette {'recording' if recording else 'off'}": {
        "kind": "speed",
        "agent": agent,
        "recording": recording,
        "concurrency": STREAMS,
    }
    for agent, shown in (("ppo", "DialoguePPO"), ("collector", "Collector"))
    for recording in (False, True)
}
BARS = {
    "transitions_per_s_over_fastest_rival": 10,
    "max_loop_lag_p99_ms": 20,
    "max_memory_growth_percent": 5,
}


def main() -> None:
    """Runs the three parts."""
    quick = arguments(__doc__ or "").quick
    cores = sorted(os.sched_getaffinity(0))
    rivals = {name: environment(name, *requirements) for name, requirements in RIVALS.items()}
    with start(core=cores[-1]) as endpoint:
        figures = speeds(endpoint, cores[0], rivals, quick) | smoothness(endpoint, cores[0], quick)
    notes = [rival.reason for rival in rivals.values() if rival.reason]
    versions = {name: version for rival in rivals.values() for name, version in (rival.versions or {}).items()}
    report("overhead", figures, BARS, quick=quick, notes=notes, others=versions)


def speeds(endpoint: SimulatedEndpoint, core: int, rivals: dict[str, Environment], quick: bool) -> dict[str, Any]:
    """Transitions per second of everybody, in interleaved rounds."""
    found: dict[str, list[float]] = defaultdict(list)
    count = 512 if quick else 4096
    with ExitStack() as stack:
        own = stack.enter_context(WorkerProcess("overhead_worker.py", endpoint.base_url, core=core))
        others = {
            name: stack.enter_context(
                WorkerProcess("overhead_rivals.py", name, endpoint.base_url, python=rival.python, core=core)
            )
            for name, rival in rivals.items()
            if rival.python
        }
        for turn in range(1 if quick else 4):
            for name, case in OURS.items():
                steps = count // STREAMS // 2
                whole = {"steps": steps, "transitions": count + (steps * STREAMS if case["agent"] == "ppo" else 0)}
                found[name].append(per_s(own.ask(case | whole)))
                progress(f"round {turn}: {name}: {found[name][-1]:.0f} transitions/s")
            for name, worker in others.items():
                samples = 128 if quick else 512
                found[name].append(per_s(worker.ask({"transitions": samples, "concurrency": STREAMS})))
                progress(f"round {turn}: {name}: {found[name][-1]:.0f} samples/s")
                endpoint.reset()
    fastest = [max(rates) for rates in zip(*(found[name] for name in others), strict=True)] if others else []
    figures: dict[str, Any] = {}
    for name, agent in (("transitions_per_s", "DialoguePPO"), ("collector_transitions_per_s", "Collector")):
        rates = found[f"{agent}, cassette off"]
        ratios = [rate / rival for rate, rival in zip(rates, fastest or [PUBLISHED_PER_S] * len(rates), strict=True)]
        figures |= spread(f"{name}_over_fastest_rival", ratios)
    for name in rivals.keys() - others.keys():
        figures[f"one core, no latency/{name}/transitions per s"] = None
    for name, rates in found.items():
        figures |= spread(f"one core, no latency/{name}/transitions per s", rates)
    return figures


def per_s(answer: dict[str, Any]) -> float:
    """Transitions per second."""
    return float(answer["transitions"] / answer["wall_s"])


def smoothness(endpoint: SimulatedEndpoint, core: int, quick: bool) -> dict[str, Any]:
    """The loop's lag and the growth of memory, each in a process of its own."""
    case: dict[str, Any] = {"kind": "lag", "concurrency": STREAMS, "epochs": 10, "batch_size": 128}
    figures: dict[str, Any] = {}
    lags = []
    for _ in range(1 if quick else 3):
        with WorkerProcess("overhead_worker.py", endpoint.base_url, core=core) as worker:
            lags.append(worker.ask(case | {"steps": 16, "transitions": 2048 if quick else 8192}))
        progress(f"loop lag: {lags[-1]}")
    for name in ("p50", "p99", "most"):
        figures |= spread(f"loop_lag_{name}_ms", [found[f"{name}_ms"] for found in lags])
    endpoint.reset()
    case = {"kind": "memory", "concurrency": STREAMS, "steps": 8 if quick else 32, "batch_size": 2048, "turns": 3}
    total, after = (6_000, 2_000) if quick else (120_000, 20_000)
    with WorkerProcess("overhead_worker.py", endpoint.base_url, core=core) as worker:
        found = worker.ask(case | {"transitions": total, "after": after})
    progress(f"memory: {found}")
    return figures | {
        "memory_growth_percent": 100 * (found["late_mb"] / found["early_mb"] - 1),
        "memory_early_mb": found["early_mb"],
        "memory_late_mb": found["late_mb"],
    }


if __name__ == "__main__":
    main()
