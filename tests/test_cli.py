"""The door as users meet it: `python -m duologue` as a process of its own in an empty folder."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from duologue.cli import main
from duologue.commands.table import COMMANDS, WITHOUT_CONFIGURATION, usage
from duologue.envs import GAMES
from duologue.plugins import plugins
from duologue.plugins.publish import publish

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
    "rules without a game": Fault(
        ("train", "inference=rules"), ("takes its value from `env.user.game`", "`inference.")
    ),
    "unknown judge": Fault(
        ("train", "+judge@judges.x=nope"), ("`nope`", "known: `bargain`, `chrf`, `form`, `language`")
    ),
    "misspelt judge": Fault(("train", "judge@judges.rules=rule"), ("`rule`", "did you mean `rules`?")),
    "misspelt experiment": Fault(("run", "experiment=quickstrat"), ("did you mean `quickstart`?",)),
    "misspelt setting": Fault(
        ("train", "agent.learning_rat=1"), ("`agent.learning_rat`", "did you mean `learning_rate`?")
    ),
    "wrong type of value": Fault(("train", "judges.length.low=few"), ("judges.length.low=few", "'few'", "Integer")),
    "value that is no override": Fault(("train", "a b"), ("`a b`", "name=value")),
    "interface of nothing": Fault(
        ("train", "interface=null"), ("`interface` must hold settings by name, not null", "choose one of", "select")
    ),
    "judges in a list": Fault(
        ("train", "judges=[length]"), ("`judges` must hold settings by name, not [length]", "+judge@judges.NAME=JUDGE")
    ),
    "endpoint of nothing": Fault(("run", "inference=null"), ("`inference` must hold settings by name, not null",)),
    "judge without a model": Fault(
        ("compare", "prompts=assistant", "judge=pairwise", "+contestants={a: {policy: random}, b: {policy: random}}"),
        ("`inference.judge` names none",),
    ),
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
    "runs that is a file": Fault(("train", "hydra.run.dir=taken/one", *NO_MODELS), ("taken", "Give another folder")),
    "experiment without its header": Fault(
        ("train", "--config-dir", "conf=1", "experiment=mine"), ("`experiment`", "`# @package _global_`")
    ),
    "configuration that is not UTF-8": Fault(
        ("train", "experiment=latin", "--config-dir", "conf=1"), ("conf=1/experiment/latin.yaml", "not UTF-8")
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


AS_PROCESSES = (
    "unknown command",
    "misspelt judge",
    "missing key",
    "nobody at the address",
    "bad line in a scenario file",
)
"""Faults that are tried as users meet them; the others, for speed, by `main` in this process."""


def one_line_with_the_cure(fault: Fault, stderr: str) -> bool:
    (line,) = stderr.splitlines()
    return line.startswith("duologue: ") and all(phrase in line for phrase in fault.said)


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> Mapping[str, tuple[subprocess.CompletedProcess[str], Path]]:
    """Each as a process in a folder of its own, two at a time: nearly all of their time goes into imports."""

    folders = {name: tmp_path_factory.mktemp("fault") for name in AS_PROCESSES}
    (folders["bad line in a scenario file"] / "bad.jsonl").write_text(BAD_LINES)
    with ThreadPoolExecutor(2) as pool:
        ended = pool.map(lambda name: run(folders[name], *FAULTS[name].arguments), AS_PROCESSES)
        return {name: (done, folders[name]) for name, done in zip(AS_PROCESSES, ended, strict=True)}


@pytest.mark.parametrize("name", AS_PROCESSES)
def test_a_mistake_ends_the_process_with_one_line_and_leaves_nothing_behind(processes, name):
    """A cassette may have been opened; no run folder, nor what led to it, may be left."""
    done, folder = processes[name]
    assert one_line_with_the_cure(FAULTS[name], done.stderr), done.stderr
    assert (done.returncode, done.stdout) == (2, "")
    assert {path.name for path in folder.iterdir()} <= {".cache", "bad.jsonl"}


@pytest.fixture
def refused(tmp_path, monkeypatch, capfd):
    """Gives a command line to `main` in this process and returns what it says on stderr before status 2."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["duologue"])  # the command sets both; they are put back after the test
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def enter(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        return capfd.readouterr().err

    return enter


@pytest.fixture
def files(tmp_path) -> set[str]:
    """What the user has in the folder."""
    (tmp_path / "taken").write_text("a file")
    experiments = tmp_path / "conf=1" / "experiment"
    experiments.mkdir(parents=True)
    (experiments / "mine.yaml").write_text("# mine\n# @package _global_\nseed: 7\n")
    (experiments / "latin.yaml").write_bytes("# @package _global_\nseed: 7  # f\u00fcr\n".encode("latin-1"))
    return {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in AS_PROCESSES])
