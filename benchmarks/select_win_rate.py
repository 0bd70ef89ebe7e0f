"""The headline: does a trained `select` policy beat the plain model on prompts that it has not seen?

Trains on the 224 training prompts (judges `reference`, `rules`, `length`) with three seeds and plays each policy against
one plain sample of the same model on the 128 test prompts, judged by `chrf`, which it was not trained on. Four independent
samplings of every test prompt; the interval is clustered by prompt over all seeds and samplings.

    python benchmarks/select_win_rate.py            # about half an hour on two cores, most of it sampling, once
    python benchmarks/select_win_rate.py --quick
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import arguments, report
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from duologue.commands.evaluate import train_and_evaluate
from duologue.evaluation import win_rate
from duologue.evaluation.report.tables import is_constant
from duologue.plugins import plugins
from duologue.plugins.publish import publish

SEEDS = (0, 1, 2)
QUICK = ["env.limit=4", "evaluation.limit=4", "evaluation.repeats=1", "agent.total_timesteps=1024"]


def main() -> None:
    """Runs all seeds and reports their mean."""
    quick = arguments(__doc__ or "").quick
    rows: list[dict[str, Any]] = []
    matches: list[dict[str, Any]] = []
    for seed in SEEDS[:1] if quick else SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            summary = train_and_evaluate(config(seed, quick), Path(folder) / "run")
            lines = (Path(folder) / "run" / "matches.jsonl").read_text(encoding="utf-8").splitlines()
        rows += [row | {"seed": seed} for row in summary["results"]]
        matches += [json.loads(line) for line in lines]
    own = [match for match in matches if match["contestant"] == "trained policy" and match["orders"]]
    rate = win_rate([np.mean(match["orders"]) for match in own], [match["scenario"] for match in own])
    constants = {row["contestant"] for row in rows if is_constant(row["contestant"])}
    figures = {
        "win_rate": round(rate.rate, 4),
        "low": round(rate.low, 4),
        "high": round(rate.high, 4),
        "matches": rate.n,
        "prompts": rate.clusters,
        "by_seed": [row["win_rate"] for row in rows if row["contestant"] == "trained policy"],
        "best_constant": max(mean(rows, name) for name in constants),
        "random": mean(rows, "random"),
        "oracle": mean(rows, "best-of-n oracle"),
    }
    report("select_win_rate", figures, {"win_rate": 0.60, "low": 0.5}, quick=quick)


def config(seed: int, quick: bool) -> dict[str, Any]:
    """The shipped configuration of `duologue run` with four samplings of every test prompt."""
    publish(plugins())
    overrides = [f"seed={seed}", "evaluation.repeats=4", "evaluation.baseline_repeats=1", *(QUICK if quick else [])]
    with initialize_config_module("duologue.conf", version_base="1.3"):
        values: Any = OmegaConf.to_container(compose("run", overrides), resolve=True)
    return dict(values)


def mean(rows: list[dict[str, Any]], contestant: str) -> float:
    """The mean win rate of a contestant over the seeds."""
    return round(float(np.mean([row["win_rate"] for row in rows if row["contestant"] == contestant])), 4)


if __name__ == "__main__":
    main()
