"""Writes for many dialogues at once: turns that are waited for while a batch is written form the next one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from ...inference.batches import Batches
from ...inference.completion import Completion, Message
from .writer import LocalWriter

_Wanted = tuple[Sequence[Message], int]
"""The messages, and which of several independent turns."""


class Desk:
    """A local writer for coroutines; it works on a thread of its own, so that the loop goes on.

    Args:
        writer: Who writes.
        batch_size: Turns that are written together, at most.
        lock: Shared by desks of one model, which does one batch at a time.
    """

    def __init__(self, writer: LocalWriter, batch_size: int = 32, lock: threading.Lock | None = None) -> None:
        self._writer, self._lock = writer, lock or threading.Lock()
        self._batches: Batches[_Wanted, Completion] = Batches(self._in_thread, batch_size)

    async def write(self, messages: Sequence[Message], key: int) -> Completion:
        """The next turn of a dialogue; see `LocalWriter.write`."""
        return await self._batches.ask((tuple(messages), key))

    async def _in_thread(self, wanted: Sequence[_Wanted]) -> list[Completion]:
        return await asyncio.get_running_loop().run_in_executor(None, self._write, wanted)

    def _write(self, wanted: Sequence[_Wanted]) -> list[Completion]:
        with self._lock:
            return self._writer.write([messages for messages, _ in wanted], [key for _, key in wanted])
