"""`duologue new-judge NAME`: an installable package with one judge and its test, ready to be changed."""

from __future__ import annotations

import keyword
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import ConfigError
from ..plugins.manager import plugins

PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "duologue-{dashed}"
version = "0.1.0"
description = "A judge for Duologue"
requires-python = ">=3.11"
dependencies = ["duologue"]

[project.entry-points.duologue]
{name} = "duologue_{name}"

[tool.setuptools]
py-modules = ["duologue_{name}"]
"""

MODULE = """\
\"\"\"A judge for Duologue: does a reply use one of these words?\"\"\"

import re

from duologue.plugins import JudgeRegistrar, Score, Turn, TurnJudge, hookimpl


class {camel}(TurnJudge):
    \"\"\"1 for a reply with one of the words, else 0.

    Args:
        words: The words, separated by commas. Every parameter is a setting, and needs a default.
    \"\"\"

    name = "{name}"
    summary = "one of these words in the reply"

    def __init__(self, words: str = "please, thank, thanks") -> None:
        self._words = {{word.strip().lower() for word in words.split(",")}}

    def judge(self, turn: Turn) -> Score:
        \"\"\"Returns the verdict: also `Abstain` where there is nothing to judge, `Failure` where it went wrong.\"\"\"
        return Score(float(not self._words.isdisjoint(re.findall(r"\\w+", turn.reply.lower()))))


@hookimpl
def duologue_register_judges(register: JudgeRegistrar) -> None:
    \"\"\"Registers the judge.\"\"\"
    register.judge({camel})
"""

TEST = """\
\"\"\"The judge keeps its side of the bargain, and says what it should.\"\"\"

from duologue.plugins.testing import check_judge, turn


def test_it_keeps_the_contract() -> None:
    check_judge("{name}")


def test_it_finds_the_words() -> None:
    kind, rude = check_judge("{name}", turns=[turn("Thank you!"), turn("Go away.")])
    assert (kind.value, rude.value) == (1.0, 0.0)


def test_the_words_can_be_set() -> None:
    assert check_judge("{name}", turns=[turn("Go away.")], words="go")[0].value == 1.0
"""

README = """\
# duologue-{dashed}

A judge for [Duologue](https://pypi.org/project/duologue/).

    pip install -e .
    duologue judges                        # lists it
    python -m pytest                       # proves it
    duologue train +judge@judges.{name}={name} judges.{name}.weight=0.5
"""


def run(arguments: Sequence[str]) -> None:
    """Writes the package into a new folder here.

    Args:
        arguments: The judge's name.

    Raises:
        ConfigError: If it is no name, or taken, or the folder exists.
    """
    if len(arguments) != 1:
        raise ConfigError("`duologue new-judge NAME` takes the judge's name, such as `duologue new-judge politeness`")
    name = arguments[0]
    if not name.isascii() or not name.isidentifier() or name != name.lower() or keyword.iskeyword(name):
        raise ConfigError(f"`{name}` is no name for a judge: use small letters, digits and _, and begin with a letter")
    if name in plugins().judges:
        raise ConfigError(f"there is a judge `{name}` already, from {plugins().judges[name].distribution}")
    folder = Path(f"duologue-{name.replace('_', '-')}")
    if folder.exists():
        raise ConfigError(f"{folder} exists already: choose another name, or remove it")
    for path, text in files(name).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    print(f"{folder}: run `pip install -e {folder}`, then `python -m pytest {folder}`")  # noqa: T201


def files(name: str) -> dict[str, str]:
    """The package's files by their paths."""
    camel = "".join(part.title() for part in name.split("_"))
    names = {"name": name, "dashed": name.replace("_", "-").strip("-"), "camel": camel}
    texts = {
        "pyproject.toml": PYPROJECT,
        "README.md": README,
        f"duologue_{name}.py": MODULE,
        f"test_{name}.py": TEST,
    }
    return {path: text.format(**names) for path, text in texts.items()}
