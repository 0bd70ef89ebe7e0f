"""`duologue COMMAND --help`: usage, an example, and one line for each everyday setting.

The lines are those settings of ``conf/`` that have a comment. Nothing is composed and no room is imported, so that the help
comes at once; ``--cfg job`` shows the whole configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .table import COMMANDS

_CONF = Path(__file__).parents[1] / "conf"
_SETTING = re.compile(r"(?P<indent> *)(?P<name>[\w-]+):(?P<value>(?:[^#\"]|\"[^\"]*\")*)(?:#\s*(?P<words>.*))?")
_CHOICE = re.compile(r"  - (?P<group>[\w@./-]+): (?P<option>[\w-]+)")
_WIDTH = 46
_LONGEST_VALUE = 30

_GROUPS = {
    "inference": "which model is asked, and how",
    "env": "scenarios, and the user who answers the assistant",
    "interface": "what the policy decides",
    "encoder": "how texts become vectors",
    "judging": "the judges of the training and of the evaluation",
    "reward": "how verdicts become a reward",
    "agent": "what learns",
    "evaluation": "how contestants are compared",
    "tracker": "where curves are sent besides the run folder",
    "rollouts": "in which processes dialogues are played",
}
"""What an option of a group decides."""

_UNUSED = {
    "evaluate": ("agent", "interface", "encoder", "reward", "judging"),
    "train": ("evaluation",),
    "pairs": ("agent", "evaluation", "encoder"),
    "bench": ("evaluation",),
}
"""Groups that a command composes and does not read."""


class Setting(NamedTuple):
    """One setting with its default and meaning."""

    name: str
    value: str
    words: str


def command_help(name: str) -> str:
    """Writes the help of a command.

    Args:
        name: A key of `COMMANDS`.

    Returns:
        The text.
    """
    command = COMMANDS[name]
    lines = [f"usage: duologue {name} [name=value …]", "", f"  {command.described()}"]
    chosen = dict(_choices(name))
    own = [setting for setting in _settings(_CONF / f"{name}.yaml") if not setting.name.startswith("hydra")]
    if any(path == "base" for path in chosen):
        chosen = dict(_choices("base"))
        own += [setting for setting in _settings(_CONF / "base.yaml") if name in ("run", "plan", "train")]
    groups = [group for group in chosen if group in _GROUPS and group not in _UNUSED.get(name, ())]
    if own:
        lines += ["", "Settings", *_rows(own)]
    if groups:
        lines += ["", "Parts, each chosen by name=option"]
    for group in groups:
        options = sorted(path.stem for path in (_CONF / group).glob("*.yaml"))
        lines.append(f"  {f'{group}={chosen[group]}':<{_WIDTH}} {_GROUPS[group]}: {', '.join(options)}")
    if "judge" in chosen:
        lines.append(f"  {'judge=' + chosen['judge']:<{_WIDTH}} who judges: `duologue judges` lists all")
    if "judging" in groups:
        lines.append(
            f"  {'+judge@judges.NAME=JUDGE':<{_WIDTH}} one more judge of the training: `duologue judges` lists all"
        )
    if "evaluation" in groups:
        lines.append(f"  {'judge@evaluation.judge=JUDGE':<{_WIDTH}} the judge of the evaluation")
    for group in groups:
        path = _CONF / group / f"{chosen[group]}.yaml"
        settings = _settings(path)
        if not path.exists() or not path.read_text(encoding="utf-8").startswith("# @package _global_"):
            settings = [setting._replace(name=f"{group}.{setting.name}") for setting in settings]
        if settings:
            lines += ["", f"Settings of {group}={chosen[group]}", *_rows(settings)]
    return "\n".join([*lines, "", _END.format(name=name)])


_END = """\
  duologue {name} --cfg job              print the whole configuration, and run nothing
  duologue {name} resume=<run folder>    go on with a run that was ended or killed
  duologue {name} --json                 print the results as one line of JSON
  duologue {name} -m a=1,2 --workers 2   every combination of values, two at a time"""


def _choices(file: str) -> Iterator[tuple[str, str]]:
    """The groups of a file's defaults list with their options, and ``base`` if it builds on that."""
    for line in (_CONF / f"{file}.yaml").read_text(encoding="utf-8").splitlines():
        if line.strip() == "- base":
            yield "base", ""
        elif found := _CHOICE.match(line):
            yield found["group"], found["option"]


def _settings(path: Path) -> list[Setting]:
    """The settings of a file that have a comment, under their full names."""
    found: list[Setting] = []
    above: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        match = _SETTING.fullmatch(line)
        if match is None or line.lstrip().startswith(("#", "-")):
            continue
        indent = len(match["indent"])
        above = [*(entry for entry in above if entry[0] < indent), (indent, match["name"])]
        if match["words"] and match["value"].strip() and above[0][1] not in ("defaults", "hydra", "name"):
            found.append(Setting(".".join(name for _, name in above), match["value"].strip(), match["words"]))
    return found


def _rows(settings: Sequence[Setting]) -> list[str]:
    rows = []
    for name, value, words in settings:
        short = value if len(value) <= _LONGEST_VALUE else "\N{HORIZONTAL ELLIPSIS}"
        rows.append(f"  {name + '=' + short if value else name:<{_WIDTH}} {words}")
    return rows
