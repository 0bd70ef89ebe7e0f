"""A local model as a model of the API: it answers in this process."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from ..core.errors import ConfigError
from ..envs.episode import DialogueState
from ..inference.completion import Completion
from .answers import as_asked
from .requests import Problem

_FIELDS: Mapping[str, tuple[str, Callable[[Any], float]]] = {
    "temperature": ("temperature", float),
    "top_p": ("top_p", float),
    "max_tokens": ("max_completion_length", int),
}
"""The request's fields that decide how turns are sampled, and what they are called here."""


def holds_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, or a run that trained one, and no bundle."""
    return (folder / "adapter").is_dir() or (folder / "adapter_config.json").is_file()


class WriterAlias:
    """A local model with its adapter.

    Args:
        name: The model name that clients use.
        folder: The adapter, or the run folder that holds it.
        local: The model beneath, if not the one that the adapter was trained on.
        device: ``auto`` for the GPU if there is one.

    Raises:
        ConfigError: If something cannot be loaded, or the extra is missing.
    """

    def __init__(self, name: str, folder: Path, local: str | None = None, device: str = "auto") -> None:
        try:
            from ..agents.lora.adapter import load_writer
            from ..agents.lora.writer import BatchedWriter, LocalWriter
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"`{name}` is a local model, which needs the package `{error.name}`: run `pip install 'duologue[train,lora]'`"
            ) from error
        writer, record = load_writer(folder, local, device)
        self.name, self.base, self._decoding = name, str(record["model"]), writer.decoding
        self._system = str((record.get("task") or {}).get("system") or "")
        lock = threading.Lock()  # turns that are sampled otherwise are another batch, and the model does one at a time
        self._make: Callable[[Any], Any] = lambda decoding: BatchedWriter(
            LocalWriter(writer.local, decoding), lock=lock
        )
        self._desks: dict[Any, Any] = {}

    async def answer(self, body: Mapping[str, Any]) -> Response:
        """Answers one chat request.

        Args:
            body: The request, checked by `checked`.

        Returns:
            The response.

        Raises:
            Problem: If a value is refused.
        """
        state = DialogueState.of(body["messages"])
        if self._system and not any(message["role"] == "system" for message in state.messages):
            state.messages.insert(0, {"role": "system", "content": self._system})
        desk = self._batched_writer(body)
        seed = body.get("seed") if isinstance(body.get("seed"), int) else 0
        keys = [int(seed or 0) * 1_000 + choice for choice in range(body.get("n") or 1)]
        turns = await asyncio.gather(*(desk.write(state.messages, key) for key in keys))
        completion = _completion(self.name, turns)
        headers = {"x-duologue-alias": quote(self.name), "x-duologue-action": "written"}
        return as_asked(completion, body, headers)

    def _batched_writer(self, body: Mapping[str, Any]) -> Any:
        """The batched writer for turns with the same sampling."""
        given = {**body, "max_tokens": body.get("max_completion_tokens") or body.get("max_tokens")}
        try:
            wanted: dict[str, Any] = {
                own: kind(given[name]) for name, (own, kind) in _FIELDS.items() if given.get(name) is not None
            }
            decoding = replace(self._decoding, **wanted)
        except (TypeError, ValueError) as error:
            raise Problem(400, str(error)) from error
        if len(self._desks) > 64:  # of clients that sample each time otherwise
            self._desks.clear()
        return self._desks.setdefault(decoding, self._make(decoding))


def _completion(name: str, turns: list[Completion]) -> dict[str, Any]:
    written = sum(turn.completion_tokens for turn in turns)
    read = sum(turn.prompt_tokens for turn in turns)
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": turn.text},
            "finish_reason": turn.finish_reason,
            "logprobs": None,
        }
        for index, turn in enumerate(turns)
    ]
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": name,
        "choices": choices,
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }
