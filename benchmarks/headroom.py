"""The headroom gate: on every game, is the learnt policy above the best constant one, and that one above chance?

Users, models and judges are rules, so nothing but learning is measured. Five seeds of PPO and of LinUCB on training scenarios;
then everybody plays 200 held-out scenarios with each seed. The intervals are for other seeds and other scenarios.

    python benchmarks/headroom.py            # about 25 minutes on two cores
    python benchmarks/headroom.py --quick
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from harness import RESULTS, arguments, progress, report
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from duologue.commands.bench import bench
from duologue.evaluation.report.plots import draw_returns
from duologue.evaluation.stats.headroom import PolicyReturns, shown
from duologue.plugins import plugins
from duologue.plugins.publish import publish

GAMES = ("bargain", "tutoring", "support", "forms")
QUICK = ["bench.seeds=2", "bench.limit=30", "agent.total_timesteps=1024"]


def main() -> None:
    """Plays every game and reports returns with their intervals."""
    quick = arguments(__doc__ or "").quick
    publish(plugins())
    figures: dict[str, Any] = {}
    passed = 0
    for game in GAMES:
        progress(f"{game} …")
        with tempfile.TemporaryDirectory() as folder:
            summary = bench(config(game, quick), Path(folder) / "bench")
        passed += bool(summary["verdict"]["passed"])
        figures |= table(game, summary, quick)
    figures["games_passed"] = passed
    figures["seeds"] = 2 if quick else 5
    figures["scenarios"] = 30 if quick else 200
    notes = ["return_min and return_max are the ends of the 95% interval over seeds and scenarios."]
    report("headroom", figures, {"games_passed": len(GAMES)}, quick=quick, notes=notes)


def table(task: str, summary: dict[str, Any], quick: bool) -> dict[str, Any]:
    """The figures of one task; a full run also draws them, beside the results."""
    standings = shown([PolicyReturns(**{**row, "by_seed": tuple(row["by_seed"])}) for row in summary["results"]])
    figures: dict[str, Any] = {}
    for standing in standings:
        name = "best constant" if standing.kind == "constant" else standing.name
        figures[f"{task}/{name}/return"] = standing.mean
        figures[f"{task}/{name}/return_min"] = standing.low
        figures[f"{task}/{name}/return_max"] = standing.high
        figures[f"{task}/{name}/requests"] = standing.requests
        figures[f"{task}/{name}/tokens"] = standing.tokens
    if not quick:
        draw_returns(task, standings, [RESULTS / f"headroom_{task.replace(', ', '_')}.svg"])
    return figures


def config(game: str, quick: bool) -> dict[str, Any]:
    """What `duologue bench GAME` composes."""
    overrides = [f"experiment={game}", "inference=rules", *(QUICK if quick else [])]
    with initialize_config_module("duologue.conf", version_base="1.3"):
        values: Any = OmegaConf.to_container(compose("bench", overrides), resolve=True, throw_on_missing=False)
    values.pop("hydra", None)
    return dict(values)


if __name__ == "__main__":
    main()
