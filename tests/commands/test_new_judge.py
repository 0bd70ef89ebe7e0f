"""A judge's package is written, built, installed by a stranger and used, in a sweep too."""

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from duologue.commands import new_judge
from duologue.inference import ConfigError

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "judge_plugin"
BIN = Path(sysconfig.get_path("scripts"))


def test_the_example_is_what_the_command_writes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new_judge.run(["politeness"])
    written = {path.name: path.read_text() for path in (tmp_path / "duologue-politeness").iterdir()}
    assert written == {path.name: path.read_text() for path in EXAMPLE.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "takes the judge's name"),
        (["a", "b"], "takes the judge's name"),
        (["Politeness"], "`Politeness` is no name"),
        (["is"], "`is` is no name"),
        (["two words"], "`two words` is no name"),
        (["length"], "there is a judge `length` already, from duologue"),
        (["there"], "duologue-there exists already"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "duologue-there").mkdir()
    with pytest.raises(ConfigError, match=said):
        new_judge.run(arguments)
    assert [path.name for path in tmp_path.rglob("*")] == ["duologue-there"]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """The environment of a process in which the example is installed from its wheel."""
    folder = tmp_path_factory.mktemp("stranger")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--no-index"]
    source = folder / "source"
    source.mkdir()
    for path in EXAMPLE.iterdir():
        if path.is_file():
            (source / path.name).write_bytes(path.read_bytes())
    subprocess.run([*pip, "wheel", *options, "--wheel-dir", folder, source], check=True, capture_output=True)
    wheel = next(folder.glob("*.whl"))
    subprocess.run([*pip, "install", *options, "--target", folder / "site", wheel], check=True, capture_output=True)
    return os.environ | {"PYTHONPATH": str(folder / "site"), "HF_HUB_OFFLINE": "1", "RAY_AUTH_MODE": "disabled"}


def test_its_own_test_passes_and_it_is_listed(stranger, tmp_path):
    test = tmp_path / "test_politeness.py"
    test.write_text((EXAMPLE / "test_politeness.py").read_text())
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, env=stranger, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    listed = subprocess.run([BIN / "duologue", "judges", "--json"], env=stranger, capture_output=True, text=True).stdout
    assert '"distribution": "duologue-politeness 0.1.0"' in listed


RAY = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None, reason="hydra-ray-launcher is not installed"
)
LAUNCHERS = [
    pytest.param(["--workers", "2"], id="processes"),
    pytest.param(["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"], id="ray", marks=RAY),
]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_it_is_the_reward_of_a_sweep(stranger, server, tmp_path, launcher):
    """Two jobs, each in a process of its own; a misspelt setting is named before anything is asked."""
    options = [
        "+judge@judges.politeness=politeness",
        f"inference.assistant.base_url={server.url}",
        "inference.assistant.model=m",
        "inference.assistant.api_key_env=null",
        "encoder=hashing",
        "~judges.reference",
        "agent.total_timesteps=32",
        "agent.n_envs=4",
        "agent.n_steps=8",
    ]

    def train(*more):
        command = [BIN / "duologue", "train", *more[:1], *options, *more[1:]]
        return subprocess.run(command, env=stranger, cwd=tmp_path, capture_output=True, text=True)

    done = train("-m", *launcher, "judges.politeness.words=please,word")
    assert done.returncode == 0, done.stderr
    tables = list((tmp_path / "runs").rglob("progress.csv"))
    assert len(tables) == 2
    assert all("reward/politeness" in table.read_text() for table in tables)
    server.requests.clear()
    wrong = train("judges.politeness.word=please")
    assert wrong.returncode == 2
    assert "judges.politeness.word" in wrong.stderr
    assert "did you mean `words`?" in wrong.stderr
    assert not server.requests
