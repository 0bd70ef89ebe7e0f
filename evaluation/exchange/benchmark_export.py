"""The matches of a run in the files of public evaluators: AlpacaEval, MT-Bench, Arena-Hard."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError
from ...core.files import write_lines
from ..report.leaderboard import Record, score


def alpaca_eval(records: Sequence[Record], folder: Path) -> None:
    """Writes ``<contestant>/model_outputs.json`` of all, and ``<contestant>/annotations.json`` of those who met a baseline.

    ``preference`` is 1 plus the mean score over both orders, null where a match has no result.

    Args:
        records: Lines of ``matches.jsonl``.
        folder: The folder to write.

    Raises:
        ConfigError: If a dialogue has several turns, or there are several baselines.
    """
    if len({record["baseline"] for record in records}) > 1:
        raise ConfigError("AlpacaEval knows one baseline, and this run has several: compare against one")
    outputs: dict[str, dict[str, Any]] = {}
    annotations: dict[str, list[dict[str, Any]]] = {}
    for record in _answered(records):
        question = _only_question(record, "AlpacaEval")
        sides = [(record["baseline"], record["baseline_reply"]), (record["contestant"], record["reply"])]
        for name, reply in sides:
            entry = {"instruction": question, "output": reply, "generator": name, "dataset": _dataset(record)}
            outputs.setdefault(name, {})[record["scenario"]] = entry
        numbered = {
            f"{field}_{number}": value
            for number, side in enumerate(sides, 1)
            for field, value in zip(("generator", "output"), side, strict=True)
        }
        preference = None if record["failure"] else 1 + score(record)
        said = {"annotator": record["judge"], "preference": preference, "raw_completion": _raw(record)}
        annotations.setdefault(record["contestant"], []).append(
            {"instruction": question, "dataset": _dataset(record), **numbered, **said}
        )
    for name, entries in outputs.items():
        _write_json(folder / _file(name) / "model_outputs.json", list(entries.values()))
    for name, verdicts in annotations.items():
        _write_json(folder / _file(name) / "annotations.json", verdicts)


def mt_bench(records: Sequence[Record], folder: Path) -> None:
    """Writes ``question.jsonl``, ``model_answer/<model>.jsonl`` and ``model_judgment/<judge>_pair.jsonl``."""
    _questions_and_answers(records, folder, _mt_answer, lambda user: {"turns": user})
    lines: dict[str, list[dict[str, Any]]] = {}
    for record in _answered(records):
        winners = [_winner(points) for points in record["orders"]] or ["error", "error"]
        said = [*(record.get("rationales") or []), "", ""]
        line = {
            "question_id": record["scenario"],
            "model_1": record["contestant"],
            "model_2": record["baseline"],
            "g1_winner": winners[0],
            "g2_winner": winners[-1],
            "judge": [record["judge"], "duologue"],
            "g1_judgment": said[0],
            "g2_judgment": said[1],
            "turn": len(_user_turns(record)),
        }
        lines.setdefault(record["judge"], []).append(line)
    for judge, judgments in lines.items():
        write_lines(folder / "model_judgment" / f"{_file(judge)}_pair.jsonl", judgments)


def arena_hard(records: Sequence[Record], folder: Path) -> None:
    """Writes the files of Arena-Hard version 2.

    These are ``question.jsonl``, ``model_answer/<model>.jsonl`` and ``model_judgment/<judge>/<model>.jsonl``.

    Args:
        records: Lines of ``matches.jsonl``.
        folder: The folder to write.

    Raises:
        ConfigError: If a dialogue has several turns.
    """
    for record in records:
        if not record["failure"]:
            _only_question(record, "Arena-Hard")
    _questions_and_answers(records, folder, _arena_answer, lambda user: {"prompt": user[0]})
    lines: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in _answered(records):
        orders, said = record["orders"], [*(record.get("rationales") or []), "", ""]
        labels = [_label(1 - orders[-1]), _label(orders[0])] if orders else [None, None]  # the baseline is shown first
        labels = (record.get("source") or {}).get("labels", labels)  # with A>>B, which points do not have
        games = [
            {"score": label, "judgment": {"answer": text}}
            for label, text in zip(labels, (said[1], said[0]), strict=False)  # a file may have one game only
        ]
        line = {
            "uid": record["scenario"],
            "category": _dataset(record),
            "judge": record["judge"],
            "model": record["contestant"],
            "baseline": record["baseline"],
            "games": games,
        }
        lines.setdefault((record["judge"], record["contestant"]), []).append(line)
    for (judge, model), judgments in lines.items():
        write_lines(folder / "model_judgment" / _file(judge) / f"{_file(model)}.jsonl", judgments)


EXPORTS: Mapping[str, Callable[[Sequence[Record], Path], None]] = {
    "alpaca_eval": alpaca_eval,
    "mt_bench": mt_bench,
    "arena_hard": arena_hard,
}


def first_matches(records: Sequence[Record]) -> list[Record]:
    """The first match of each pair at each turn of each scenario: these formats have one."""
    found: dict[tuple[object, ...], Record] = {}
    for record in records:
        place = record["scenario"], len(record["messages"] or ())
        found.setdefault((*place, record["contestant"], record["baseline"], record["judge"]), record)
    return list(found.values())


def _answered(records: Sequence[Record]) -> list[Record]:
    """The records with answers; the others failed before they could be judged."""
    return [record for record in records if record["reply"] is not None and record["baseline_reply"] is not None]


def _questions_and_answers(
    records: Sequence[Record],
    folder: Path,
    answer: Callable[[str, str, list[str], list[str]], dict[str, Any]],
    question: Callable[[list[str]], dict[str, Any]],
) -> None:
    questions: dict[str, dict[str, Any]] = {}
    answers: dict[str, dict[str, dict[str, Any]]] = {}
    # the longest first: later turns hold earlier ones
    for record in sorted(_answered(records), key=lambda record: -len(record["messages"])):
        key, user = record["scenario"], _user_turns(record)
        own = {"uid": key} if "prompt" in question(user) else {"question_id": key}
        questions.setdefault(key, {**own, "category": _dataset(record), **question(user)})
        other = record.get("baseline_messages") or record["messages"]
        for name, messages, reply in (
            (record["contestant"], record["messages"], record["reply"]),
            (record["baseline"], other, record["baseline_reply"]),
        ):
            replies = [m["content"] for m in messages if m["role"] == "assistant"] + [reply]
            answers.setdefault(name, {}).setdefault(key, answer(key, name, user, replies))
    write_lines(folder / "question.jsonl", list(questions.values()))
    for name, given in answers.items():
        write_lines(folder / "model_answer" / f"{_file(name)}.jsonl", list(given.values()))


def _mt_answer(key: str, model: str, user: list[str], replies: list[str]) -> dict[str, Any]:
    return {"question_id": key, "model_id": model, "choices": [{"index": 0, "turns": replies}]}


def _arena_answer(key: str, model: str, user: list[str], replies: list[str]) -> dict[str, Any]:
    said = [{"role": "user", "content": user[0]}, {"role": "assistant", "content": {"answer": replies[0]}}]
    return {"uid": key, "model": model, "messages": said}


def _user_turns(record: Record) -> list[str]:
    return [message["content"] for message in record["messages"] if message["role"] == "user"]


def _only_question(record: Record, whose: str) -> str:
    user = _user_turns(record)
    if len(user) != 1:
        raise ConfigError(
            f"{whose} has single questions, and `{record['scenario']}` has {len(user)} turns: export to mt_bench"
        )
    return user[0]


def _winner(points: float) -> str:
    return "model_1" if points > 0.5 else "model_2" if points < 0.5 else "tie"


def _label(points: float) -> str:
    return "A>B" if points > 0.5 else "B>A" if points < 0.5 else "A=B"


def _dataset(record: Record) -> str:
    """The data set or category of the question, where the run was imported and the files said it."""
    source = record.get("source") or {}
    return str(source.get("dataset") or source.get("category") or "duologue")


def _raw(record: Record) -> object:
    """The judge's text: as imported, otherwise its rationales."""
    source = record.get("source") or {}
    if "raw_completion" in source:
        return source["raw_completion"]
    return "\n\n".join(text for text in record.get("rationales") or [] if text)


def _file(name: str) -> str:
    """A name as a file may have it."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "unnamed"


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
