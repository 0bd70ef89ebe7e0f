"""The workflow does what people do by hand: targets that the Makefile has, and the packages that `.ci/run` installs."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
JOBS = WORKFLOW["jobs"]


def lines(job: str) -> list[str]:
    return [step["run"] for step in JOBS[job]["steps"] if "run" in step]


def test_it_calls_targets_that_the_makefile_has():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = {name for job in JOBS for line in lines(job) for name in re.findall(r"\bmake (\w+)", line)}
    assert called == {"test", "docs"}
    assert called <= targets


def test_it_tries_every_supported_python():
    names = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    supported = [name.rpartition(" ")[2] for name in names if re.search(r":: 3\.\d+$", name)]
    assert JOBS["test"]["strategy"]["matrix"]["python"] == supported


def test_it_installs_what_ci_installs():
    wanted = set(re.findall(r"wanted\+=\(([\w -]+)\)", (ROOT / ".ci" / "run").read_text()))
    packages = {name for names in wanted for name in names.split()} - {"python3-venv"}  # part of the image
    (install,) = [line for line in lines("test") if "apt-get install" in line]
    assert packages == set(install.rpartition("--no-install-recommends ")[2].split())


@pytest.mark.parametrize("job", JOBS)
def test_pip_finds_what_it_fetched_before(job):
    (cache,) = [step["with"] for step in JOBS[job]["steps"] if step.get("uses", "").startswith("actions/cache@")]
    assert cache["path"] == "~/.cache/pip"
    assert "constraints.txt" in cache["key"]
