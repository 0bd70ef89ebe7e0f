"""How much of the time the dialogues of a rollout wait for the endpoint, and not for one another or for us.

Dialogues of three turns, one generation and one LLM judge call a turn, both with log-normal latency of mean 200 ms and
sigma 1, over HTTP to the simulated endpoint; interface `strategy`, the default encoder, the cassette in its default mode
`record` on a fresh file. Utilisation is the sum of the latencies that fall into a rollout over its length times the
number of dialogues, by the endpoint's own record; the column `model` is what a client that costs nothing would reach.
`exact` and `ahead` are `DialoguePPO` (`ahead` with `max_ahead_episodes` of eight times the dialogues), `lock-step` is plain
Stable-Baselines3 `PPO` on our `DialogueVecEnv`, `DummyVecEnv` is theirs and `AsyncVectorEnv` Gymnasium's with a process per
dialogue, both over `DialogueEnv` for a few steps without a policy. `learn` also counts the updates between rollouts. Of
the rollouts that run ahead neither the first counts nor the last, which begins nothing that it will not use.
Memory is the proportional set size of the scheme's processes, without the endpoint's.

    python benchmarks/rollouts.py            # about fifteen minutes on two cores
    python benchmarks/rollouts.py --quick
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import queue_model
from harness import arguments, progress, report, spread
from simulated_endpoint import Behaviour, start, utilisation
from worker_process import WorkerProcess

OURS: dict[str, dict[str, Any]] = {
    "exact_64x32": {"scheme": "exact", "slots": 64, "steps": 32, "rollouts": 3, "windows": [0, 3]},
    "exact_64x128": {"scheme": "exact", "slots": 64, "steps": 128, "rollouts": 1, "windows": [0, 1]},
    "ahead_64x32": {"scheme": "ahead", "slots": 64, "steps": 32, "rollouts": 5, "windows": [1, 4]},
    "ahead_256x32": {"scheme": "ahead", "slots": 256, "steps": 32, "rollouts": 5, "windows": [1, 4]},
    "lock_step_64": {"scheme": "lock-step", "slots": 64, "steps": 32, "rollouts": 1, "windows": [0, 1]},
}
OTHERS: dict[str, dict[str, Any]] = {
    "DummyVecEnv_64": {"scheme": "dummy", "slots": 64, "steps": 1},
    "AsyncVectorEnv_64": {"scheme": "async", "slots": 64, "steps": 10},
}
QUICK: dict[str, dict[str, Any]] = {
    "exact_64x32": {"scheme": "exact", "slots": 64, "steps": 9, "rollouts": 1, "windows": [0, 1]},
    "ahead_64x32": {"scheme": "ahead", "slots": 64, "steps": 6, "rollouts": 3, "windows": [1, 2]},
    "lock_step_64": {"scheme": "lock-step", "slots": 64, "steps": 2, "rollouts": 1, "windows": [0, 1]},
    "AsyncVectorEnv_64": {"scheme": "async", "slots": 4, "steps": 1},
}
BARS = {
    "utilisation_exact_64x32": 0.68,
    "utilisation_exact_64x128": 0.88,
    "utilisation_ahead_64x32": 0.92,
    "utilisation_ahead_256x32": 0.85,
    "least_of_ours_over_lock_step": 4,
    "max_failures": 0,
}


def main() -> None:
    """Runs every scheme, ours and lock-step in two interleaved rounds."""
    quick = arguments(__doc__ or "").quick
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for turn in range(1 if quick else 2):
        for name, case in (QUICK if quick else OURS if turn else OURS | OTHERS).items():
            found[name].append(run(case, seed=turn))
            progress(f"round {turn}: {name}: {found[name][-1]}")
    figures: dict[str, Any] = {}
    for name, rounds in found.items():
        figures |= spread(f"utilisation_{name}", [r["utilisation"] for r in rounds])
    ours = [name for name in found if name.startswith(("exact", "ahead"))]
    ratios = [
        min(found[name][turn]["utilisation"] for name in ours) / lock["utilisation"]
        for turn, lock in enumerate(found["lock_step_64"])
    ]
    figures |= spread("least_of_ours_over_lock_step", ratios)
    figures["failures"] = sum(r["failures"] for rounds in found.values() for r in rounds)
    figures |= table(found)
    report("rollouts", figures, BARS, quick=quick, explained={"least_of_ours_over_lock_step": limit(figures)})


def limit(figures: dict[str, Any]) -> str:
    """How far the scheme that gains least could be from lock-step."""
    exact, lock_step = (figures[f"scheme/{name}/model"] for name in ("exact_64x32", "lock_step_64"))
    return (
        f"It is exact mode at 32 steps per dialogue that gains least, and with a client that costs nothing it would reach "
        f"{exact:.3f} of the ideal against {lock_step:.3f}, which is {exact / lock_step:.2f} times as much: a turn is the "
        "sum of two latencies here, which spreads less than one, so lock-step waits less than where turns are one call."
    )


def run(case: dict[str, Any], seed: int) -> dict[str, Any]:
    """One scheme in a process of its own on an endpoint of its own."""
    with start(Behaviour(latency="lognormal", mean_s=0.2, sigma=1.0, seed=seed, tokens=40)) as endpoint:
        with WorkerProcess("rollouts_worker.py", case["scheme"]) as worker:
            answer = worker.ask(case | {"base_url": endpoint.base_url, "seed": seed})
        records, slots = endpoint.records(), case["slots"]
    result = {
        "utilisation": utilisation(records, answer["windows"], slots),
        "transitions per s": answer["transitions"] / sum(end - begin for begin, end in answer["windows"]),
        "memory MB": answer["pss_mb"],
        "processes": answer["processes"],
        "failures": answer["failures"],
    }
    if "learnt" in answer:
        result["learn"] = utilisation(records, answer["learnt"], slots)
        result |= {name: value for name, value in answer["logged"].items() if value is not None}
    return result


def table(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """All that was measured, a row per scheme, with the model's utilisation."""
    rng = np.random.default_rng(0)
    model = {
        "exact_64x32": queue_model.exact(64, 32, rng),
        "exact_64x128": queue_model.exact(64, 128, rng),
        "ahead_64x32": 1.0,
        "ahead_256x32": 1.0,
        "lock_step_64": queue_model.lock_step(64, rng),
        "DummyVecEnv_64": 1 / 64,
    }
    model["AsyncVectorEnv_64"] = model["lock_step_64"]
    figures: dict[str, Any] = {}
    columns = {
        "utilisation": "utilisation",
        "learn": "learn",
        "stale_share": "stale share",
        "transitions per s": "transitions per s",
        "memory MB": "memory MB",
        "processes": "processes",
    }
    for name, rounds in found.items():
        figures[f"scheme/{name}/model"] = model[name]
        for key, column in columns.items():
            if key in rounds[0]:
                figures[f"scheme/{name}/{column}"] = float(np.median([r[key] for r in rounds]))
    return figures


if __name__ == "__main__":
    main()
