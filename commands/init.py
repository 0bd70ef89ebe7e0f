"""`duologue init FOLDER`: writes a project that runs at once: configuration, scenarios, a judge and a README."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import ConfigError
from ..core.files import read_lines, read_object
from ..envs.scenarios.loading import SHIPPED
from ..envs.scenarios.scenario import SPLITS

EXPERIMENT = """\
# @package _global_
# duologue run --config-dir conf experiment=mine

defaults:
  - /judge@judges.mine: python        # the function below; `duologue judges` lists the others
  # - override /inference: openai     # another model than the embedded one; then set its name below

# inference:
#   assistant: {base_url: https://host/v1, model: name, api_key_env: OPENAI_API_KEY}

env:
  scenarios: scenarios.jsonl
  system: Answer in one or two short sentences.

judges:
  mine: {function: "my_judge:score", weight: 0.5}

agent:
  total_timesteps: 1024               # assistant turns to learn from; more for more scenarios
  n_envs: 8
"""

JUDGE = '''\
"""A judge of this project, called with every reply: is it short, and does it end like a sentence?"""

from duologue.plugins import Turn


def score(turn: Turn) -> float | None:
    """A number, the higher the better; None where there is nothing to judge. What it raises is a failure, never a 0.

    `turn` has the dialogue before the reply, the reply, and the scenario's reference, tags and hidden facts.
    """
    ends_well = turn.reply.rstrip().endswith((".", "!", "?"))
    return 0.5 * ends_well + 0.5 * (len(turn.reply.split()) <= 40)
'''

README = """\
# {name}

A policy for a frozen model, with [Duologue](https://pypi.org/project/duologue/). Run everything in this folder.

    duologue doctor                                      # is all there, does the endpoint answer?
    duologue plan --config-dir conf experiment=mine      # what a run asks for and costs at most
    duologue run --config-dir conf experiment=mine       # trains, evaluates, writes runs/run/latest/report.html
    duologue train -m --config-dir conf experiment=mine seed=1,2,3

* `scenarios.jsonl`: the prompts, with their splits `train`, `validation` and `test`. Replace them by yours; {count} stand
  there so that it runs at once, which is too few for a result.
* `my_judge.py`: a judge as a function of a reply. It adds to the judges `reference`, `rules` and `length`, which are on
  by default; the report is judged by another one, `chrf`.
* `conf/experiment/mine.yaml`: the configuration. `duologue run --config-dir conf experiment=mine --cfg job` shows all of it.
* `runs/` gets the results, `.cache/` the answers that were paid for: keep that one, nothing in it is paid for twice.
"""

COUNTS = {"train": 16, "validation": 6, "test": 8}
"""Scenarios of each split that a new project begins with, from the shipped set."""


def run(arguments: Sequence[str]) -> None:
    """Writes a project into a new folder.

    Args:
        arguments: The folder.

    Raises:
        ConfigError: If there is not one argument, or the folder holds something already.
    """
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise ConfigError("`duologue init FOLDER` takes the project's folder, such as `duologue init my-project`")
    folder = Path(arguments[0])
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists already and is not empty: choose another name")
    for path, text in files(folder.resolve().name).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    print(f"{folder}: run `cd {shlex.quote(str(folder))}`, then `duologue run --config-dir conf experiment=mine`")  # noqa: T201


def files(name: str) -> dict[str, str]:
    """The project's files by their paths."""
    assert set(COUNTS) == set(SPLITS)
    lines: list[str] = []
    taken = dict.fromkeys(COUNTS, 0)
    for where, line in read_lines(SHIPPED["assistant"], "the scenarios"):
        split = read_object(line, where)["split"]
        if taken[split] < COUNTS[split]:
            taken[split] += 1
            lines.append(line)
    return {
        "README.md": README.format(name=name, count=len(lines)),
        "conf/experiment/mine.yaml": EXPERIMENT,
        "my_judge.py": JUDGE,
        "scenarios.jsonl": "".join(f"{line}\n" for line in lines),
        ".gitignore": "runs/\n.cache/\n__pycache__/\n",
    }
