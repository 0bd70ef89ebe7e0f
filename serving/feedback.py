"""`/v1/feedback`: what people thought of an answer, kept for the next judge and the next training."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from pathlib import Path
from typing import Any

import msgspec
from starlette.responses import Response

from .requests import Problem

_LOG = logging.getLogger("duologue.serving")


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

        Returns:
            The response.

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
        try:
            async with self._lock:
                await asyncio.to_thread(self._write, msgspec.json.encode(record) + b"\n")
        except OSError as error:
            _LOG.error("%s: feedback could not be kept (%s)", self.path, error.strerror)
            raise Problem(
                507, f"The feedback could not be kept ({error.strerror}): send it again later", "api_error"
            ) from error
        return Response(b'{"status":"kept"}', media_type="application/json")

    def _write(self, line: bytes) -> None:
        """Adds a whole line, or nothing: half a line would spoil the next one, too.

        Raises:
            OSError: If it cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # other replicas may write to the same file
            end = file.seek(0, os.SEEK_END)
            try:
                if end and os.pread(file.fileno(), 1, end - 1) != b"\n":  # of a process that was killed
                    line = b"\n" + line
                while line:
                    line = line[file.write(line) :]
            except OSError:
                file.truncate(end)
                raise


def _message(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)
