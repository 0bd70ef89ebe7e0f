"""Sweeps as users run them: processes beside each other, failed jobs, a search that goes on, the report."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from duologue.evaluation.sweeps.sweep_folder import read_sweep
from duologue.inference import ConfigError
from duologue.multirun import split_command_line
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
    ("words", "flags", "values"),
    [
        ("seed=1 -m b=2", "-m", "seed=1 b=2"),
        ("seed=1 --cfg job", "--cfg job", "seed=1"),
        ("seed=1 hydra.mode=MULTIRUN --workers 2", "", "seed=1 hydra.mode=MULTIRUN hydra.launcher.n_jobs=2"),
        ("-m seed=1,2 --workers 1", "-m", "seed=1,2 hydra.launcher.n_jobs=1"),
        ("--workers=3 -m seed=1,2", "-m", "hydra.launcher.n_jobs=3 seed=1,2"),
        ("seed=1 --config-dir conf=1 b=2", "--config-dir conf=1", "seed=1 b=2"),
        ("-cd a=b -cn c=d --info -m", "-cd a=b -cn c=d --info -m", ""),
        ("--info config seed=1 -p env", "--info config -p env", "seed=1"),
        ("--info seed=1", "--info", "seed=1"),
        (
            "hydra/sweeper=search --config-dir conf -m --workers=2",
            "--config-dir conf -m",
            "hydra/sweeper=search hydra.launcher.n_jobs=2 hydra.sweeper.n_jobs=2",
        ),
    ],
)
def test_a_command_line_is_parted_into_flags_and_values(words, flags, values):
    assert split_command_line(words.split()) == (tuple(flags.split()), tuple(values.split()))


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
        split_command_line(words)


def tried(server, *more):
    """A small training on the fake server, its sweep in the folder `sweep`."""
    where = [f"inference.assistant.base_url={server.url}", "hydra.sweep.dir=sweep"]
    return ["train", *SHRUNK, *where, *more]


def waited_for(condition, process):
    """Waits until a condition holds while a process lives."""
    for _ in range(1200):
        if condition():
            return
        if process.poll() is not None:
            raise AssertionError(f"it ended before: {process.communicate()}")
        time.sleep(0.1)
    process.kill()
    raise AssertionError(f"it did not happen within two minutes: {process.communicate()}")


def status(folder):
    path = folder / "summary.json"
    return json.loads(path.read_text())["status"] if path.exists() else None


def both_asked(server, folder):
    """Whether the first two jobs run and have sent requests."""
    return len(server.requests) >= 2 and all(status(folder / "sweep" / number) == "running" for number in "01")


def owner(folder):
    """The process in a run folder."""
    return int((folder / "run.lock").read_text().split()[1])


def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


PIPES = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_every_job_and_what_was_not_begun_is_named(server, tmp_path, number):
    """SIGINT comes to the whole group, as Ctrl-C sends it."""
    server.delay_s = lambda body: 2.0
    process = started(tmp_path, *tried(server, "-m", "seed=1,2,3,4", "--workers", "2"), start_new_session=True, **PIPES)
    waited_for(lambda: both_asked(server, tmp_path), process)
    jobs = [owner(tmp_path / "sweep" / number) for number in "01"]
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number, said
    assert not any(lives(pid) for pid in jobs)
    assert [status(tmp_path / "sweep" / number) for number in "0123"] == ["interrupted"] * 2 + [None] * 2
    for job in "01":
        assert f"Go on with `duologue train resume=sweep/{job}`" in said
    assert "0 of 4 jobs are done; not begun: 2, 3" in said.splitlines()[-1]
    seeds = {job.name: (job.seed, job.reason) for job in read_sweep(tmp_path / "sweep").failed}
    assert seeds["3"] == ("4", "never begun")
    asked = len(server.requests)
    time.sleep(1)
    assert len(server.requests) == asked


def test_jobs_end_with_the_sweeps_process_even_if_that_is_killed(server, tmp_path):
    server.delay_s = lambda body: 2.0  # so that the first job is not over when the second one begins
    process = started(tmp_path, *tried(server, "-m", "seed=1,2,3", "--workers", "2"), **PIPES)
    waited_for(lambda: both_asked(server, tmp_path), process)
    jobs = [owner(tmp_path / "sweep" / number) for number in "01"]
    process.kill()
    process.communicate(timeout=60)
    for _ in range(600):
        if not any(lives(pid) for pid in jobs):
            break
        time.sleep(0.1)
    assert [status(tmp_path / "sweep" / number) for number in "012"] == ["interrupted", "interrupted", None]


def test_a_job_that_is_killed_is_named_and_the_others_go_on(server, tmp_path):
    slow = threading.Event()
    slow.set()
    server.delay_s = lambda body: 2.0 if slow.is_set() else 0.0
    process = started(tmp_path, *tried(server, "-m", "seed=1,2,3", "--workers", "2"), **PIPES)
    waited_for(lambda: both_asked(server, tmp_path), process)
    os.kill(owner(tmp_path / "sweep" / "1"), signal.SIGKILL)
    slow.clear()
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 3, said
    assert "job 1 failed (sweep/1): killed by SIGKILL" in said
    assert [status(tmp_path / "sweep" / number) for number in "02"] == ["done", "done"]
    assert {job.name: job.reason for job in read_sweep(tmp_path / "sweep").failed} == {"1": "killed by SIGKILL"}


def test_lines_of_jobs_beside_each_other_stay_whole_and_name_their_job(server, tmp_path):
    code, _, said = run(tmp_path, *tried(server, "-m", "seed=1,2", "--workers", "2"))
    assert code == 0, said
    *lines, last = said.splitlines()
    assert sorted(line.partition(" training 16/16")[0] for line in lines) == ["[0]", "[1]"]
    assert last == "2 jobs done: `duologue sweep-report sweep` compares them"


def test_a_multirun_by_hydras_mode_is_one(server, tmp_path):
    code, _, said = run(tmp_path, *tried(server, "hydra.mode=MULTIRUN", "seed=1,2", "agent.learning_rate=-1"))
    assert code == 2
    assert "all 2 jobs failed; job 0: `agent` was refused" in said


def test_a_folder_that_holds_a_sweep_takes_no_other(server, tmp_path):
    first, second = (tried(server, "-m", f"seed={seeds}") for seeds in ("1", "2"))
    assert run(tmp_path, *first)[0] == 0
    before = (tmp_path / "sweep" / "0" / "summary.json").read_text()
    code, _, said = run(tmp_path, *second)
    assert (code, "sweep holds the jobs of a sweep already" in said) == (2, True), said
    assert (tmp_path / "sweep" / "0" / "summary.json").read_text() == before


def test_two_sweeps_never_share_a_folder(server, tmp_path):
    commands = [tried(server, "-m", f"seed={seed}") for seed in (1, 2)]
    processes = [started(tmp_path, *one, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for one in commands]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 2], said
    assert len(read_sweep(tmp_path / "sweep").jobs) == 1


def test_jobs_in_folders_of_their_own_invent_no_others(server, tmp_path):
    nested = "hydra.sweep.subdir=lr-${agent.learning_rate}/seed-${seed}"
    code, _, said = run(tmp_path, *tried(server, "-m", "seed=1,2", "agent.learning_rate=0.01,0.02", nested))
    assert code == 0, said
    sweep = read_sweep(tmp_path / "sweep")
    assert sorted(job.name for job in sweep.jobs) == [f"lr-0.0{rate}/seed-{seed}" for rate in (1, 2) for seed in (1, 2)]
    assert not sweep.failed


def test_a_search_that_goes_on_with_other_choices_is_refused_in_one_line(server, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    where = ["hydra/sweeper=search", "hydra.sweeper.n_trials=1", "hydra.sweep.dir=sweep/${now:%s_%f}"]
    for choices, expected in (("0.5,0.9", 0), ("0.9,0.99", 2)):
        code, _, said = run(tmp_path, *tried(server, "-m", *where, f"agent.gamma={choices}"))
        assert code == expected, said
    assert "Traceback" not in said
    assert "`hydra.sweeper.study_name=…`" in said.splitlines()[-1]


def test_jobs_that_leave_nothing_leave_no_folder(server, tmp_path):
    where = [f"inference.assistant.base_url={server.url}", "hydra.sweep.dir=sweep"]
    code, out, said = run(tmp_path, "plan", "-m", *SHRUNK, *where, "seed=1,2", "--json")
    assert code == 0, said
    assert [type(json.loads(line)) for line in out.splitlines()] == [dict, dict]
    assert not [path for path in (tmp_path / "sweep").iterdir() if path.is_dir()]
