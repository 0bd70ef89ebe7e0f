"""Sweeps as users run them: processes beside each other, failed jobs, a search that goes on, the report."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from duologue.evaluation.sweep_folder import read_sweep
from duologue.inference import ConfigError
from duologue.multirun import told
from duologue.tests.conftest import SHRUNK

ENVIRONMENT = os.environ | {"COLUMNS": "150", "HF_HUB_OFFLINE": "1"}


def started(folder, *arguments, **pipes):
    command = [sys.executable, "-m", "duologue", *arguments]
    return subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, text=True, **pipes)


def run(folder, *arguments):
    process = started(folder, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, error = process.communicate(timeout=120)
    return process.returncode, out, error


def test_a_job_that_fails_sinks_neither_the_sweep_nor_its_report(server, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    swept = ["seed=1,2", "agent.learning_rate=0.01,-1"]
    where = [f"inference.assistant.base_url={server.url}", "hydra.sweep.dir=sweep"]
    status, _, said = run(tmp_path, "train", *SHRUNK, *where, "-m", *swept, "--workers", "2")
    assert status == 3, said
    assert "2 of 4 jobs failed: `duologue sweep-report sweep` names them" in said
    assert "job 1 failed (sweep/1): `agent` was refused: Invalid learning rate: -1" in said
    status, out, said = run(tmp_path, "sweep-report", "sweep", "--json")
    assert status == 0, said
    found = json.loads(out)
    reason = "`agent` was refused: Invalid learning rate: -1.0"
    assert {job["job"]: job["reason"] for job in found["failed"]} == {"1": reason, "3": reason}
    (line,) = found["leaderboard"]
    assert (found["metric"], line["seeds"], line["settings"]) == ("reward", 2, {"agent.learning_rate": "0.01"})
    done = [json.loads((tmp_path / "sweep" / number / "summary.json").read_text()) for number in "02"]
    assert sorted(job["value"] for job in line["jobs"]) == sorted(one["reward_last"] for one in done)
    assert (tmp_path / found["best"]["bundle"] / "policy.json").exists()
    assert {path.name for path in (tmp_path / "sweep").glob("sweep.*")} >= {"sweep.json", "sweep.md"}


def test_a_search_makes_the_validation_win_rate_large_and_goes_on_where_it_ended(server, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    where = [f"inference.assistant.base_url={server.url}", "hydra/sweeper=search", "hydra.sweep.dir=sweep/${now:%s_%f}"]
    validation = ["validation.every=16", "validation.limit=2", "judge@validation.judge=length"]
    fixed = ["train", "-m", *SHRUNK, *where, *validation]
    status, _, said = run(
        tmp_path, *fixed, "agent.learning_rate=tag(log,interval(0.001,0.1))", "hydra.sweeper.n_trials=2"
    )
    assert status == 0, said
    status, _, said = run(tmp_path, *fixed, "agent.learning_rate=-1", "hydra.sweeper.n_trials=1")
    assert (status, "all 1 jobs failed; job 0: `agent` was refused" in said) == (2, True), said
    with sqlite3.connect(tmp_path / "studies.sqlite") as study:
        assert study.execute("SELECT direction FROM study_directions").fetchall() == [("MAXIMIZE",)]
        rows = study.execute("SELECT state, value FROM trials LEFT JOIN trial_values USING (trial_id)").fetchall()
    jobs = read_sweep(tmp_path / "sweep").jobs
    assert [state for state, _ in rows] == ["COMPLETE", "COMPLETE", "FAIL"]
    assert [value for _, value in rows] == [job.value for job in jobs]
    assert len({job.settings for job in jobs}) == 3


def test_the_first_signal_ends_the_sweep_and_not_only_its_job(server, tmp_path):
    server.delay_s = lambda body: 0.5
    where = [f"inference.assistant.base_url={server.url}", "hydra.sweep.dir=sweep"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = started(tmp_path, "train", "-m", *SHRUNK, *where, "seed=1,2", **pipes)
    for _ in range(600):
        if server.requests:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 143, said
    assert "Go on with `duologue train resume=sweep/0`" in said
    assert not (tmp_path / "sweep" / "1").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["seed=1", "-m", "b=2"], ["-m", "seed=1", "b=2"]),
        (["-m", "seed=1,2", "--workers", "1"], ["-m", "seed=1,2"]),
        (["--workers=3", "-m", "seed=1,2"], ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=3", "seed=1,2"]),
        (
            ["hydra/sweeper=search", "--config-dir", "conf", "-m", "--workers=2"],
            [
                *("--config-dir", "conf", "-m", "hydra/sweeper=search"),
                *("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_jobs=2"),
            ],
        ),
    ],
)
def test_workers_become_a_launcher(words, expected):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    assert told(words)[:-1] == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "seed=1,2", "--workers"], "at least 1, not ``"),
        (["-m", "seed=1,2", "--workers", "0"], "at least 1, not `0`"),
        (["seed=1", "--workers", "2"], "add `-m`"),
        (["-m", "hydra/launcher=ray", "--workers", "2"], "with `hydra/launcher=ray` set that launcher's own options"),
    ],
)
def test_mistakes_with_workers_are_named(words, said):
    with pytest.raises(ConfigError, match=said):
        told(words)


def test_one_run_is_told_what_was_typed_with_its_flags_first():
    assert told(["seed=1", "--cfg", "job"]) == ["--cfg", "job", "seed=1"]