def test_a_mistake_is_answered_by_one_line_with_the_cure(refused, tmp_path, files, name):
    assert one_line_with_the_cure(FAULTS[name], refused(*FAULTS[name].arguments))
    assert {path.name for path in tmp_path.iterdir()} == files


def test_run_folders_of_before_survive_a_mistake(refused, tmp_path):
    kept = tmp_path / "runs" / "evaluate" / "yesterday" / "summary.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    assert "`repeats` must be a whole number of at least 1, not 0" in refused(
        "evaluate", "evaluation.repeats=0", *NO_MODELS
    )
    assert [path.name for path in (tmp_path / "runs" / "evaluate").iterdir()] == ["yesterday"]
    assert kept.read_text() == "{}"


def test_help_version_and_judges_answer_and_end_well(tmp_path):
    helped, bare, version, judges = (run(tmp_path, *words) for words in (["--help"], [], ["--version"], ["judges"]))
    assert [done.returncode for done in (helped, bare, version, judges)] == [0, 0, 0, 0]
    assert [done.stderr for done in (helped, bare, version, judges)] == [""] * 4
    assert helped.stdout == bare.stdout
    assert helped.stdout == usage() + "\n"
    assert re.fullmatch(r"duologue \d+\.\d+\.\d+\n", version.stdout)
    for name in ("chrf", "length", "llm", "reference", "rules"):
        assert re.search(rf"^│ {name} ", judges.stdout, re.MULTILINE)
    assert not [*tmp_path.iterdir()]


