"""What `duologue init` writes works as it stands."""

import json
import os
import subprocess
import sys

import pytest

from duologue.commands.init import COUNTS, run
from duologue.envs.scenarios.loading import load_scenarios
from duologue.inference import ConfigError


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(["my-project"])
    assert capsys.readouterr().out.startswith("my-project: run `cd my-project`, then `duologue run ")
    return tmp_path / "my-project"


def test_a_new_project_runs_at_once_and_its_judge_judges(project, server):
    smaller = ["agent.total_timesteps=8", "agent.n_envs=2", "agent.n_steps=4", "agent.batch_size=4", "agent.n_epochs=1"]
    without_models = ["encoder=hashing", "~judges.reference", "evaluation.limit=2", "env.limit=4"]
    at = [f"inference.assistant.base_url={server.url}", "inference.assistant.model=fake"]
    command = [sys.executable, "-P", "-m", "duologue", "run", "--json", "--config-dir", "conf", "experiment=mine"]
    done = subprocess.run(
        [*command, *smaller, *without_models, *at],
        cwd=project,
        env={**os.environ, "COLUMNS": "150"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["reward_last"] is not None
    assert (project / summary["folder"] / "report.html").exists()
    header = (project / summary["folder"] / "progress.csv").read_text().splitlines()[0]
    assert "reward/mine" in header


def test_its_scenarios_have_every_split(project):
    for split, count in COUNTS.items():
        assert len(load_scenarios(project / "scenarios.jsonl", split)) == count


def test_nothing_is_overwritten(project):
    with pytest.raises(ConfigError, match="my-project exists already and is not empty"):
        run(["my-project"])
    with pytest.raises(ConfigError, match="takes the project's folder"):
        run([])


def test_a_folder_with_a_space_is_quoted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(["my proj ect"])
    assert "run `cd 'my proj ect'`, then" in capsys.readouterr().out
