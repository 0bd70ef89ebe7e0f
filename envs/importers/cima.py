"""CIMA: tutors of Italian and what they answered to a student (Stasaski, Kao and Hearst 2020), in its ``dataset.json``.

Its exercises can be played as the game `tutoring`: their hidden facts and the first line of their system prompt are as that
game reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...inference.errors import ConfigError
from ...inference.records import read_json
from ..tables import Row
from .drafts import Draft

_PARTS = ("prepDataset", "shapeDataset")
_SYSTEM = """\
You are a tutor of Italian. Lead the student in short turns to say "{phrase}" in Italian, without saying it. The facts: first, {}; second, {}; \
third, {}. The answer is {answer}.

The dialogue so far:
{dialogue}"""


def cima_rows(path: Path) -> Iterator[Row]:
    """Yields the exercises of ``dataset.json``, each with its part and key as its place.

    Raises:
        ConfigError: If the file is another one.
    """
    parts = read_json(path, dict)
    if not any(isinstance(parts.get(name), dict) for name in _PARTS):
        raise ConfigError(f"{path} must have `{_PARTS[0]}` or `{_PARTS[1]}`, as CIMA's `dataset.json` does")
    for name in _PARTS:
        for key, record in (parts.get(name) or {}).items():
            yield Row(f"{path} {name}/{key}", record)


def cima_draft(record: Mapping[str, Any]) -> Draft:
    """Makes a scenario of an exercise: the policy's model is the tutor, the user says the student's last turn.

    Args:
        record: With ``past_convo``, in which tutor and student speak in turn, ``tutorResponses``, and the phrase's words in
            both languages.

    Raises:
        ValueError: If something is missing, or the student did not speak last.
    """
    said = _texts(record, "past_convo")
    if len(said) % 2:
        raise ValueError("`past_convo` must end with the student, who speaks second: the number of its turns is odd")
    replies = _texts(record, "tutorResponses")
    italian = [_word(record, name) for name in ("prep", "obj", "color")]
    english = [_word(record, name) for name in ("engPrep", "engObj", "engColor")]
    phrase, answer = f"{english[0]} {english[2]} {english[1]}", " ".join(italian)
    facts = [f"{one} = {other}" for one, other in zip(english, italian, strict=True)]
    tried = " ".join(said[1::2]).lower()
    missing = next((number for number, word in enumerate(italian) if word.lower() not in tried), len(italian) - 1)
    dialogue = "\n".join(f"{('Tutor', 'Student')[number % 2]}: {text}" for number, text in enumerate(said[:-1]))
    return Draft(
        (said[-1],),
        group=phrase,
        system=_SYSTEM.format(*facts, phrase=phrase, answer=answer, dialogue=dialogue),
        reference=replies[0],
        tags=("tutoring", "italian"),
        persona=f"You are a student who is to say in Italian: {phrase}",
        goal=f"You lack one fact: {facts[missing]}. Once the tutor has explained it, say your own answer. Never say it before.",
        hidden={"answer": answer, "facts": facts, "missing": missing, "quick": True, "replies": list(replies)},
    )


def _texts(record: Mapping[str, Any], name: str) -> list[str]:
    found = record.get(name)
    if not isinstance(found, list) or not found or not all(isinstance(text, str) and text.strip() for text in found):
        raise ValueError(f"`{name}` must be a list of texts that are not empty")
    return [text.strip() for text in found]


def _word(record: Mapping[str, Any], name: str) -> str:
    found = record.get(name)
    if not isinstance(found, str) or not found.strip():
        raise ValueError(f"`{name}` must be a text, not {found!r}")
    return found.strip()
