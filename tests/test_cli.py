"""The door as users meet it: every test runs `python -m duologue` as a process of its own in an empty folder."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

NO_MODELS = ("encoder=hashing", "~judges.reference", "judge@evaluation.judge=rules")
"""Parts that load no model."""


def command(*arguments: str, python: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *python, "-m", "duologue", *arguments]


def environment() -> dict[str, str]:
    """Ours, without what would change the outcome, and with room enough for a line."""
    hidden = ("OPENAI_API_KEY", "HYDRA_FULL_ERROR", "DUOLOGUE_BLOCK_PLUGINS")
    return {name: value for name, value in os.environ.items() if name not in hidden} | {"COLUMNS": "150"}


def run(folder: Path, *arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, python=python),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


class Fault(NamedTuple):
    """A mistake on the command line, and what the one line about it must say."""

    arguments: tuple[str, ...]
    said: tuple[str, ...]


FAULTS: Mapping[str, Fault] = {
    "unknown command": Fault(("trian",), ("`trian`", "did you mean `train`?")),
    "unknown judge": Fault(("train", "+judge@judges.x=nope"), ("`nope`", "known: `chrf`, `length`, `llm`")),
    "misspelt judge": Fault(("train", "judge@judges.rules=rule"), ("`rule`", "did you mean `rules`?")),
    "misspelt experiment": Fault(("run", "experiment=quickstrat"), ("did you mean `quickstart`?",)),
    "misspelt setting": Fault(
        ("train", "agent.learning_rat=1"), ("`agent.learning_rat`", "did you mean `learning_rate`?")
    ),
    "wrong type of value": Fault(("train", "judges.length.low=few"), ("judges.length.low=few", "'few'", "Integer")),
    "value that is no override": Fault(("train", "a b"), ("`a b`", "name=value")),
    "missing value": Fault(("train", "inference=openai"), ("`inference.assistant.model` is missing",)),
    "malformed address": Fault(
        ("evaluate", "inference.assistant.base_url=api.example", *NO_MODELS),
        ("`base_url` must be like https://host/v1", "'api.example'"),
    ),
    "bad line in a scenario file": Fault(
        ("evaluate", "env.scenarios=bad.jsonl", *NO_MODELS), ("bad.jsonl, line 2: field `user` is missing",)
    ),
    "misspelt contestant": Fault(
        ("evaluate", "evaluation.contestants=[polcy]", *NO_MODELS), ("`polcy`", "did you mean `policy`?")
    ),
    "missing bundle": Fault(
        ("evaluate", "bundle=nowhere", *NO_MODELS), ("nowhere is no bundle", "the folder that `duologue train` wrote")
    ),
    "missing key": Fault(
        ("train", "inference.assistant.base_url=https://api.example.invalid/v1", *NO_MODELS),
        ("no API key for https://api.example.invalid/v1", "export OPENAI_API_KEY=…"),
    ),
    "nobody at the address": Fault(
        (
            "train",
            "inference.assistant.base_url=http://127.0.0.1:9/v1",
            "inference.assistant.max_retries=0",
            *NO_MODELS,
        ),
        ("http://127.0.0.1:9/v1", "cannot be reached", "check `base_url`"),
    ),
}

BAD_LINES = '{"id": "a", "split": "test", "user": "Hello?"}\n{"id": "b", "split": "test"}\n'


class Outcome(NamedTuple):
    """What a command left: its status, its lines on stderr, its stdout, and the names in its folder."""

    status: int
    lines: list[str]
    stdout: str
    left: set[str]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> Mapping[str, Outcome]:
    """All faults, two at a time: nearly all of a command's time goes into its imports."""

    def commit(fault: Fault) -> Outcome:
        folder = tmp_path_factory.mktemp("fault")
        (folder / "bad.jsonl").write_text(BAD_LINES)
        done = run(folder, *fault.arguments)
        left = {path.name for path in folder.iterdir()} - {"bad.jsonl"}
        return Outcome(done.returncode, done.stderr.splitlines(), done.stdout, left)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(FAULTS, pool.map(commit, FAULTS.values()), strict=True))


