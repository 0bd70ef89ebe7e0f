"""A command on a Ray of so many cores; run by test_ray_rollouts.py.

    python tests/agents/distributed/on_ray.py CONFIG.json FOLDER CORES (train | run | evaluate)

An error of Duologue ends it with status 2 and the error on stderr, as the command line does.
"""

import json
import sys
from pathlib import Path

import ray

from duologue.agents.training import train
from duologue.commands.evaluate import evaluate, train_and_evaluate
from duologue.inference import DuologueError


def main(config, folder, cores, command):
    ray.init(address="local", num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        {"train": train, "run": train_and_evaluate, "evaluate": evaluate}[command](config, folder)
    except DuologueError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
