"""Gathers what is asked one by one into batches: questions that come while one is answered form the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Batches(Generic[Q, A]):
    """Answers questions of any number of coroutines, one batch at a time. Used on one event loop only.

    Args:
        answer: Answers a batch, in order.
        size: Questions in a batch, at most.
    """

    def __init__(self, answer: Callable[[list[Q]], Awaitable[Sequence[A]]], size: int) -> None:
        self._answer, self._size = answer, size
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        """The answer, together with those to whatever else is waiting; raises what answering raised."""
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        await asyncio.sleep(0)  # whoever is ready now shares the first batch
        while self._waiting:
            batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
            batch = [(question, future) for question, future in batch if not future.done()]
            if not batch:
                continue
            try:
                answers = await self._answer([question for question, _ in batch])
            except BaseException as error:  # every waiter must learn of it, and nobody else will tell them
                if not isinstance(error, Exception):
                    for _, future in [*batch, *self._waiting]:
                        future.cancel()
                    self._waiting = []
                    raise
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
