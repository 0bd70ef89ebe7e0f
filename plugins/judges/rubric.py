"""A judge model that grades several criteria in one call."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import yaml

from ...inference.completion import Completion
from ..judge import Failure, JudgeContext, Score, Turn, TurnJudge, Verdict
from .asking import Asker, Use, dialogue, unread
from .criteria import Rubric, load_rubric
from .reading import NARROW, spoken

PROMPT = """\
Grade the assistant's last reply by each of these criteria, from {low} (worst) to {high} (best):
{criteria}

[Question]
{question}

[Reply]
{reply}

Answer with one JSON object: first "reason", one sentence, then every criterion with its whole number, like
{example}"""

_LINE = r"(?im)^[\s\-*#>`\"'\d.)]*{name}[\s*`\"']*[:=\-]+[\s*`\"']*([0-9]+)(?:\s*(?:/|out\s+of)\s*{high})?[\s*`\"',.]*$"


_LONGEST_LOOSE, _MOST_LOOSE = 4_000, 8
"""Characters and number of objects that are tried although they are no JSON."""


class RubricJudge(TurnJudge):
    """The weighted mean of the criteria's grades, in [0, 1]; ``components`` holds each grade.

    The endpoint is held to a JSON schema where it can be. An answer that lacks a criterion, or grades one off the scale,
    is asked for once more, at a higher temperature; then it is a failure.

    Args:
        context: Context with the client and the endpoint of role ``judge``.
        rubric: Name or path of the rubric.
        structured: ``auto`` uses a JSON schema where the API takes one, ``always`` fails without, ``never`` asks in words.
        max_tokens: Tokens that the judge may use; None for the endpoint's own.
    """

    name = "rubric"
    summary = "several criteria in one call, by a judge model"
    cost = "requests"
    concurrent = True  # a call a turn
    requests_per_turn = 1

    def __init__(
        self, context: JudgeContext, rubric: str = "answer", structured: Use = "auto", max_tokens: int | None = 256
    ) -> None:
        self.rubric = load_rubric(rubric)
        self._asker = Asker(context, max_tokens, structured=structured)
        self._schema = _schema(self.rubric)

    async def judge(self, turn: Turn) -> Verdict:
        """Judges one turn."""
        low, high = self.rubric.scale
        example = json.dumps({"reason": "…", **dict.fromkeys(self.rubric.criteria, "N")}, ensure_ascii=False)
        prompt = PROMPT.format(
            low=low,
            high=high,
            criteria=self.rubric.described(),
            question=dialogue(turn),
            reply=turn.reply,
            example=example.replace('"N"', "N"),
        )
        return await self._asker.ask(prompt, self._read, self._schema, turn.attempt)

    def _read(self, answer: Completion) -> Score | Failure:
        grades = read_grades(answer.text, self.rubric)
        if grades is None:
            low, high = self.rubric.scale
            return unread(answer, f"grade from {low} to {high} for each of {', '.join(self.rubric.criteria)}")
        return Score(weighted_mean(grades, self.rubric), grades, answer.text, answer.cost_usd, answer.latency_s)


def weighted_mean(grades: Mapping[str, float], rubric: Rubric) -> float:
    """The grades' mean by the criteria's weights, moved to [0, 1]."""
    low, high = rubric.scale
    total = sum(criterion.weight for criterion in rubric.criteria.values())
    mean = sum(rubric.criteria[name].weight * grade for name, grade in grades.items()) / total
    return (mean - low) / (high - low)


def read_grades(text: str, rubric: Rubric) -> dict[str, float] | None:
    """Finds a grade for every criterion: in the last JSON object that has all of them, else on a line for each.

    Args:
        text: The judge model's answer.
        rubric: The criteria and their scale.

    Returns:
        The grades by criterion; None unless every one is there once, whole and on the scale.
    """
    said, _ = spoken(text)
    said = said.translate(NARROW)
    names = {name: _plain(name) for name in rubric.criteria}
    for read in (_objects, _loose_objects):
        graded = [found for value in read(said) if (found := _graded(value, set(names.values()))) is not None]
        if graded:
            break
    values = {name: graded[-1][plain] for name, plain in names.items()} if graded else _lines(said, rubric)
    grades = {name: _grade(values.get(name), rubric.scale) for name in rubric.criteria}
    return None if None in grades.values() else {name: float(grade or 0) for name, grade in grades.items()}


def _plain(name: str) -> str:
    """A criterion's name as judges vary it: ``Well put``, ``well-put`` and ``well_put`` are one."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


