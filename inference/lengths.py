"""How long the requests and answers of an endpoint are, measured on what a cassette holds: for plans."""

from __future__ import annotations

import zlib
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from .archive import opened, rows
from .counted import read_usage
from .packing import unpack


class Lengths(NamedTuple):
    """How long one endpoint's requests and answers are.

    Attributes:
        answers: How many were looked at; 0 if the figures are assumed.
        tokens_per_byte: Prompt tokens for a byte of the messages' contents.
        completion_tokens: Mean tokens of an answer.
    """

    answers: int
    tokens_per_byte: float
    completion_tokens: float


class _Contents(msgspec.Struct):
    messages: list[dict[str, Any]] = []


class _Asked(msgspec.Struct):
    endpoint: str = ""
    body: _Contents = msgspec.field(default_factory=_Contents)


def lengths(path: Path, endpoint: str, most: int = 300) -> Lengths | None:
    """Measures an endpoint's lengths on some of its answers.

    Args:
        path: The cassette.
        endpoint: As `Endpoint.identity` says it.
        most: Answers that are looked at.

    Returns:
        The lengths; None if there is no cassette or no answer whose tokens were counted.
    """
    if not path.is_file():
        return None
    answers = size = prompt = completion = 0
    with opened(path) as connection:
        for row in islice(rows(connection), 20 * most):
            try:
                asked = msgspec.json.decode(unpack(row.request), type=_Asked)
                usage = read_usage(unpack(row.body))
            except (zlib.error, ValueError, RecursionError):
                continue
            if asked.endpoint == endpoint and asked.body.messages and usage is not None and usage.prompt_tokens:
                size += sum(len(str(message.get("content")).encode()) for message in asked.body.messages)
                answers, prompt = answers + 1, prompt + usage.prompt_tokens
                completion += usage.completion_tokens or 0
            if answers == most:
                break
    return Lengths(answers, prompt / max(size, 1), completion / answers) if answers else None