def test_the_help_lists_every_command_with_its_example_under_a_heading():
    text = usage()
    for name, entry in {**COMMANDS, **WITHOUT_CONFIGURATION}.items():
        assert re.search(rf"^{entry.group}\n(  .+\n)*  {name} +{re.escape(entry.summary)}\n +\S", text, re.MULTILINE)
        assert entry.example in text
    for status in ("0 done", "2 a mistake", "3 a budget", "130 and 143"):
        assert status in " ".join(text.split())


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_heeded_in_a_terminal(variables, coloured, tmp_path):
    import pty

    ours, theirs = pty.openpty()
    kept = {name: value for name, value in environment().items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    doctor = command("doctor", "ask=false")
    process = subprocess.Popen(doctor, cwd=tmp_path, env=kept | {"TERM": "xterm"} | variables, stdout=theirs)
    os.close(theirs)
    said = b""
    with suppress(OSError):  # which ends a pseudo-terminal whose other side is closed
        while chunk := os.read(ours, 4096):
            said += chunk
    os.close(ours)
    assert process.wait(60) == 0
    assert (b"\x1b[32m" in said) == coloured


def test_a_reader_that_goes_away_is_no_fault(tmp_path):
    """As `duologue --help | head -1` does, here before the first line."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command("--help"), cwd=tmp_path, env=environment(), stdout=writing, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_flag_may_stand_between_settings(tmp_path):
    done = run(tmp_path, "plan", "seed=7", "--cfg", "job", "env.limit=3", "~judges.reference", "--package", "env")
    assert done.returncode == 0, done.stderr
    assert "limit: 3" in done.stdout


@pytest.mark.parametrize("name", WITHOUT_CONFIGURATION)
def test_every_command_says_what_it_is_for(name, capsys):
    main([name, "--help"])
    assert "duologue" in capsys.readouterr().out


def test_the_tasks_that_a_bench_completes_are_those_that_there_are():
    assert COMMANDS["bench"].words == ("assistant", *GAMES)


def test_the_help_needs_no_heavy_import(tmp_path):
    imported = {
        line.rpartition("|")[2].strip()
        for line in run(tmp_path, "--help", python=("-X", "importtime")).stderr.splitlines()
    }
    assert "duologue.cli" in imported
    assert not imported & {"torch", "hydra", "openai", "gymnasium", "numpy", "rich"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_a_line_for_each_everyday_setting(name, capsys):
    """Each stands under its full name with its default, which is that of the configuration."""
    main([name, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"usage: duologue {name} [name=value …]"
    assert COMMANDS[name].example in "\n".join(lines)
    with initialize_config_module("duologue.conf", version_base="1.3"):
        publish(plugins())
        config = compose(name)
    shown = [line.split() for line in lines if re.match(r"  [a-z_]+(\.[a-z_]+)*=\S", line)]
    settings = [words for words in shown if not words[0].startswith(("judge=", "judge@"))]
    assert settings or name == "doctor"
    for word, *words in settings:
        setting = word.partition("=")[0]
        assert words, f"{setting} has no words"
        if "." in setting:
            assert OmegaConf.select(config, setting.rpartition(".")[0]) is not None, setting


def test_the_help_of_a_command_composes_nothing(tmp_path):
    done = run(tmp_path, "run", "env=bargain", "--help", python=("-X", "importtime"))
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "agent.total_timesteps=6144" in done.stdout
    assert not imported & {"torch", "hydra", "openai", "gymnasium", "numpy", "rich"}


@pytest.fixture(scope="module")
def core_alone(tmp_path_factory) -> Path:
    """A folder that stands before all installed packages and hides those of the extras."""
    folder = tmp_path_factory.mktemp("core")
    for name in ("torch", "stable_baselines3", "starlette", "uvicorn", "wordllama", "transformers"):
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('no such module', name={name!r})\n")
    return folder


@pytest.mark.parametrize("name", ["run", "plan", "train", "bench", "pairs", "evaluate", "serve", "chat"])
def test_without_the_extras_a_command_says_what_to_install(name, core_alone, tmp_path):
    done = subprocess.run(
        command(name, *(() if name in ("serve", "chat") else NO_MODELS)),
        cwd=tmp_path,
        env=environment() | {"PYTHONPATH": str(core_alone)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert re.search(r"duologue: this needs the package `[\w-]+`: run `pip install 'duologue\[(train|serve)\]'`", line)


def test_a_missing_key_is_said_before_anything_heavy_is_imported(tmp_path):
    done = run(tmp_path, *FAULTS["missing key"].arguments, python=("-X", "importtime"))
    assert "no API key for https://api.example.invalid/v1" in done.stderr
    assert not re.search(r"\| +(torch|stable_baselines3|openai)$", done.stderr, re.MULTILINE)


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
    assert len(server.requests) == 1  # the first one goes alone
    assert not (folder / "runs").exists()


def test_run_trains_evaluates_and_says_in_one_screen_what_came_of_it(server, folder):
    done = run(folder, "run", *tiny(server))
    assert done.returncode == 0
    assert [line.split()[:2] for line in done.stderr.splitlines()] == [["training", "8/8"], ["evaluating", "3/3"]]
    assert "Win rate against plain model, judged by rules" in done.stdout
    assert re.search(r"The trained policy is .+ plain model: win rate .+ over 9 held-out matches", done.stdout)
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
    assert re.search(r"stopped by SIGINT. Go on with `duologue train resume=runs/train/\S+`$", said.strip())
    assert "Traceback" not in said
    summary = json.loads((folder / "runs" / "train" / "latest" / "summary.json").read_text())
    assert summary["status"] == "interrupted"


BLOCKING = """
import pathlib, time
def score(turn):
    pathlib.Path("judging").touch()
    while True:
        try:
            time.sleep(1)
        except BaseException:
            pass
"""


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process_whatever_holds_it(server, folder, second):
    """A judge that never returns, and no error that reaches it ends it."""
    (folder / "mine.py").write_text(BLOCKING)
    judge = ("+judge@judges.mine=python", "judges.mine.function=mine:score")
    process = subprocess.Popen(
        command("train", *tiny(server), *judge),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (folder / "judging").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    while "once more to end now" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(second)
    process.communicate(timeout=60)
    assert process.returncode == 128 + second


def test_a_full_disk_ends_the_run_with_the_command_that_goes_on(server, folder):
    limit = 'ulimit -f 40; exec "$@"'  # blocks of 1,024 bytes, for every file
    shell = ["bash", "-c", limit, "bash", *command("train", *tiny(server, "inference.cassette.mode=off"))]
    done = subprocess.run(shell, cwd=folder, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 3, done.stderr
    last = done.stderr.splitlines()[-1]
    assert re.search(r"make room on the disk. Go on with `duologue train resume=runs/train/\S+`$", last), done.stderr
    place = last.rpartition("resume=")[2].rstrip("`")
    done = run(folder, "train", f"resume={place}")
    assert done.returncode == 0, done.stderr


def test_a_run_goes_on_from_another_folder_with_the_users_own_code_and_pays_nothing_twice(server, folder):
    """The judge is a function in the folder where the run began, and fails once there is a file that it looks for."""
    (folder / "mine.py").write_text(
        "import pathlib\nHERE = pathlib.Path(__file__).parent\ndef score(turn):\n"
        "    assert not (HERE / 'broken').exists()\n    return float(len(turn.reply))\n"
    )
    judge = ("+judge@judges.mine=python", "judges.mine.function=mine:score")
    (folder / "broken").touch()
    done = run(folder, "train", *tiny(server, *judge))
    assert done.returncode == 3, done.stderr
    asked = [json.dumps(body, sort_keys=True) for body in server.requests]
    place = (folder / "runs" / "train" / "latest").resolve()
    (folder / "broken").unlink()
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    done = run(elsewhere, "train", f"resume={place}")
    assert done.returncode == 0, done.stderr
    everything = [json.dumps(body, sort_keys=True) for body in server.requests]
    assert len(everything) == len(set(everything)) >= len(asked) > 0
    assert not [*elsewhere.iterdir()]


def test_a_folder_with_a_run_takes_no_other_and_a_run_that_lives_is_not_resumed(server, folder):
    (folder / "mine.py").write_text(
        "import pathlib, time\ndef score(turn):\n    while not pathlib.Path('go').exists():\n        time.sleep(0.05)\n"
        "    return 0.5\n"
    )
    judge = ("+judge@judges.mine=python", "judges.mine.function=mine:score")
    process = subprocess.Popen(
        command("train", *tiny(server, "hydra.run.dir=runs/x", *judge)),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not server.requests:
        assert process.poll() is None
        time.sleep(0.05)
    assert os.readlink(folder / "runs" / "latest") == "x"
    beside = run(folder, "train", "resume=runs/latest")
    assert beside.returncode == 2
    assert f"is in use by process {process.pid} on " in beside.stderr
    (folder / "go").touch()
    assert process.wait(timeout=240) == 0
    other = run(folder, "train", *tiny(server, "hydra.run.dir=runs/x", "seed=2"))
    assert other.returncode == 2
    assert "runs/x holds a run already" in other.stderr
    assert "`duologue train resume=runs/x`" in other.stderr
    assert json.loads((folder / "runs" / "x" / "summary.json").read_text())["seed"] == 0
