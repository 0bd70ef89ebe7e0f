"""What a chat request must have before anybody looks at it."""

from __future__ import annotations

from typing import Any

from .problem import Problem


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
    return body
