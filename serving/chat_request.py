"""What a chat request must have before anybody looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .problem import Problem

_KINDS: Mapping[str, tuple[type, str]] = {
    "stream": (bool, "true or false"),
    "stream_options": (dict, "an object"),
    "logprobs": (bool, "true or false"),
    "top_logprobs": (int, "a whole number"),
    "max_tokens": (int, "a whole number"),
    "max_completion_tokens": (int, "a whole number"),
    "seed": (int, "a whole number"),
}
"""What is read here of a request whose answer is made of several of the frozen model's: it must fit before they are paid for."""


def checked(body: object, max_messages: int, max_choices: int) -> dict[str, Any]:
    """The fields that this server itself reads; all others are the frozen model's business.

    Args:
        body: The request, decoded.
        max_messages: Messages, at most.
        max_choices: ``n``, at most.

    Raises:
        Problem: If one is missing or is of the wrong kind.
    """
    if not isinstance(body, dict):
        raise Problem(400, f"The body must be a JSON object, not {type(body).__name__}")
    if not isinstance(body.get("model"), str):
        raise Problem(400, "`model` must be a text", param="model")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Problem(400, "`messages` must be a list of at least one message", param="messages")
    if len(messages) > max_messages:
        raise Problem(400, f"`messages` holds {len(messages)}, and at most {max_messages} are taken", param="messages")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise Problem(400, f"`messages[{number}]` must be an object with a `role`", param="messages")
    n = body.get("n")
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= max_choices):
        raise Problem(400, f"`n` must be a whole number from 1 to {max_choices}, not {n!r}", param="n")
    for name, (kind, worded) in _KINDS.items():
        value = body.get(name)
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise Problem(400, f"`{name}` must be {worded}, not {str(value)[:100]}", param=name)
    if abs(body.get("seed") or 0) >= 2**63:
        raise Problem(400, "`seed` must be a whole number of 64 bits", param="seed")
    return body
