"""Rubrics: criteria for judge models, read from YAML files of this form.

    scale: [1, 5]
    criteria:
      clear: It can be understood at the first reading.
      correct:
        text: Everything that the reply states is true.
        weight: 2
        levels: {1: the main statement is wrong, 5: nothing is wrong}

Without ``scale`` it is 1 to 5; a criterion that is a text alone has the weight 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ...core.errors import ConfigError, near_miss
from ...core.settings import construct

HIGHEST = 100


@dataclass(frozen=True)
class Criterion:
    """One thing to look at.

    Attributes:
        text: The criterion's question.
        weight: Weight in the mean over all criteria; above 0.
        levels: Meaning of some grades.
    """

    text: str
    weight: float = 1.0
    levels: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("`text` is empty")
        if not self.weight > 0:
            raise ValueError(f"`weight` must be above 0, not {self.weight}")


@dataclass(frozen=True)
class Rubric:
    """Criteria by name and the scale on which each is graded.

    Attributes:
        scale: The worst and the best grade.
        criteria: By name.
    """

    scale: tuple[int, int]
    criteria: Mapping[str, Criterion]

    def described(self) -> str:
        """The criteria for a prompt, one per line, with the meaning of the grades."""
        lines = []
        for name, criterion in self.criteria.items():
            lines.append(f"- {name}: {' '.join(criterion.text.split())}")
            lines += [f"  {grade} means: {' '.join(text.split())}" for grade, text in sorted(criterion.levels.items())]
        return "\n".join(lines)


def check_scale(scale: Sequence[Any]) -> tuple[int, int]:
    """Checks a scale of whole numbers.

    Args:
        scale: Lowest and highest grade.

    Returns:
        Both as integers.

    Raises:
        ValueError: If it is none.
    """
    match list(scale):
        case [int(low), int(high)] if 0 <= low < high <= HIGHEST:
            return low, high
    raise ValueError(
        f"`scale` must be two whole numbers from 0 to {HIGHEST}, the worst grade first, not {list(scale)!r}"
    )


def load_rubric(source: str) -> Rubric:
    """Reads a rubric.

    Args:
        source: The name of one that ships, or the path of a YAML file.

    Returns:
        The rubric.

    Raises:
        ConfigError: If there is none, or it is not as the module's docstring shows.
    """
    shipped = {
        entry.name.removesuffix(".yaml"): entry for entry in (resources.files(__package__) / "rubrics").iterdir()
    }
    if source not in shipped and not source.endswith((".yaml", ".yml")):
        raise ConfigError(f"there is no rubric `{source}`: {near_miss(source, shipped)} or the path of a .yaml file")
    try:
        text = (shipped.get(source) or Path(source).expanduser()).read_text(encoding="utf-8-sig")
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the rubric {source} cannot be read: {' '.join(str(error).split())}") from error
    return construct(_rubric, content, source, source=source)


def instruction(rubric: Rubric | None, prompt: str, general: str) -> str:
    """Chooses the text for the placeholder ``{rubric}`` of a prompt.

    Args:
        rubric: The rubric, if there is one.
        prompt: A prompt of the user's own, which says itself what is to be done with the criteria; or empty.
        general: Text of a built-in prompt without a rubric.

    Returns:
        The text.
    """
    described = rubric.described() if rubric else ""
    if prompt:
        return described
    return f"Weigh these criteria:\n{described}" if rubric else general


def _rubric(source: str, criteria: Mapping[str, Any], scale: Sequence[Any] = (1, 5)) -> Rubric:
    low, high = check_scale(scale)
    if not criteria:
        raise ValueError("`criteria` is empty")
    made = {}
    for name, value in criteria.items():
        if not str(name).replace("-", "_").isidentifier():
            raise ValueError(f"`{name}` is no name for a criterion: use letters, digits and _")
        made[str(name)] = construct(
            Criterion, {"text": value} if isinstance(value, str) else value, f"{source}: criteria.{name}"
        )
        if off := [grade for grade in made[str(name)].levels if not isinstance(grade, int) or not low <= grade <= high]:
            raise ValueError(f"`criteria.{name}.levels` names the grade {off[0]}, and the scale is {low} to {high}")
    return Rubric((low, high), made)
