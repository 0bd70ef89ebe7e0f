"""The rivals of `overhead.py`: single-turn samples through verifiers or Inspect, each in an environment of its own.

python benchmarks/overhead_rivals.py {verifiers,inspect} BASE_URL

Imports nothing of Duologue. Every rival asks the same question of the same endpoint, has one trivial scorer and as many
samples under way as the case says; its log level is quiet and its other settings are its defaults.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

QUESTION = "What should I keep in mind about this, and what would you do first?"
SYSTEM = "Answer in one or two short sentences."

Samples = Callable[[int, int], list[float]]
"""Plays so many samples with so many under way; returns their scores."""


def verifiers(base_url: str) -> Samples:
    """`SingleTurnEnv.generate` with a rubric of one function."""
    import datasets
    import verifiers as library  # type: ignore[import-not-found]

    datasets.disable_progress_bars()
    os.environ["PRIME_API_KEY"] = "none"
    config = library.ClientConfig(api_base_url=base_url)

    async def length(completion: Any) -> float:
        return min(1.0, len(completion[-1]["content"].split()) / 40)

    def samples(count: int, concurrency: int) -> list[float]:
        rows = [{"question": f"Matter {i}: {QUESTION}", "answer": ""} for i in range(count)]
        env = library.SingleTurnEnv(
            dataset=datasets.Dataset.from_list(rows), system_prompt=SYSTEM, rubric=library.Rubric(funcs=[length])
        )
        job = env.generate(
            env.get_dataset(),
            config,
            "simulated",
            sampling_args={"max_tokens": 200},
            max_concurrent=concurrency,
            on_start=lambda *_: None,
            on_progress=lambda *_: None,
            on_log=lambda *_: None,
        )
        return [float(output["reward"]) for output in asyncio.run(job)["outputs"]]

    return samples


def inspect(base_url: str) -> Samples:
    """`eval` of a task with `generate` and one scorer, logs written to a temporary folder."""
    import inspect_ai as library  # type: ignore[import-not-found]
    from inspect_ai.dataset import MemoryDataset, Sample  # type: ignore[import-not-found]
    from inspect_ai.scorer import Score, mean, scorer  # type: ignore[import-not-found]
    from inspect_ai.solver import generate, system_message  # type: ignore[import-not-found]

    os.environ["OPENAI_API_KEY"] = "none"

    @scorer(metrics=[mean()])  # type: ignore[untyped-decorator]
    def length() -> Any:
        async def score(state: Any, target: Any) -> Any:
            return Score(value=min(1.0, len(state.output.completion.split()) / 40))

        return score

    def samples(count: int, concurrency: int) -> list[float]:
        data = MemoryDataset([Sample(input=f"Matter {i}: {QUESTION}", target="") for i in range(count)])
        task = library.Task(dataset=data, solver=[system_message(SYSTEM), generate()], scorer=length())
        with tempfile.TemporaryDirectory() as folder:
            (log,) = library.eval(
                task,
                model="openai/simulated",
                model_base_url=base_url,
                model_args={"responses_api": False},
                display="none",
                log_level="error",
                log_dir=folder,
                max_connections=concurrency,
                max_samples=concurrency,
                max_tokens=200,
            )
            if log.status != "success":
                raise RuntimeError(str(log.error))
            return [float(sample.scores["length"].value) for sample in log.samples]  # read from the file only now

    return samples


def main() -> None:
    """Answers every case until standard input closes."""
    name, base_url = sys.argv[1:]
    samples = {"verifiers": verifiers, "inspect": inspect}[name](base_url)
    for line in sys.stdin:
        case = json.loads(line)
        samples(case["concurrency"], case["concurrency"])  # connections, imports at first use
        start = time.monotonic()
        scores = samples(case["transitions"], case["concurrency"])
        wall_s = time.monotonic() - start
        if len(scores) != case["transitions"] or not all(scores):
            raise RuntimeError(f"{len(scores)} of {case['transitions']} samples, scores {scores[:3]}")
        print(json.dumps({"transitions": len(scores), "wall_s": wall_s}), flush=True)


if __name__ == "__main__":
    main()
