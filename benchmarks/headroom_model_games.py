"""Two games with a real, weak model in the assistant's place, as it is: SmolLM2-135M directed by PPO.

Every dialogue is new and has to be sampled, so there are few turns to learn from and few scenarios to play, and nothing is claimed: the
table shows what such a model does when it is told how to bargain or to teach. It has no bar.

    python benchmarks/headroom_model_games.py            # a quarter of an hour on two cores, nearly all of it sampling
    python benchmarks/headroom_model_games.py --quick
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from harness import arguments, progress, report
from headroom import table
from headroom_model import config

from duologue.commands.bench import bench
from duologue.plugins import plugins
from duologue.plugins.publish import publish

SIZE = ["bench.seeds=2", "bench.limit=6", "agent.total_timesteps=192", "agent.n_steps=6", "env.max_turns=4", "~rival"]
QUICK = [
    "bench.seeds=2",
    "bench.limit=2",
    "agent.total_timesteps=16",
    "agent.n_envs=4",
    "agent.n_steps=4",
    "env.max_turns=1",
    "~rival",
]


def main() -> None:
    """Plays both games and reports returns with their intervals."""
    quick = arguments(__doc__ or "").quick
    publish(plugins())
    figures: dict[str, Any] = {}
    for game in ("bargain",) if quick else ("bargain", "tutoring"):
        progress(f"{game} …")
        with tempfile.TemporaryDirectory() as folder:
            summary = bench(config(game, QUICK if quick else SIZE), Path(folder) / "bench")
        figures |= table(f"{game}, SmolLM2", summary, quick)
    notes = ["return_min and return_max are the ends of the 95% interval over seeds and scenarios."]
    report("headroom_model_games", figures, {}, quick=quick, notes=notes)


if __name__ == "__main__":
    main()
