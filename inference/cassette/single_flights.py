"""Makes equal requests once: finds stored answers, joins running requests, and asks and stores the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ...core.concurrency import Batches
from ...core.errors import CallFailed
from .cassette import Cassette
from .claims import LEASE_S, MOST

R = TypeVar("R")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
"""Between two looks for the answer that another process asks for."""


class SingleFlights:
    """The running requests by key. Used on one event loop only.

    Args:
        cassette: Where answers are kept.
    """

    def __init__(self, cassette: Cassette) -> None:
        self._cassette = cassette
        self._under_way: dict[bytes, asyncio.Future[tuple[bytes, float]]] = {}
        self._claims: Batches[bytes, bool] = Batches(cassette.claim, MOST)
        self._claimed = 0
        self._renewing: asyncio.Task[None] | None = None

    async def answer(
        self,
        key: bytes,
        canonical: bytes,
        read: Callable[[bytes, float, bool], R],
        fetch: Callable[[], Coroutine[Any, Any, tuple[bytes, float, R]]],
    ) -> R:
        """Finds the answer in the cassette, or joins the same running request, or asks and stores the answer.

        Where another process has claimed the request, its answer is waited for.

        Args:
            key: The request's address in the cassette.
            canonical: What the address was taken of.
            read: From the answer's bytes, its seconds, and whether it was reused, to what the caller wants.
            fetch: Asks; returns bytes, seconds and what was read.

        Returns:
            What ``read`` returned.

        Raises:
            InferenceError: Whatever ``fetch`` raised, to all who waited for it.
            CassetteError: If the cassette is broken, or has no answer in replay mode.
        """
        while (shared := self._under_way.get(key)) is not None:
            await asyncio.wait([shared])
            if not shared.cancelled():  # else whoever asked went away, and we ask ourselves
                return read(*shared.result(), True)
        promise = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            raw, latency_s, answer = await self._found_or_fetched(key, canonical, read, fetch)
        except Exception as error:
            promise.set_exception(error)
            promise.exception()  # marks it as seen: nobody may be waiting
            raise
        except BaseException:
            promise.cancel()
            raise
        finally:
            del self._under_way[key]
        promise.set_result((raw, latency_s))
        return answer

    async def _found_or_fetched(
        self,
        key: bytes,
        canonical: bytes,
        read: Callable[[bytes, float, bool], R],
        fetch: Callable[[], Coroutine[Any, Any, tuple[bytes, float, R]]],
    ) -> tuple[bytes, float, R]:
        pause_s = _FIRST_PAUSE_S
        while True:
            if (found := await self._cassette.look_up(key)) is not None:
                try:
                    return found.body, found.latency_s, read(found.body, found.latency_s, True)
                except CallFailed:
                    if self._cassette.mode != "record":
                        raise
                    await self._cassette.discard(key, found.body)  # recorded by a version that took it for an answer
            if await self._claims.ask(key):
                break
            await asyncio.sleep(pause_s)  # another process asks
            pause_s = min(1.5 * pause_s, _LONGEST_PAUSE_S)
        self._claimed += 1
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew())
        try:
            raw, latency_s, answer = await fetch()
            if (first := await self._cassette.keep(key, canonical, raw, latency_s)) is not None:
                raw, latency_s = first  # another process was quicker, and a later run must meet what this one did
                answer = read(raw, latency_s, False)
        except BaseException:
            self._cassette.release(key)
            raise
        finally:
            self._claimed -= 1
        return raw, latency_s, answer

    async def _renew(self) -> None:
        """Renews the claims while there are any."""
        while self._claimed:
            await asyncio.sleep(LEASE_S / 4)
            self._cassette.renew()
