"""Equal requests are made once: what is under way is waited for, what is kept is found, and the rest is asked and kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .cassette import Cassette

R = TypeVar("R")


class SingleFlights:
    """The requests under way by their addresses. Used on one event loop only.

    Args:
        cassette: Where answers are kept.
    """

    def __init__(self, cassette: Cassette) -> None:
        self._cassette = cassette
        self._under_way: dict[bytes, asyncio.Future[tuple[bytes, float]]] = {}

    async def answer(
        self,
        key: bytes,
        canonical: bytes,
        read: Callable[[bytes, float, bool], R],
        fetch: Callable[[], Coroutine[Any, Any, tuple[bytes, float, R]]],
    ) -> R:
        """Finds the answer in the cassette, or waits for the same request under way, or asks and keeps the answer.

        Args:
            key: The request's address in the cassette.
            canonical: What the address was taken of.
            read: From the answer's bytes, its seconds, and whether it was reused, to what the caller wants.
            fetch: Asks; returns bytes, seconds and what was read.

        Raises:
            InferenceError: Whatever ``fetch`` raised, to all who waited for it.
            CassetteError: If the cassette is broken, or has no answer in replay mode.
        """
        while (shared := self._under_way.get(key)) is not None:
            await asyncio.wait([shared])
            if not shared.cancelled():  # else whoever asked went away, and we ask ourselves
                return read(*shared.result(), True)
        if (found := self._cassette.find(key)) is not None:
            return read(found.body, found.latency_s, True)
        promise = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            raw, latency_s, answer = await fetch()
            if (first := await self._cassette.keep(key, canonical, raw, latency_s)) is not None:
                raw, latency_s = first  # another process was quicker, and a later run must meet what this one did
                answer = read(raw, latency_s, False)
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
