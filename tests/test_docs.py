"""The pages say what is true: figures come from result files, commands and links exist."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest

from duologue.cli import COMMANDS, WITHOUT_CONFIGURATION

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
]


def test_the_benchmark_page_is_made_from_the_result_files(tmp_path):
    spec = importlib.util.spec_from_file_location("make_readme", ROOT / "benchmarks" / "make_readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    results = [json.loads(path.read_text()) for path in sorted((ROOT / "benchmarks" / "results").glob("*.json"))]
    expected = "\n".join([module.INTRODUCTION, *map(module.section, results)])
    assert (ROOT / "benchmarks" / "README.md").read_text() == expected


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda path: path.stem)
def test_every_recorded_benchmark_met_its_bars_or_says_why_not(path):
    result = json.loads(path.read_text())
    assert result["ok"] == (not result.get("missed"))
    assert "not explained" not in result.get("missed", {}).values()


def test_the_readmes_headline_is_the_recorded_one():
    figures = json.loads((ROOT / "benchmarks" / "results" / "select_win_rate.json").read_text())["figures"]
    shown = f"{figures['win_rate']:.3f} ({figures['low']:.3f} to {figures['high']:.3f})"
    assert shown in README
    for name in ("best_constant", "random", "oracle"):
        assert f"| {figures[name]:.3f} |" in README


def test_what_the_arithmetic_of_scale_begins_with_is_recorded():
    rows = re.findall(r"\| ([\d.]+) \| (\w+\.json) \| (.+) \|", (ROOT / "docs" / "scale.md").read_text())
    assert len(rows) > 10
    for value, file, figure in rows:
        assert json.loads((ROOT / "benchmarks" / "results" / file).read_text())["figures"][figure] == float(value), (
            figure
        )


def commands_of(text: str) -> set[str]:
    """The commands that a page calls in its blocks or names in its sentences."""
    called = re.findall(r"""(?:^|; |eval "\$\()duologue ([\w-]+)""", text, re.MULTILINE)
    return {*called, *re.findall(r"`duologue ([\w-]+)", text)} - {"--help"}


def test_every_command_is_on_its_page_and_every_command_of_the_readme_exists():
    every = {*COMMANDS, *WITHOUT_CONFIGURATION}
    assert commands_of((ROOT / "docs" / "commands.md").read_text()) == every
    assert commands_of(README) <= every


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith(("http", "reference/")):  # the latter are made; the site's build checks them
            assert (page.parent / target).exists(), target


def test_every_key_of_the_summary_is_documented():
    text = (ROOT / "docs" / "run-folder.md").read_text()
    source = "".join(
        (ROOT / name).read_text()
        for name in ("run/run_folder.py", "agents/training.py", "agents/reporter.py", "evaluation/matches.py")
    )
    for key in (
        "version",
        "status",
        "config_digest",
        "versions",
        "wall_s",
        "timesteps",
        "reward_first",
        "alarms",
        "bundle",
        "win_rate",
    ):
        assert f'"{key}"' in source
        assert f"`{key}`" in text


def test_every_extra_is_in_the_table_of_the_first_page():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = (ROOT / "docs" / "index.md").read_text()
    assert [extra for extra in extras if f"`{extra}`" not in text] == []
