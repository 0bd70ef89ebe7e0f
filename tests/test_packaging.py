"""The wheel holds what the tree holds, and the tree is the package."""

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OUTSIDE = {"tests", "docs", "examples", "benchmarks"}


def tree() -> list[Path]:
    """The project's files: those that git tracks or would track; environments beside them have a hundred thousand others."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in done.stdout.splitlines() if (path := ROOT / name).is_file()]


MODULES = [path for path in tree() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] not in {*OUTSIDE, ".ci"}]


def test_every_package_of_the_tree_is_listed():
    found = {"duologue"}
    for module in MODULES:
        if module.name == "__init__.py":
            found.add(".".join(("duologue", *module.parent.relative_to(ROOT).parts)))
    assert sorted(found) == PROJECT["tool"]["setuptools"]["packages"]


def test_every_folder_with_modules_is_a_package():
    for module in MODULES:
        assert (module.parent / "__init__.py").exists(), module


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-c",
        "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])",
    ]
    pytest.importorskip("setuptools")
    copy = folder / "source"
    for path in tree():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    subprocess.run([*command, str(folder)], cwd=copy, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_all_modules_configs_and_data(wheel):
    inside = set(wheel.namelist())
    for path in [
        *ROOT.glob("conf/**/*.yaml"),
        *ROOT.glob("envs/scenarios/data/*.jsonl"),
        *ROOT.glob("evaluation/report/*.jinja"),
        *ROOT.glob("plugins/**/*.py"),
    ]:
        assert f"duologue/{path.relative_to(ROOT)}" in inside
    assert {"duologue/cli.py", "duologue/py.typed", "duologue/__main__.py"} <= inside


def test_the_wheel_holds_nothing_else(wheel):
    assert not [name for name in wheel.namelist() if name.split("/")[1] in OUTSIDE]


def test_the_wheel_names_licence_extras_and_command(wheel):
    (metadata,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
    text = wheel.read(metadata).decode()
    assert "License-Expression: Apache-2.0" in text
    for extra in PROJECT["project"]["optional-dependencies"]:
        assert f"Provides-Extra: {extra}" in text
    (points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "duologue = duologue.cli:main" in wheel.read(points).decode()


def test_constraints_pin_what_pyproject_asks_for():
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = " ".join([*PROJECT["project"]["dependencies"], *(name for extra in extras for name in extra)])
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            assert line.split("==")[0] in wanted


def test_python_3_14_is_refused_with_the_reason():
    version = "collections.namedtuple('v', 'major minor micro')(3, 14, 0)"
    code = f"import collections, sys; sys.version_info = {version}; exec(open('__init__.py').read())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Hydra 1.3" in done.stderr
    assert "3.14" in done.stderr


HEAVY = (
    *("torch", "transformers", "stable_baselines3", "trl", "peft", "datasets"),
    *("matplotlib", "mlflow", "wandb", "hydra", "scipy.stats", "openai", "aiohttp"),
)
LIGHT_ROOMS = (
    *("duologue.inference", "duologue.plugins", "duologue.plugins.trackers", "duologue.plugins.testing"),
    *("duologue.envs", "duologue.envs.games", "duologue.envs.scenarios", "duologue.envs.interfaces"),
    *(
        "duologue.evaluation",
        "duologue.evaluation.matches",
        "duologue.evaluation.report.report",
        "duologue.commands.plan",
    ),
)


def test_rooms_import_without_heavy_packages():
    code = f"import sys, {', '.join(LIGHT_ROOMS)}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def _without_encoding(call: ast.Call) -> bool:
    """Whether a call opens a text in the machine's own encoding, as far as its name tells."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    given = {keyword.arg for keyword in call.keywords}
    mode = next((a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)), "r")
    opens = (
        name == "open" and set(mode) <= set("rwax+t") and not isinstance(getattr(call.func, "value", None), ast.Name)
    )
    reads, writes = name == "read_text" and not call.args, name == "write_text" and len(call.args) == 1
    process = name in ("Popen", "run", "check_output") and "text" in given
    return "encoding" not in given and (reads or writes or process or (opens and bool(call.args)))


def test_texts_are_utf_8_on_every_machine():
    """Ruff's PLW1514 sees only paths whose type it can tell; this sees the names."""
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in MODULES
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and _without_encoding(call)
    ]
    assert len(MODULES) > 100
    assert found == []
