"""Trackers as users have them: a run at a real MLflow server, a run of W&B offline, and trackers that fail."""

import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from duologue.core.run_files import read_progress
from duologue.inference.budget.usage import Meter
from duologue.plugins import Plugins
from duologue.plugins.trackers.tracking import final_figures
from duologue.run.run_folder import Run
from duologue.tests.conftest import SHRUNK
from duologue.tests.plugins.trackers.mlflow_server import ask, mlflow_server, program


def duologue(folder, *arguments):
    command = [sys.executable, "-m", "duologue", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, env=os.environ)


def test_a_run_its_curves_and_its_bundle_are_in_mlflow_once_though_it_was_resumed(server, tmp_path):
    pytest.importorskip("mlflow")
    if program() is None:
        pytest.skip("needs an MLflow server: DUOLOGUE_MLFLOW=<the program `mlflow` of an environment that has it>")
    with mlflow_server(tmp_path) as uri:
        where = [f"inference.assistant.base_url={server.url}", "hydra.run.dir=here", "inference.budget.requests=30"]
        tracked = ["tracker=mlflow", f"tracker.mlflow.uri={uri}", "tracker.mlflow.experiment=mine"]
        more = ["agent.total_timesteps=32", "env.limit=12", "env.draws=null"]
        stopped = duologue(tmp_path, "train", *SHRUNK, *where, *tracked, *more)
        assert stopped.returncode == 3, stopped.stderr
        (half,) = ask(uri, "runs/search", experiment_ids=["1"])["runs"]
        assert half["info"]["status"] == "KILLED"
        done = duologue(tmp_path, "train", "resume=here", "inference.budget.requests=null")
        assert (done.returncode, "tracker" in done.stderr) == (0, False), done.stderr
        (found,) = ask(uri, "runs/search", experiment_ids=["1"])["runs"]
        assert (found["info"]["run_id"], found["info"]["status"]) == (half["info"]["run_id"], "FINISHED")
        params = {entry["key"]: entry["value"] for entry in found["data"]["params"]}
        assert (params["agent.total_timesteps"], params["judges.length.weight"]) == ("32", "0.3")
        assert not [name for name in params if name.startswith("tracker")]
        summary = json.loads((tmp_path / "here" / "summary.json").read_text())
        metrics = {entry["key"]: entry["value"] for entry in found["data"]["metrics"]}
        assert metrics["summary/reward_last"] == summary["reward_last"]
        for name in ("rollout/ep_rew_mean", "train/loss"):
            history = ask(uri, "metrics/get-history", run_id=found["info"]["run_id"], metric_key=name)["metrics"]
            rows = [row for row in read_progress(tmp_path / "here" / "progress.csv") if name in row]
            assert [(point["step"], point["value"]) for point in history] == [
                (row["time/total_timesteps"], pytest.approx(row[name])) for row in rows
            ]
        listed = ask(uri, "artifacts/list", run_id=found["info"]["run_id"], path="bundle")["files"]
        assert {Path(entry["path"]).name for entry in listed} == {"README.md", "policy.json", "policy.safetensors"}


def wandb_records(path):
    """The records of W&B's file: LevelDB's log format, after seven bytes of its own."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, part = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        part += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(part)
            part = b""


def test_a_run_is_kept_by_wandb_offline(server, tmp_path):
    pytest.importorskip("wandb")
    where = [f"inference.assistant.base_url={server.url}", "hydra.run.dir=here"]
    done = duologue(tmp_path, "train", *SHRUNK, *where, "tracker=wandb", "tracker.wandb.mode=offline")
    assert (done.returncode, "tracker" in done.stderr, "wandb" in done.stderr) == (0, False, False), done.stderr
    (path,) = (tmp_path / "here" / "wandb").glob("offline-run-*/*.wandb")
    records = [*wandb_records(path)]
    (run,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (run.project, run.display_name.endswith("/here")) == ("duologue", True)
    history = [record.history for record in records if record.WhichOneof("record_type") == "history"]
    told = [{item.key or item.nested_key[0]: json.loads(item.value_json) for item in one.item} for one in history]
    rows = read_progress(tmp_path / "here" / "progress.csv")
    assert [row["rollout/ep_rew_mean"] for row in told] == [row["rollout/ep_rew_mean"] for row in rows]
    artefacts = {record.artifact.type for record in records if record.WhichOneof("record_type") == "artifact"}
    assert artefacts == {"model", "results"}


@pytest.fixture
def tracked(tmp_path):
    """Plays a run of nothing with a tracker: `tracked("mlflow", uri=…)`."""

    def play(name, **settings):
        config = {"seed": 0, "tracker": {name: settings}}
        with Run("train", tmp_path / "train" / "one", config, Meter(), Plugins(discover=False)) as run:
            run.keep()
        return json.loads((run.folder / "summary.json").read_text())["status"]

    return play


def test_a_server_that_is_not_there_costs_one_line(tracked, capsys, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert tracked("mlflow", uri="http://127.0.0.1:9") == "done"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tracker mlflow was given up, and the run goes on without it: ")


def test_a_server_that_never_answers_is_not_waited_for(tracked, capsys, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        assert tracked("mlflow", uri=f"http://127.0.0.1:{silent.getsockname()[1]}", wait_s=0.5) == "done"
        assert time.monotonic() - begun < 15
    assert "still busy after 0.5 s, and is left behind" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("mlfow", {}, "there is no tracker `mlfow`: did you mean `mlflow`?"),
        ("mlflow", {"url": "x"}, "`tracker.mlflow.url` is not a setting here: did you mean `uri`?"),
        ("wandb", {}, "needs the package `wandb`: run `pip install 'duologue[trackers]'`"),
    ],
)
def test_what_is_wrong_is_said_and_the_run_goes_on(name, settings, said, tracked, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert tracked(name, **settings) == "done"
    assert said in capsys.readouterr().err


def test_the_results_are_named_by_contestant_and_baseline():
    row = {"contestant": "trained policy", "baseline": "plain model", "win_rate": 0.6, "low": None}
    summary = {"version": 1, "cost_usd": 0.5, "requests": {"paid": 3}, "bundle": "bundle", "results": [row]}
    assert final_figures(summary) == {
        "summary/cost_usd": 0.5,
        "summary/requests.paid": 3.0,
        "evaluation/trained policy/plain model/win_rate": 0.6,
    }