@pytest.mark.parametrize("name", FAULTS)
def test_a_mistake_is_answered_by_one_line_with_the_cure(outcomes, name):
    outcome = outcomes[name]
    assert len(outcome.lines) == 1, outcome.lines
    assert outcome.lines[0].startswith("duologue: ")
    for phrase in FAULTS[name].said:
        assert phrase in outcome.lines[0]
    assert outcome.status == 2


@pytest.mark.parametrize("name", FAULTS)
def test_a_mistake_leaves_nothing_behind(outcomes, name):
    """A cassette may have been opened; a run folder, or what led to it, may not be left."""
    assert outcomes[name].left <= {".cache"}


def test_a_run_folder_of_before_survives_a_mistake(tmp_path):
    kept = tmp_path / "runs" / "evaluate" / "yesterday" / "summary.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    assert run(tmp_path, "evaluate", "evaluation.repeats=0", *NO_MODELS).returncode == 2
    assert [path.name for path in (tmp_path / "runs" / "evaluate").iterdir()] == ["yesterday"]
    assert kept.read_text() == "{}"


def test_help_version_and_judges_answer_and_end_well(tmp_path):
    helped, bare, version, judges = (run(tmp_path, *words) for words in (["--help"], [], ["--version"], ["judges"]))
    assert [done.returncode for done in (helped, bare, version, judges)] == [0, 0, 0, 0]
    assert [done.stderr for done in (helped, bare, version, judges)] == [""] * 4
    assert helped.stdout == bare.stdout
    for name in ("run", "train", "evaluate", "judges"):
        assert re.search(rf"^  {name} ", helped.stdout, re.MULTILINE)
    assert re.fullmatch(r"duologue \d+\.\d+\.\d+\n", version.stdout)
    for name in ("chrf", "length", "llm", "reference", "rules"):
        assert re.search(rf"^│ {name} ", judges.stdout, re.MULTILINE)
    assert not [*tmp_path.iterdir()]


def test_the_help_needs_no_heavy_import(tmp_path):
    imported = {
        line.rpartition("|")[2].strip()
        for line in run(tmp_path, "--help", python=("-X", "importtime")).stderr.splitlines()
    }
    assert "duologue.cli" in imported
    assert not imported & {"torch", "hydra", "openai", "gymnasium", "numpy", "rich"}


SCENARIOS = "".join(
    json.dumps({"id": f"{split}-{i}", "split": split, "user": f"Question {i} of {split}?", "reference": "An answer."})
    + "\n"
    for split in ("train", "test")
    for i in range(3)
)


def tiny(server, *more: str) -> tuple[str, ...]:
    """Overrides that make a run as small as it can be, on the fake server."""
    return (
        f"inference.assistant.base_url={server.url}",
        "inference.assistant.model=fake",
        "env.scenarios=tiny.jsonl",
        "agent.total_timesteps=8",
        "agent.n_envs=2",
        "agent.n_steps=4",
        "agent.batch_size=4",
        "agent.n_epochs=1",
        *NO_MODELS,
        *more,
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "tiny.jsonl").write_text(SCENARIOS)
    return tmp_path


def test_a_model_without_logprobs_is_named_with_the_cure(server, folder):
    server.logprobs = False
    done = run(folder, "train", *tiny(server))
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert "`fake`" in line
    assert "interface.logprobs=false" in line
    assert not (folder / "runs").exists()


def test_run_trains_evaluates_and_says_in_one_screen_what_came_of_it(server, folder):
    done = run(folder, "run", *tiny(server))
    assert (done.returncode, done.stderr) == (0, "")
    assert "Win rate against plain model, judged by rules" in done.stdout
    assert re.search(r"The trained policy is .+ plain model: it wins .+ of 3 held-out matches", done.stdout)
    latest = folder / "runs" / "run" / "latest"
    assert json.loads((latest / "summary.json").read_text())["status"] == "done"
    assert str(latest.resolve().relative_to(folder)) in done.stdout


def test_an_interrupt_ends_the_run_with_status_130_and_keeps_its_summary(server, folder):
    arrived = threading.Event()

    def refuse(body):
        arrived.set()
        return 500, {"error": {"message": "later"}}

    server.answer = refuse
    process = subprocess.Popen(
        command("train", *tiny(server, "inference.assistant.max_retries=1000000")),
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert arrived.wait(60)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted"
    assert "Traceback" not in said
    summary = json.loads((folder / "runs" / "train" / "latest" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
