"""Asyncio beside the main thread: the daemon loop, batches of calls, the garbage collector, the cores."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from .console import Console, say
from .errors import ConfigError
from .user_code import place_in


def available_cores() -> int:
    """The cores that the process is allowed to run on; where the system does not say, all of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_THRESHOLDS = (20_000, 20, 50)
"""New containers between two collections of the young, and how many of these make one of the older, and of all."""


@contextmanager
def calm_collection() -> Iterator[None]:
    """Collects less often meanwhile, and leaves out the objects that exist already.

    At 256 dialogues the collector took an eighth of the process's time, most of it for walking again and again through the
    modules of torch, which are there to stay. Objects that exist now and become cyclic garbage meanwhile are collected
    afterwards. Where somebody has frozen objects before, theirs are left alone.
    """
    before = gc.get_threshold()
    frozen = gc.get_freeze_count() > 0
    if not frozen:
        gc.collect()
        gc.freeze()
    gc.set_threshold(*(max(own, ours) if own else own for own, ours in zip(before, _THRESHOLDS, strict=True)))
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if not frozen:
            gc.unfreeze()


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
        """Answers one question in a batch with all others that wait; raises the batch's error."""
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


try:
    import uvloop
except ImportError:  # no uvloop on Windows
    uvloop = None  # type: ignore[assignment]

T = TypeVar("T")

CLOSING_S = 10.0
"""Seconds in which what runs on the loop must have ended after it was cancelled."""

PATIENCE_S = 10.0
"""Seconds after which code that blocks the loop is named."""


class LoopThread:
    """Runs coroutines for synchronous callers."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = (uvloop or asyncio).new_event_loop()
        self._pid = os.getpid()
        self._tasks: set[asyncio.Task[Any]] = set()  # asyncio itself keeps only weak references
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="duologue-loop", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        watch = threading.Thread(target=self._watch, args=(threading.get_ident(),), name="duologue-watch", daemon=True)
        watch.start()
        while True:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt):  # of a task, whose caller gets it too; the others go on
                continue
            break
        self._stopped.set()

    def _watch(self, thread: int) -> None:
        """Names a user's code that keeps the loop to itself for `PATIENCE_S`, once for each function."""
        named: set[str] = set()
        while not self._stopped.wait(PATIENCE_S / 5):
            turned = threading.Event()
            try:
                self.loop.call_soon_threadsafe(turned.set)
            except RuntimeError:  # the loop is closed
                return
            if turned.wait(PATIENCE_S) or (frame := sys._current_frames().get(thread)) is None:
                continue
            place = place_in(frame)
            if place is not None and (function := f"{place.file}:{place.function}") not in named:
                named.add(function)
                say(
                    f"{place}: `{place.function}` has kept the event loop to itself for {PATIENCE_S:g} s, and every "
                    "dialogue waits for it: make it asynchronous, call what blocks by `asyncio.to_thread`, or set "
                    "`threaded=true` of a judge that is a function",
                    Console(stderr=True),
                )
            while not turned.wait(PATIENCE_S) and not self._stopped.is_set():
                pass

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts a coroutine on the loop, from any thread.

        Args:
            coroutine: What runs on the loop.

        Returns:
            Its future.

        Raises:
            ConfigError: If this process was forked from the one in which the loop runs.
            RuntimeError: If the loop is closed.
        """
        if os.getpid() != self._pid:
            coroutine.close()
            raise ConfigError(
                "a Duologue client, task or environment was made before a fork and used after it, where its thread is missing: "
                "build it inside the child process, or start the processes by `spawn` or `forkserver`"
            )
        if self.loop.is_closed():
            coroutine.close()
            raise RuntimeError("the loop is closed: nothing can run on it any more")
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end; an interrupt cancels it.

        Args:
            coroutine: What runs on the loop.

        Returns:
            The coroutine's result.

        Raises:
            RuntimeError: If the loop is closed, or this is its own thread.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("LoopThread.run was called on the loop's own thread; await the coroutine instead")
        future = self.submit(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def spawn_batch(
        self, coroutines: list[Coroutine[Any, Any, None]], tasks: set[asyncio.Task[Any]] | None = None
    ) -> None:
        """Starts many coroutines with one hop to the loop's thread; they report by themselves.

        Args:
            coroutines: What is started.
            tasks: Holds their tasks while they run, for those who may cancel them; changed on the loop's thread only.
        """
        self.loop.call_soon_threadsafe(self._spawn, coroutines, self._tasks if tasks is None else tasks)

    def _spawn(self, coroutines: list[Coroutine[Any, Any, None]], tasks: set[asyncio.Task[Any]]) -> None:
        for coroutine in coroutines:
            task = self.loop.create_task(coroutine)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def cancel_all(self) -> bool:
        """Cancels all tasks and waits until they have ended.

        Returns:
            Whether it has; not where foreign code holds the thread for longer than `CLOSING_S`.
        """
        try:
            self.submit(self._cancel_all()).result(CLOSING_S)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Cancels all tasks and ends the thread; closing twice does nothing.

        A thread that foreign code holds is left behind: it ends with the process.
        """
        if not self._thread.is_alive() or not self.cancel_all():
            return
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _cancel_all(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
