"""`/v1/feedback`: what people thought of an answer, kept for the next judge and the next training."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from starlette.responses import Response

from .problem import Problem


class Feedback:
    """A JSONL file of scored replies, as `duologue judge-check data=` and `duologue import feedback` read it.

    Args:
        path: The file; lines are added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = asyncio.Lock()

    async def add(self, body: Any) -> Response:
        """Adds one reply with its score.

        Args:
            body: ``messages`` before the reply, ``reply``, ``score`` in [0, 1]; and, if wanted, ``model`` and ``comment``.

        Raises:
            Problem: If a field is missing or of the wrong kind.
        """
        if not isinstance(body, dict):
            raise Problem(400, f"The body must be a JSON object, not {type(body).__name__}")
        messages, reply, score = body.get("messages"), body.get("reply"), body.get("score")
        said = isinstance(messages, list) and all(_message(message) for message in messages)
        if not said or not messages or messages[-1]["role"] != "user":
            raise Problem(
                400,
                "`messages` must be objects with the texts `role` and `content`, the last a user's",
                param="messages",
            )
        if not isinstance(reply, str) or not reply.strip():
            raise Problem(400, "`reply` must be the text that is judged", param="reply")
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise Problem(400, f"`score` must be a number from 0 to 1, not {score!r}", param="score")
        record = {"messages": messages, "reply": reply, "score": score}
        record |= {name: body[name] for name in ("model", "comment") if isinstance(body.get(name), str)}
        async with self._lock:
            await asyncio.to_thread(self._write, msgspec.json.encode(record) + b"\n")
        return Response(b'{"status":"kept"}', media_type="application/json")

    def _write(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(line)


def _message(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)
