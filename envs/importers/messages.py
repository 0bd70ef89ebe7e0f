"""Dialogues as OpenAI's and UltraChat's files have them: the user's turns are scripted, the last answer is the reference."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from .drafts import Draft

_ROLES = ("system", "developer", "user", "assistant")


def message_draft(record: Mapping[str, Any]) -> Draft:
    """Makes a scenario of a dialogue.

    Args:
        record: With ``messages``, each with ``role`` and ``content`` (a text, or parts that are texts); or with ``data``,
            UltraChat's list of texts that user and assistant say in turn.

    Raises:
        ValueError: If it is neither, or holds what cannot be played: tools, pictures.
    """
    said = _said(record)
    system = "\n\n".join(text for role, text in said if role in ("system", "developer")) or None
    turns = [(role, text) for role, text in said if role in ("user", "assistant")]
    merged = [
        (role, "\n\n".join(text for _, text in group)) for role, group in groupby(turns, key=lambda turn: turn[0])
    ]
    user = tuple(text for role, text in merged if role == "user")
    if not user:
        raise ValueError("no message of the role `user`")
    if merged[0][0] == "assistant":
        raise ValueError("the assistant speaks first, which no scenario can")
    reference = merged[-1][1] if merged[-1][0] == "assistant" else None
    return Draft(user, group=user[0], system=system, reference=reference)


def _said(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    data = record.get("data")
    if "messages" not in record and isinstance(data, list):
        return [("assistant" if number % 2 else "user", _text(text, number)) for number, text in enumerate(data)]
    messages = record.get("messages")
    if not isinstance(messages, list):
        raise ValueError("expected `messages`, a list of objects with `role` and `content`, or UltraChat's `data`")
    return [_message(message, number) for number, message in enumerate(messages)]


def _message(message: object, number: int) -> tuple[str, str]:
    role = message.get("role") if isinstance(message, Mapping) else None
    if not isinstance(message, Mapping) or role not in _ROLES or message.get("tool_calls"):
        raise ValueError(f"message {number}: expected the role {', '.join(_ROLES)}, without tools, not {role!r}")
    return role, _text(message.get("content"), number)


def _text(content: object, number: int) -> str:
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "".join(texts) if len(texts) == len(parts) else None
    if not isinstance(content, str) or not content.strip():
        raise ValueError(f"message {number}: expected a text that is not empty")
    return content.strip()
