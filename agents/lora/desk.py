"""Writes for many dialogues at once: turns that are waited for while a batch is written form the next one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from ...inference.completion import Completion, Message
from .writer import LocalWriter

_Waiting = tuple[Sequence[Message], int, asyncio.Future[Completion]]


class Desk:
    """A local writer for coroutines; it works on a thread of its own, so that the loop goes on.

    Args:
        writer: Who writes.
        batch_size: Turns that are written together, at most.
        lock: Shared by desks of one model, which does one batch at a time.
    """

    def __init__(self, writer: LocalWriter, batch_size: int = 32, lock: threading.Lock | None = None) -> None:
        self._writer, self._batch_size, self._lock = writer, batch_size, lock or threading.Lock()
        self._waiting: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None

    async def write(self, messages: Sequence[Message], key: int) -> Completion:
        """The next turn of a dialogue; see `LocalWriter.write`."""
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append((tuple(messages), key, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        await asyncio.sleep(0)  # whoever is ready now shares the first batch
        while self._waiting:
            batch, self._waiting = self._waiting[: self._batch_size], self._waiting[self._batch_size :]
            try:
                turns = await asyncio.get_running_loop().run_in_executor(None, self._write, batch)
            except Exception as error:  # noqa: BLE001  (every waiter must learn of it, and nobody else will tell them)
                for _, _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, _, future), turn in zip(batch, turns, strict=True):
                if not future.done():
                    future.set_result(turn)

    def _write(self, batch: Sequence[_Waiting]) -> list[Completion]:
        with self._lock:
            return self._writer.write([messages for messages, _, _ in batch], [key for _, key, _ in batch])
