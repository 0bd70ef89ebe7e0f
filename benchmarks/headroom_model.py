"""What can be learnt with a real, weak model: SmolLM2-135M on single answers.

`assistant`: PPO chooses one of four candidates; the bar is its share of the distance from chance to the best-of-4 oracle, by the
training judges, on prompts that it has not seen. It sees the candidates through MiniLM, as the judge `reference` does; the second table
is the same through the static embeddings that are the default, and far quicker.

    python benchmarks/headroom_model.py            # half an hour on two cores, most of it sampling, once
    python benchmarks/headroom_model.py --quick
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from harness import arguments, progress, report
from headroom import table
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from duologue.commands.bench import bench
from duologue.plugins import plugins
from duologue.plugins.publish import publish

TASKS = {
    "assistant": ["bench.seeds=3", "bench.limit=64", "encoder=minilm", "~rival"],
    "assistant, static": ["bench.seeds=3", "bench.limit=64", "~rival"],
}
QUICK = [
    "bench.seeds=2",
    "bench.limit=3",
    "env.limit=4",
    "agent.total_timesteps=64",
    "agent.n_envs=4",
    "agent.n_steps=4",
]


def main() -> None:
    """Plays every task and reports returns with their intervals."""
    quick = arguments(__doc__ or "").quick
    publish(plugins())
    figures: dict[str, Any] = {}
    for task, overrides in TASKS.items():
        if quick and task != "assistant, static":
            continue
        progress(f"{task} …")
        with tempfile.TemporaryDirectory() as folder:
            summary = bench(config(task, QUICK if quick else overrides), Path(folder) / "bench")
        figures |= table(task, summary, quick)
        if (share := summary["verdict"]["of_oracle"]) is not None:
            figures[f"{task}_of_oracle".replace(", ", "_")] = share
    notes = ["return_min and return_max are the ends of the 95% interval over seeds and scenarios."]
    report("headroom_model", figures, {"assistant_of_oracle": 0.60}, quick=quick, notes=notes)


def config(task: str, overrides: list[str]) -> dict[str, Any]:
    """What `duologue bench TASK` composes with the model on this machine."""
    with initialize_config_module("duologue.conf", version_base="1.3"):
        composed = compose("bench", [f"experiment={task.partition(',')[0]}", *overrides])
    values: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)
    values.pop("hydra", None)
    return dict(values)


if __name__ == "__main__":
    main()
