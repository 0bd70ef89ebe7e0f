"""`rollouts=ray` on a cluster of two nodes, one of which is killed: the policy is the one that one process trains."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from duologue.agents.train import train

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the `ray` extra")


def test_a_training_over_two_nodes_one_of_which_is_killed_ends_as_in_one_process(configured, server, tmp_path):
    size = ["agent.total_timesteps=48", "agent.n_envs=8", "agent.n_steps=3", "env.limit=24", "env.draws=null"]
    local = train(configured("train", *size), tmp_path / "local")
    asked, server.delay_s = len(server.requests), lambda body: 0.4
    own = f"inference.cassette.path={tmp_path / 'ray.sqlite'}"
    config = configured("train", "rollouts=ray", *size, own)
    (tmp_path / "config.json").write_text(json.dumps(config))
    script = [
        sys.executable,
        Path(__file__).with_name("two_nodes.py"),
        tmp_path / "config.json",
        tmp_path / "ray",
        "12",
    ]
    hidden = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(script, cwd=tmp_path, env=os.environ | hidden, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (said,) = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert said["lost"] == [1, 1], said
    of_ray, of_one = ((tmp_path / place / "bundle" / "policy.safetensors").read_bytes() for place in ("ray", "local"))
    assert of_ray == of_one
    summary = json.loads((tmp_path / "ray" / "summary.json").read_text())
    assert summary["reward_last"] == local["reward_last"]
    assert summary["requests"]["paid"] <= len(server.requests) - asked  # what a lost worker counted is lost with it
    assert asked <= len(server.requests) - asked <= asked + 12  # those under way when the node was killed, again
