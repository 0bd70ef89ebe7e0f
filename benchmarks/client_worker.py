"""One contender of `client.py`: reads cases as lines of JSON, drives its client in a closed loop, writes what it cost.

    python benchmarks/client_worker.py {duologue,recording,openai,aiohttp,litellm} BASE_URL

Imports nothing of the project but what the contender needs, because LiteLLM lives in an environment of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

WORDS = "some words of a dialogue that has been going on for a while "
DIALOGUE = [{"role": "assistant" if i % 2 else "user", "content": f"{i}: {WORDS * 5}"} for i in range(5)]
MESSAGES: list[Any] = [{"role": "system", "content": WORDS}, *DIALOGUE]
OPTIONS: dict[str, Any] = {"max_tokens": 200, "temperature": 1.0}
LOGPROBS = {"logprobs": True, "top_logprobs": 5}
MOST = 1024

Call = Callable[[bool], Awaitable[tuple[str, float]]]
"""Makes one request, with or without logprobs; returns the text and the last token's logprob (0 without)."""
Run = Callable[[Coroutine[Any, Any, dict[str, float]]], dict[str, float]]


def duologue(base_url: str, recording: bool) -> tuple[Call, Run]:
    """`InferenceClient.chat` as training and evaluation run it, with the garbage collector calmed.

    Equal requests would share one answer, so each has an index of its own.
    """
    from duologue.core.concurrency import calm_collection
    from duologue.inference import Cassette, Endpoint, InferenceClient, Sampling

    folder = tempfile.mkdtemp(prefix="duologue-bench-")
    client = InferenceClient(Cassette(f"{folder}/cassette.sqlite") if recording else None)
    endpoint = Endpoint(base_url, "simulated", max_concurrency=MOST, sampling=Sampling(**OPTIONS))
    index = itertools.count()

    async def call(logprobs: bool) -> tuple[str, float]:
        top = 5 if logprobs else 0
        answer = await client.chat(endpoint, MESSAGES, sample_index=next(index), logprobs=logprobs, top_logprobs=top)
        return answer.text, answer.logprobs[-1].logprob if answer.logprobs else 0.0

    def run(coroutine: Coroutine[Any, Any, dict[str, float]]) -> dict[str, float]:
        with calm_collection():
            return client.run(coroutine)

    return call, run


def openai(base_url: str) -> tuple[Call, Run]:
    """The stock asynchronous client with its defaults."""
    from openai import AsyncOpenAI

    create: Any = AsyncOpenAI(base_url=base_url, api_key="none").chat.completions.create

    async def call(logprobs: bool) -> tuple[str, float]:
        extra = LOGPROBS if logprobs else {}
        answer = await create(model="simulated", messages=MESSAGES, **OPTIONS, **extra)
        choice = answer.choices[0]
        return choice.message.content, choice.logprobs.content[-1].logprob if logprobs else 0.0

    return call, asyncio.new_event_loop().run_until_complete


def aiohttp(base_url: str) -> tuple[Call, Run]:
    """What one would write by hand: `session.post` and `r.json()`; no retries, no errors, no deadline."""
    import aiohttp as library

    session: list[library.ClientSession] = []

    async def call(logprobs: bool) -> tuple[str, float]:
        if not session:
            session.append(library.ClientSession(connector=library.TCPConnector(limit=MOST)))
        body = {"model": "simulated", "messages": MESSAGES, **OPTIONS, **(LOGPROBS if logprobs else {})}
        async with session[0].post(f"{base_url}/chat/completions", json=body) as response:
            choice = (await response.json())["choices"][0]
        return choice["message"]["content"], choice["logprobs"]["content"][-1]["logprob"] if logprobs else 0.0

    return call, asyncio.new_event_loop().run_until_complete


def litellm(base_url: str) -> tuple[Call, Run]:
    """`acompletion` with its defaults, less the banner and the telemetry."""
    import litellm as library

    library.suppress_debug_info, library.telemetry = True, False

    async def call(logprobs: bool) -> tuple[str, float]:
        extra = LOGPROBS if logprobs else {}
        answer = await library.acompletion(
            model="openai/simulated", api_base=base_url, api_key="none", messages=MESSAGES, **OPTIONS, **extra
        )
        choice = answer.choices[0]
        return choice.message.content, choice.logprobs.content[-1].logprob if logprobs else 0.0

    return call, asyncio.new_event_loop().run_until_complete


class Cost:
    """What is spent between its making and `spent`: here, all threads, and by the endpoint's process."""

    def __init__(self, endpoint_pid: int) -> None:
        self._pid = endpoint_pid
        self._before = self._now()

    def _now(self) -> tuple[float, float, float]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        endpoint = time.clock_gettime(
            ~self._pid << 3 | 2
        )  # the process's CPU clock, as clock_getcpuclockid(3) makes it
        return time.monotonic(), used.ru_utime + used.ru_stime, endpoint

    def spent(self) -> dict[str, float]:
        """CPU seconds, and the window on the clock that processes share."""
        (start, cpu, endpoint), (end, cpu_after, endpoint_after) = self._before, self._now()
        return {"start": start, "end": end, "cpu_s": cpu_after - cpu, "endpoint_cpu_s": endpoint_after - endpoint}


async def one(call: Call, logprobs: bool) -> None:
    """One request, its answer checked."""
    text, logprob = await call(logprobs)
    assert len(text) > 100
    assert (logprob < 0) == logprobs


async def saturate(call: Call, concurrency: int, logprobs: bool, seconds: float, endpoint_pid: int) -> dict[str, float]:
    """As many requests as take about ``seconds``, all of them begun and ended inside the measurement."""

    async def batch(count: int, logprobs: bool) -> float:
        left = iter(range(count))
        start = time.monotonic()

        async def work() -> None:
            for _ in left:
                await one(call, logprobs)

        await asyncio.gather(*(work() for _ in range(concurrency)))
        return time.monotonic() - start

    await batch(concurrency, False)  # opens the connections
    some, took = 16, 0.0
    while took < seconds / 10:  # until it is long enough to tell the rate
        some *= 2
        took = await batch(some, logprobs)
    count = max(concurrency, round(some * seconds / took))
    cost = Cost(endpoint_pid)
    await batch(count, logprobs)
    return {"requests": count, **cost.spent()}


async def steady(
    call: Call, concurrency: int, logprobs: bool, seconds: float, endpoint_pid: int, ramp: float
) -> dict[str, float]:
    """A window of a closed loop that began ``ramp`` seconds before it and ends after it."""
    stop = False

    async def work() -> None:
        while not stop:
            await one(call, logprobs)

    tasks = [asyncio.create_task(work()) for _ in range(concurrency)]
    await asyncio.sleep(ramp)
    cost = Cost(endpoint_pid)
    await asyncio.sleep(seconds)
    window = cost.spent()
    stop = True
    await asyncio.gather(*tasks)
    return window


def main() -> None:
    """Answers every case until standard input closes."""
    contender, base_url = sys.argv[1:]
    if contender in ("duologue", "recording"):
        call, run = duologue(base_url, contender == "recording")
    else:
        call, run = {"openai": openai, "aiohttp": aiohttp, "litellm": litellm}[contender](base_url)
    for line in sys.stdin:
        case = json.loads(line)
        measure = steady if "ramp" in case else saturate
        print(json.dumps(run(measure(call, **case))), flush=True)


if __name__ == "__main__":
    main()