def _graded(value: Any, names: set[str], depth: int = 3) -> dict[str, Any] | None:
    """The object, or the only one inside it, that has all criteria; by their plain names."""
    if not isinstance(value, dict):
        return None
    plain = [(_plain(key), entry) for key, entry in value.items() if isinstance(key, str)]
    keys = [key for key, _ in plain]
    if names <= set(keys):
        return dict(plain) if all(keys.count(name) == 1 for name in names) else None
    inner = [found for entry in value.values() if depth and (found := _graded(entry, names, depth - 1)) is not None]
    return inner[0] if len(inner) == 1 else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """All JSON objects in a text that are not inside another; a line may break inside their texts."""
    decoder, at = json.JSONDecoder(strict=False, object_pairs_hook=_once), text.find("{")
    while at >= 0:
        try:
            found, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            if isinstance(found, dict):
                yield found
        at = text.find("{", end)


def _loose_objects(text: str) -> Iterator[dict[str, Any]]:
    """Objects that are nearly JSON: with single quotes, a comma too many, keys without quotes. They are valid YAML."""
    for begin, end in _braced(text):
        if end - begin <= _LONGEST_LOOSE and "&" not in text[begin:end]:
            with suppress(yaml.YAMLError, ValueError, RecursionError, TypeError):
                loose = text[begin:end].replace("\t", " ")
                found = yaml.safe_load(loose)
                if isinstance(found, dict) and not _repeats(yaml.compose(loose, Loader=yaml.SafeLoader)):
                    yield found


def _repeats(node: yaml.Node | None) -> bool:
    """Whether an object contains a key twice."""
    if not isinstance(node, yaml.MappingNode):
        return False
    keys = [str(key.value) for key, _ in node.value]
    return len(set(keys)) < len(keys) or any(_repeats(value) for _, value in node.value)


def _braced(text: str) -> list[tuple[int, int]]:
    """The first outermost places in balanced braces."""
    open_at: list[int] = []
    found: list[tuple[int, int]] = []
    for match in re.finditer(r"[{}]", text):
        if match[0] == "{":
            open_at.append(match.start())
        elif open_at:
            begin = open_at.pop()
            while found and found[-1][0] > begin:
                found.pop()
            found.append((begin, match.end()))
    return found[:_MOST_LOOSE]


def _lines(text: str, rubric: Rubric) -> dict[str, Any]:
    found = {}
    for name in rubric.criteria:
        words = re.escape(name).replace("_", r"[\s_]").replace(r"\-", r"[\s-]")
        grades = re.findall(_LINE.format(name=words, high=rubric.scale[1]), text)
        if len(grades) == 1:
            found[name] = int(grades[0])
    return found


def _grade(value: Any, scale: tuple[int, int]) -> int | None:
    """A whole number on the scale, or a text that is one; None for anything else."""
    if isinstance(value, Mapping):  # {"grade": 4, "reason": "…"}
        numbers = [entry for entry in value.values() if isinstance(entry, int | float)]
        value = numbers[0] if len(numbers) == 1 else None
    if isinstance(value, str):
        found = re.fullmatch(rf"\s*([0-9]+)(?:\s*/\s*{scale[1]})?\s*", value)
        value = int(found[1]) if found else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not scale[0] <= value <= scale[1]:
        return None
    return int(value) if value == int(value) else None


def _schema(rubric: Rubric) -> dict[str, Any]:
    low, high = rubric.scale
    grade = {"type": "integer", "enum": list(range(low, high + 1))}
    fields = {"reason": {"type": "string"}, **dict.fromkeys(rubric.criteria, grade)}
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
