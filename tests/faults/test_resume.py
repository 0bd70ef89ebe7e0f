"""Stopped or killed anywhere and resumed, a run ends as an undisturbed one, and nothing is paid for twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from duologue.commands.evaluate import evaluate, train_and_evaluate
from duologue.inference import BudgetSpent, EndpointRefused, TooManyFailures


def read(folder):
    return json.loads((folder / "summary.json").read_text())


def outcome(folder):
    """What must be the same however often the run was disturbed."""
    summary = read(folder)
    figures = [summary[name] for name in ("results", "reward_first", "reward_last", "timesteps", "status")]
    rows = (folder / "progress.csv").read_text().splitlines()
    matches = sorted((folder / "matches.jsonl").read_text().splitlines())
    return figures, len(rows), matches, (folder / "bundle" / "policy.safetensors").read_bytes()


def repeated(server):
    counts = Counter(json.dumps(body, sort_keys=True) for body in server.requests)
    return [body for body, count in counts.items() if count > 1]


@pytest.fixture
def undisturbed(configured, tmp_path, server):
    """The outcome of a run that nobody disturbs; the cassette and the server's list are empty again."""
    folder = tmp_path / "undisturbed"
    train_and_evaluate(configured("run", f"inference.cassette.path={tmp_path / 'other.sqlite'}"), folder)
    server.requests.clear()
    return outcome(folder)


def test_a_budget_that_is_raised_again_and_again_changes_nothing(configured, tmp_path, server, undisturbed):
    """Stops at every third request, in training and in the evaluation; concurrency never exceeds the budget."""
    folder, stops = tmp_path / "runs" / "one", 0
    for budget in range(3, 1000, 3):
        stopped = None
        try:
            train_and_evaluate(configured("run", f"inference.budget.requests={budget}"), folder)
            break
        except BudgetSpent as error:
            stopped = error
        stops += 1
        assert len(server.requests) == read(folder)["spent"]["requests"] == budget
        assert read(folder)["status"] == "stopped"
        assert stopped.resume == f"duologue run resume={folder}"
    assert stops > 5
    assert outcome(folder) == undisturbed
    assert not repeated(server)
    summary = read(folder)
    assert summary["requests"]["paid"] == summary["spent"]["requests"] == len(server.requests)


def test_too_many_failures_stop_the_run_and_it_goes_on_when_the_server_is_well(
    configured, tmp_path, server, undisturbed
):
    folder, answer = tmp_path / "runs" / "one", server.answer
    seen = []
    server.answer = lambda body: (
        seen.append(1) or (answer(body) if len(seen) < 8 else (500, {"error": {"message": "disk full"}}))
    )
    with pytest.raises(TooManyFailures, match="disk full"):
        train_and_evaluate(configured("run"), folder)
    assert read(folder)["status"] == "stopped"
    assert "disk full" in read(folder)["error"]
    server.answer = answer
    train_and_evaluate(configured("run"), folder)
    figures, *rest = outcome(folder)
    assert (figures, *rest) == undisturbed


def test_a_key_that_is_refused_midway_ends_the_run_with_what_it_has(configured, tmp_path, server, undisturbed):
    """A 401 is tried once, not again."""
    folder, answer = tmp_path / "runs" / "one", server.answer
    refused = []

    def lose_the_key(body):
        if len(server.requests) <= 12:
            return answer(body)
        refused.append(body)
        return 401, {"error": {"message": "the key has expired"}}

    server.answer = lose_the_key
    with pytest.raises(EndpointRefused, match="the key has expired"):
        train_and_evaluate(configured("run"), folder)
    assert len({json.dumps(body, sort_keys=True) for body in refused}) == len(refused)
    assert read(folder)["status"] == "failed"
    server.answer = answer
    server.requests.clear()
    train_and_evaluate(configured("run"), folder)
    assert outcome(folder) == undisturbed


def test_an_evaluation_alone_is_resumed_too(configured, tmp_path, server):
    trained = tmp_path / "runs" / "trained"
    train_and_evaluate(configured("run"), trained)
    paid = len(server.requests)
    more = ("evaluation.repeats=5", f"bundle={trained}", f"inference.cassette.path={tmp_path / 'c.sqlite'}")
    whole = tmp_path / "whole"
    evaluate(configured("evaluate", *more, f"inference.cassette.path={tmp_path / 'd.sqlite'}"), whole)
    server.requests = server.requests[:paid]
    folder = tmp_path / "part"
    for budget in (7, 20, 1000):
        try:
            evaluate(configured("evaluate", *more, f"inference.budget.requests={budget}"), folder)
        except BudgetSpent:
            assert len(server.requests) - paid == budget
    assert read(folder)["results"] == read(whole)["results"]


COMMAND = [sys.executable, "-m", "duologue", "run"]


def start(folder, *arguments):
    hidden = ("OPENAI_API_KEY", "HYDRA_FULL_ERROR")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.Popen(
        [*COMMAND, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def overrides(server, tmp_path):
    """The command line of the run that `configured` describes."""
    from tests.conftest import SHRUNK

    where = [f"inference.assistant.base_url={server.url}", f"inference.cassette.path={tmp_path / 'cassette.sqlite'}"]
    return [*SHRUNK, *where]


def test_a_first_sigterm_ends_in_good_order_and_resume_pays_nothing_twice(tmp_path, server, overrides, undisturbed):
    server.delay_s = lambda body: 0.05
    process = start(tmp_path, *overrides)
    while len(server.requests) < 15:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM. Go on with `duologue run resume=runs/run/" in said
    folder = (tmp_path / "runs" / "run" / "latest").resolve()
    summary = read(folder)
    assert summary["status"] == "interrupted"
    assert summary["requests"]["paid"] == len(server.requests)
    server.delay_s = lambda body: 0.0
    process = start(tmp_path, f"resume={folder}")
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert str(folder.relative_to(tmp_path)) in said
    assert outcome(folder) == undisturbed
    assert not repeated(server)
    again = start(tmp_path, f"resume={folder}")
    said, _ = again.communicate(timeout=60)
    assert (again.returncode, said.strip().endswith("is complete: there is nothing to resume")) == (0, True)


def test_a_second_signal_ends_at_once(tmp_path, server, overrides):
    server.delay_s = lambda body: 30.0
    process = start(tmp_path, *overrides)
    while not server.requests:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert "once more to end now" in process.stderr.readline()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - began < 10


def test_killed_and_resumed_in_replay_it_ends_the_same(tmp_path, server, overrides, undisturbed):
    """Once in the middle of the training, once near its end; the whole claim, with 20 kills, is in benchmarks/faults.py."""
    (tmp_path / "other.sqlite").rename(tmp_path / "cassette.sqlite")
    replay = [*overrides, "inference.cassette.mode=replay"]
    process = start(tmp_path, *replay)
    rng, kills = random.Random(0), 0
    folder = None
    while kills < 2:
        while folder is None:
            assert process.poll() is None
            found = list((tmp_path / "runs" / "run").glob("2*/summary.json"))
            folder = found[0].parent if found else None
            time.sleep(0.005)
        time.sleep(rng.random() * 0.3)
        process.kill()
        process.communicate()
        kills += 1
        process = start(tmp_path, f"resume={folder}")
        while read(folder)["status"] != "running" and process.poll() is None:
            time.sleep(0.005)
        time.sleep(3.0)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert outcome(folder) == undisturbed
    assert not server.requests
