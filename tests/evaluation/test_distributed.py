"""Evaluations shared by several processes give the results of one."""

import json
from pathlib import Path

import pytest

from duologue.agents.training import train
from duologue.commands.evaluate import evaluate
from duologue.core.errors import Interrupted
from duologue.evaluation.distributed import MatchWorker
from duologue.inference import ConfigError
from duologue.tests.agents.distributed.test_ray_rollouts import needs_ray, script


@pytest.fixture
def bundle(configured, tmp_path):
    train(configured("train"), tmp_path / "train")
    return str(tmp_path / "train" / "bundle")


def evaluated(config, folder):
    evaluate(config, folder)
    return found(folder)


def found(folder):
    summary = json.loads((folder / "summary.json").read_text())
    lines = [json.loads(line) for line in (folder / "matches.jsonl").read_text().splitlines()]
    return summary["results"], sorted((m["contestant"], m["scenario"], m["repeat"], m["reply"]) for m in lines)


def test_what_two_workers_asked_is_all_that_an_evaluation_needs(configured, bundle, server, tmp_path):
    local = evaluated(configured("evaluate", f"bundle={bundle}"), tmp_path / "local")
    asked = len(server.requests)
    own = f"inference.cassette.path={tmp_path / 'shared.sqlite'}"
    config = configured("evaluate", f"bundle={bundle}", own)
    workers = [MatchWorker(config, bundle, False, 2, str(Path.cwd())) for _ in range(2)]
    shares = [workers[0].play(0, 2), workers[1].play(2, 1)]
    assert [share.error for share in shares] == [None, None]
    paid = len(server.requests) - asked
    assert sum(usage.paid for share in shares for usage in share.usage.asked.values()) == paid
    config["inference"]["cassette"]["mode"] = "replay"
    assert evaluated(config, tmp_path / "replayed") == local
    assert len(server.requests) == asked + paid
    for worker in workers:
        worker.close()


def test_a_worker_that_is_told_to_stop_says_so(configured, bundle, tmp_path):
    own = f"inference.cassette.path={tmp_path / 'other.sqlite'}"
    worker = MatchWorker(configured("evaluate", f"bundle={bundle}", own), bundle, False, 1, str(Path.cwd()))
    worker.stop(Interrupted("a signal", 15))
    assert "a signal" in str(worker.play(0, 1).error)
    worker.close()


@needs_ray
def test_over_ray_the_results_are_those_of_one_process(configured, bundle, tmp_path):
    local = evaluated(configured("evaluate", f"bundle={bundle}"), tmp_path / "local")
    own = f"inference.cassette.path={tmp_path / 'ray.sqlite'}"
    config = configured("evaluate", f"bundle={bundle}", "rollouts=ray", own)
    done = script("on_ray.py", config, tmp_path, "2", "evaluate")
    assert done.returncode == 0, done.stderr
    assert found(tmp_path / "ray") == local


def test_without_a_cassette_it_is_refused(configured, bundle, tmp_path):
    config = configured("evaluate", f"bundle={bundle}", "rollouts=ray", "inference.cassette.mode=off")
    with pytest.raises(ConfigError, match="needs a cassette"):
        evaluate(config, tmp_path / "ray")
