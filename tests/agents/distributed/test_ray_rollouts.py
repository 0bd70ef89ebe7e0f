"""`rollouts=ray` on clusters of this machine: the policy is the one that one process trains, and nothing waits for ever.

Ray is looked for in the interpreter that `DUOLOGUE_RAY_PYTHON` names, or else in the tests' own.
"""

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from duologue.agents.training import train
from duologue.commands.evaluate import train_and_evaluate
from duologue.inference import ConfigError

PYTHON = os.environ.get("DUOLOGUE_RAY_PYTHON") or (sys.executable if importlib.util.find_spec("ray") else None)
needs_ray = pytest.mark.skipif(PYTHON is None, reason="needs Ray: `DUOLOGUE_RAY_PYTHON`, or the `ray` extra")


def script(name, config, folder, *arguments):
    """Runs a script of this folder under the interpreter that has Ray, with a configuration, in a folder of its own."""
    (folder / "config.json").write_text(json.dumps(config))
    command = [PYTHON, Path(__file__).with_name(name), folder / "config.json", folder / "ray", *arguments]
    own = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.run(command, cwd=folder, env=os.environ | own, capture_output=True, text=True, timeout=300)


@needs_ray
def test_a_training_over_two_nodes_one_of_which_is_killed_ends_as_in_one_process(configured, server, tmp_path):
    size = ["agent.total_timesteps=48", "agent.n_envs=8", "agent.n_steps=3", "env.limit=24", "env.draws=null"]
    local = train(configured("train", *size), tmp_path / "local")
    asked, server.delay_s = len(server.requests), lambda body: 0.4
    own = f"inference.cassette.path={tmp_path / 'ray.sqlite'}"
    config = configured("train", "rollouts=ray", *size, own)
    done = script("two_nodes.py", config, tmp_path, "12")
    assert done.returncode == 0, done.stderr
    (said,) = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert said["lost"] == [1, 1], said
    of_ray, of_one = ((tmp_path / place / "bundle" / "policy.safetensors").read_bytes() for place in ("ray", "local"))
    assert of_ray == of_one
    summary = json.loads((tmp_path / "ray" / "summary.json").read_text())
    assert summary["reward_last"] == local["reward_last"]
    assert summary["requests"]["paid"] <= len(server.requests) - asked  # what a lost worker counted is lost with it
    assert asked <= len(server.requests) - asked <= asked + 12  # those under way when the node was killed, again


@needs_ray
def test_a_run_needs_no_more_cores_than_its_workers(configured, tmp_path):
    done = script("on_ray.py", configured("run", "rollouts=ray", "env.draws=null"), tmp_path, "2", "run")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "ray" / "summary.json").read_text())["results"]


@needs_ray
def test_more_workers_than_the_cluster_can_hold_are_refused_with_the_figures(configured, server, tmp_path):
    config = configured("train", "rollouts=ray", "rollouts.workers=3")
    done = script("on_ray.py", config, tmp_path, "2", "train")
    assert done.returncode == 1
    assert "`rollouts.workers=3` with `rollouts.cpus=1` does not fit this Ray cluster" in done.stderr
    assert "machines have 2 cores, enough for 2 workers. Set `rollouts.workers=2`" in done.stderr


@needs_ray
def test_when_one_worker_fails_the_answers_under_way_at_the_others_are_kept(configured, server, tmp_path):
    config = configured("train", "rollouts=ray", "env.draws=null", "agent.n_envs=8", "env.limit=8")
    answered = []

    def answer(body):
        if len(server.requests) == 2:  # the first is the one with which the API is tried
            return 401, {"error": {"message": "no such key"}}
        answered.append(body)
        return "An answer."

    server.answer = answer
    server.delay_s = lambda body: 0.0 if len(server.requests) == 2 else 2.0
    done = script("on_ray.py", config, tmp_path, "2", "train")
    assert done.returncode == 1
    assert "no such key" in done.stderr
    with sqlite3.connect(config["inference"]["cassette"]["path"]) as store:
        assert store.execute("SELECT count(*) FROM answers").fetchone()[0] == len(answered) > 8


def test_an_evaluation_that_cannot_be_shared_is_refused_before_the_training(configured, server, tmp_path):
    with pytest.raises(ConfigError, match=r"needs a cassette: set `inference\.cassette\.mode=record`"):
        train_and_evaluate(configured("run", "rollouts=ray", "inference.cassette.mode=off"), tmp_path / "run")
    assert server.requests == []
