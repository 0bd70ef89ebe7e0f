"""Verdicts of public evaluators as matches: AlpacaEval's annotations, MT-Bench's pairs, Arena-Hard's games."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError
from ...core.files import read_records
from ...envs.scenarios.benchmarks import benchmark_scenarios, question_id
from ...envs.scenarios.scenario import Scenario
from ...inference.completion import Message
from ..matches import result
from ..referee import Match
from .answer_files import Replies, read_answer_folder


@dataclass(frozen=True)
class ImportedMatch:
    """One match from another evaluator's files.

    Attributes:
        scenario: The question's id, by which intervals are clustered.
        repeat: Which of several matches on the question; MT-Bench's second turn is the second.
        judge: Name of the judge.
        contestant: Whose ``match`` it is.
        baseline: The other.
        messages: The dialogue before the contestant's reply.
        baseline_messages: Before the baseline's, where it is another one.
        replies: The contestant's and the baseline's.
        match: The result.
        source: What else the file says, and an export to the same format needs: ``dataset``, ``category``, ``labels``.
    """

    scenario: str
    repeat: int
    judge: str
    contestant: str
    baseline: str
    messages: tuple[Message, ...]
    baseline_messages: tuple[Message, ...] | None
    replies: tuple[str, str]
    match: Match
    source: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """A line of ``matches.jsonl``."""
        parted = self.baseline_messages
        return {
            "scenario": self.scenario,
            "repeat": self.repeat,
            "contestant": self.contestant,
            "baseline": self.baseline,
            "baseline_repeat": self.repeat,
            "judge": self.judge,
            "messages": list(self.messages),
            "baseline_messages": None if parted is None else list(parted),
            "reply": self.replies[0],
            "baseline_reply": self.replies[1],
            "actions": ["imported"],
            "source": dict(self.source),
            **result(self.match),
        }


def alpaca_eval(paths: Sequence[Path]) -> list[ImportedMatch]:
    """Reads ``annotations.json``: ``preference`` is 1 for the first output, the baseline's, 2 for the second, 0 or 1.5 for a draw.

    The order in which the judge saw the two is not in the file, so nothing can be said of its bias.

    Args:
        paths: The files.

    Returns:
        The matches.

    Raises:
        ConfigError: If a file cannot be read, or a record is no annotation.
    """
    found = []
    for where, record in (entry for path in paths for entry in read_records(path, "the annotations")):
        said = [record.get(name) for name in ("instruction", "output_1", "output_2", "generator_1", "generator_2")]
        if not all(isinstance(text, str) for text in said):
            raise ConfigError(
                f"{where} must have the texts `instruction`, `output_1`, `output_2`, `generator_1` and `generator_2`"
            )
        question, baseline_reply, reply, baseline, contestant = (str(text) for text in said)
        preference = record.get("preference")
        match = Match(failure=f"the preference is {preference!r}")
        said_raw = record.get("raw_completion")
        rationale = (
            said_raw if isinstance(said_raw, str) else json.dumps(said_raw, ensure_ascii=False) if said_raw else ""
        )
        if isinstance(preference, int | float) and not isinstance(preference, bool):
            points = 0.5 if preference == 0 else float(preference) - 1
            if 0 <= points <= 1:
                match = Match((points,), rationales=(rationale,))
        source = {name: record[name] for name in ("dataset", "raw_completion") if record.get(name) is not None}
        messages: tuple[Message, ...] = ({"role": "user", "content": question},)
        judge = str(record.get("annotator") or "alpaca_eval")
        found.append(
            ImportedMatch(
                question, 0, judge, contestant, baseline, messages, None, (reply, baseline_reply), match, source
            )
        )
    return found


class Benchmark:
    """Questions and answers that verdicts refer to by id.

    Args:
        questions: The benchmark's ``question.jsonl``.
        answers: The folder with ``<model>.jsonl`` for each model.

    Raises:
        ConfigError: If one cannot be read.
    """

    def __init__(self, questions: Path, answers: Path) -> None:
        self.scenarios = {scenario.id: scenario for scenario in benchmark_scenarios(questions)}
        self.answers = read_answer_folder(answers)

    def match(
        self,
        where: str,
        record: Mapping[str, Any],
        judge: str,
        sides: tuple[str, str],
        match: Match,
        labels: Sequence[object] = (),
    ) -> ImportedMatch:
        """Builds a match between two models on a question, at the turn that the record names.

        Args:
            where: Place of the record, for error messages.
            record: The record with question and turn.
            judge: Name of the judge.
            sides: Names of the two models.
            match: The result.
            labels: The record's own words for the result.

        Returns:
            The match.

        Raises:
            ConfigError: If the question or an answer is missing.
        """
        own = question_id(record)
        scenario = self.scenarios.get(own or "")
        if own is None or scenario is None:
            raise ConfigError(f"{where}: there is no question `{own}` among the {len(self.scenarios)} that were given")
        turn = record.get("turn", 1)
        dialogues = [self._dialogue(where, scenario, model, turn) for model in sides]
        (messages, reply), (others, other) = dialogues
        parted = None if messages == others else others
        source: dict[str, Any] = {"category": scenario.tags[0]} if scenario.tags else {}
        if labels:
            source["labels"] = list(labels)
        return ImportedMatch(own, turn - 1, judge, sides[0], sides[1], messages, parted, (reply, other), match, source)

    def _dialogue(self, where: str, scenario: Scenario, model: str, turn: int) -> tuple[tuple[Message, ...], str]:
        replies: Replies = self.answers.get(model, {}).get(scenario.id, ())
        if not 1 <= turn <= min(len(replies), len(scenario.user)):
            raise ConfigError(f"{where}: there is no answer of `{model}` to turn {turn} of question `{scenario.id}`")
        messages: list[Message] = []
        for said, reply in zip(scenario.user[: turn - 1], replies, strict=False):
            messages += [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]
        return (*messages, {"role": "user", "content": scenario.user[turn - 1]}), replies[turn - 1]


def mt_bench(paths: Sequence[Path], benchmark: Benchmark) -> list[ImportedMatch]:
    """Reads ``<judge>_pair.jsonl``: ``g1_winner`` and ``g2_winner`` of ``model_1``, shown first, and ``model_2``.

    Args:
        paths: The files.
        benchmark: Questions and answers.

    Returns:
        The matches.

    Raises:
        ConfigError: If a file cannot be read, or a record is no judgment of a pair.
    """
    found = []
    for where, record in (entry for path in paths for entry in read_records(path, "the judgments")):
        sides = _names(where, record, ("model_1", "model_2"))
        points = [_POINTS.get(str(record.get(name))) for name in ("g1_winner", "g2_winner")]
        said = tuple(str(record.get(name) or "") for name in ("g1_judgment", "g2_judgment"))
        failure = f"the winners are {record.get('g1_winner')!r} and {record.get('g2_winner')!r}"
        known = tuple(point for point in points if point is not None)
        match = Match(known, rationales=said) if len(known) == 2 else Match(failure=failure)
        judge = record.get("judge")
        name = str(judge[0] if isinstance(judge, list) and judge else judge or "mt_bench")
        found.append(benchmark.match(where, record, name, sides, match))
    return found


_POINTS = {"model_1": 1.0, "tie": 0.5, "model_2": 0.0}


def arena_hard(paths: Sequence[Path], benchmark: Benchmark, baseline: str | None) -> list[ImportedMatch]:
    """Reads ``model_judgment/<judge>/<model>.jsonl``: two games, the baseline shown first in the first one.

    A clear win (``A>>B``), which Arena-Hard counts as three, counts as one here.

    Args:
        paths: The files.
        benchmark: Questions and answers.
        baseline: The baseline's name, for files that do not have it.

    Returns:
        The matches.

    Raises:
        ConfigError: If a file cannot be read, or a record is no judgment.
    """
    found = []
    for where, record in (entry for path in paths for entry in read_records(path, "the judgments")):
        named = record if "baseline" in record else {**record, "baseline": baseline}
        if named["baseline"] is None:
            raise ConfigError(f"{where} does not say who the baseline is: add `baseline=NAME`")
        games = record.get("games")
        if not isinstance(games, list) or len(games) not in (1, 2):
            raise ConfigError(f"{where} must have `games`, a list of two")
        labels = [game.get("score") if isinstance(game, Mapping) else None for game in games]
        points = [_label(label) for label in labels]  # of whoever was shown first
        match = Match(failure=f"the games' scores are {labels}")
        known = [point for point in points if point is not None]
        if len(known) == len(games):
            orders = (*known[1:], 1 - known[0])  # the contestant was shown second in the first game
            match = Match(orders, rationales=tuple(_said(game) for game in reversed(games)))
        sides = _names(where, named, ("model", "baseline"))
        found.append(benchmark.match(where, named, str(record.get("judge") or "arena_hard"), sides, match, labels))
    return found


def _label(label: object) -> float | None:
    """The first assistant's points by Arena-Hard's label."""
    clear = str(label).replace(">>", ">").replace("<<", "<")
    return {"A>B": 1.0, "B<A": 1.0, "A=B": 0.5, "B=A": 0.5, "B>A": 0.0, "A<B": 0.0}.get(clear)


def _said(game: Mapping[str, Any]) -> str:
    judgment = game.get("judgment")
    return str(judgment.get("answer", "") if isinstance(judgment, Mapping) else judgment or "")


def _names(where: str, record: Mapping[str, Any], keys: tuple[str, str]) -> tuple[str, str]:
    names = [record.get(key) for key in keys]
    if not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"{where} must have the texts `{keys[0]}` and `{keys[1]}`")
    return str(names[0]), str(names[1])


def read_verdicts(
    kind: str, paths: Sequence[Path], questions: Path | None, answers: Path | None, baseline: str | None
) -> tuple[list[ImportedMatch], int]:
    """Reads verdicts of a public evaluator.

    A verdict that an earlier file holds word for word is left out: it is one verdict, not two.

    Args:
        kind: Of `KINDS`.
        paths: The files of verdicts.
        questions: Needed by MT-Bench and Arena-Hard.
        answers: Likewise.
        baseline: For Arena-Hard's files that do not name it.

    Returns:
        The matches, and how many were left out.

    Raises:
        ConfigError: If something is missing or cannot be read.
    """
    reader: Callable[[Sequence[Path]], list[ImportedMatch]] = alpaca_eval
    if kind != "alpaca_eval":
        if questions is None or answers is None:
            raise ConfigError(
                f"{kind}'s verdicts name questions and answers by id: add `questions=FILE answers=FOLDER`"
            )
        benchmark = Benchmark(questions, answers)

        def reader(paths: Sequence[Path]) -> list[ImportedMatch]:
            return mt_bench(paths, benchmark) if kind == "mt_bench" else arena_hard(paths, benchmark, baseline)

    found: list[ImportedMatch] = []
    seen: set[str] = set()
    left_out = 0
    for path in paths:
        keyed = [(json.dumps(one.record(), sort_keys=True), one) for one in reader([path])]
        new = [(key, one) for key, one in keyed if key not in seen]
        left_out += len(keyed) - len(new)
        seen.update(key for key, _ in new)
        found += [one for _, one in new]
    return found, left_out


KINDS: Mapping[str, Callable[..., list[ImportedMatch]]] = {
    "alpaca_eval": alpaca_eval,
    "mt_bench": mt_bench,
    "arena_hard": arena_hard,
}
