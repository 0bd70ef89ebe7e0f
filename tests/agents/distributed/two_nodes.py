"""A training over a Ray cluster of two nodes, one of which is killed in the middle of a rollout; run by test_ray_rollouts.py.

    python tests/agents/distributed/two_nodes.py CONFIG.json FOLDER ANSWERS

Prints how many workers were lost. ``ANSWERS`` is how many answers the cassette holds when the node is killed.
"""

import json
import sqlite3
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from duologue.agents.distributed import ray_collector as ray_rollouts
from duologue.agents.training import train


def main(config, folder, answers):
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    lost = []

    class Watched(ray_rollouts.RayCollector):
        def collect(self, *args, **kwargs):
            found = super().collect(*args, **kwargs)
            lost.append(self.lost)
            return found

    ray_rollouts.RayCollector = Watched
    cassette = Path(config["inference"]["cassette"]["path"])

    def kill():
        while True:
            with suppress(sqlite3.Error), sqlite3.connect(f"file:{cassette}?mode=ro", uri=True) as store:
                if store.execute("SELECT count(*) FROM answers").fetchone()[0] >= answers:
                    break
            time.sleep(0.05)
        cluster.remove_node(second, allow_graceful=False)

    threading.Thread(target=kill, daemon=True).start()
    summary = train(config, folder)
    sys.stdout.write(json.dumps({"lost": lost, "requests": summary["spent"]["requests"]}) + "\n")
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]), int(sys.argv[3]))
