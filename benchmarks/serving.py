"""What `duologue serve` adds to a call, next to a bare Starlette proxy and LiteLLM's, in one run in front of the simulated endpoint.

The proxy under test has one core, the endpoint and the caller share the other. Latency is measured at 50 requests a second, open loop;
throughput with 64 callers; then 1,000 streams at once; then many requests, of which none may be lost and the memory must not grow.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import numpy as np
from harness import arguments, progress, report
from other_environments import environment
from simulated_endpoint import Behaviour, start

LITELLM = "1.80.0"
PROXY = (
    "fastapi uvicorn orjson python-multipart backoff apscheduler email-validator websockets PyJWT cryptography fastapi-sso "
    "rich pyyaml gunicorn uvloop httptools"
)  # its extra `proxy` asks for more than the package index here has
MESSAGES = [{"role": "user", "content": "How do I boil an egg so that it is soft inside?"}]
RATE = 50.0


class Contender(NamedTuple):
    """Something that answers chat requests."""

    url: str
    model: str
    pid: int | None


def make_bundle(folder: Path, url: str) -> Path:
    """An untrained `strategy` policy with the hashing encoder: what it decides does not matter here, how long it takes does."""
    from duologue.agents import DialoguePPO, DialogueVecEnv, save_bundle
    from duologue.agents.policies import NETWORKS
    from duologue.envs import Task
    from duologue.inference import Endpoint, InferenceClient

    endpoint = Endpoint(url, "simulated", api_key_env=None, max_concurrency=2000)
    client = InferenceClient()
    task = Task.build(
        client=client, endpoints={"assistant": endpoint}, interface="strategy", encoder="hashing", judges={}
    )
    agent = DialoguePPO(NETWORKS["multi_input"], DialogueVecEnv(1, task), n_steps=4, batch_size=4, device="cpu", seed=0)
    settings = {
        "model": "simulated",
        "assistant": endpoint.to_settings(),
        "task": {"system": task.system, "max_turns": 8},
    }
    save_bundle(folder, agent.policy, "multi_input", {}, task.interface, task.encoder, settings)
    client.close()
    return folder


@contextmanager
def server(command: Sequence[str], port: int, model: str, core: int) -> Iterator[Contender]:
    """Runs a server on one core until the block ends."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        os.sched_setaffinity(child.pid, {core})
        url = f"http://127.0.0.1:{port}/v1"
        asyncio.run(_until_up(url, model, child))
        yield Contender(url, model, child.pid)
    finally:
        child.terminate()
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()


async def _until_up(url: str, model: str, child: subprocess.Popen[bytes]) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            if child.poll() is not None:
                raise RuntimeError(f"the server ended with status {child.returncode}")
            try:
                if await ask(session, url, model) is not None:
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
    raise RuntimeError("the server did not come up")


async def ask(session: aiohttp.ClientSession, url: str, model: str, stream: bool = False) -> float | None:
    """Seconds until the whole answer; None if it is none."""
    body = json.dumps(
        {"model": model, "messages": MESSAGES, **({"stream": True} if stream else {})}, separators=(",", ":")
    )
    began = time.perf_counter()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
    async with session.post(f"{url}/chat/completions", data=body, headers=headers) as response:
        content = await response.read()
        whole = content.rstrip().endswith(b"[DONE]") if stream else b'"choices"' in content
        return time.perf_counter() - began if response.status == 200 and whole else None


def session() -> aiohttp.ClientSession:
    """Connections without a bound of their own."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120))


async def latencies(contender: Contender, seconds: float) -> np.ndarray[Any, Any]:
    """At `RATE` requests a second, whatever the answers take."""
    async with session() as own:
        await asyncio.gather(*(ask(own, contender.url, contender.model) for _ in range(10)))
        tasks, began = [], time.perf_counter()
        for number in range(int(RATE * seconds)):
            await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            tasks.append(asyncio.ensure_future(ask(own, contender.url, contender.model)))
        found = await asyncio.gather(*tasks)
    return np.array([value for value in found if value is not None])


async def closed_loop(contender: Contender, callers: int, requests: int) -> tuple[float, int]:
    """So many callers, each asking again when it is answered.

    Returns:
        Answers a second, and how many requests were not answered.
    """
    left, lost = iter(range(requests)), 0

    async def caller(own: aiohttp.ClientSession) -> None:
        nonlocal lost
        for _ in left:
            try:
                lost += await ask(own, contender.url, contender.model) is None
            except aiohttp.ClientError:
                lost += 1

    began = time.perf_counter()
    async with session() as own:
        await asyncio.gather(*(caller(own) for _ in range(callers)))
    return (requests - lost) / (time.perf_counter() - began), lost


async def streams(contender: Contender, count: int) -> tuple[float, int]:
    """So many streams at once: seconds until the last one's end, and how many were not whole."""
    began = time.perf_counter()
    async with session() as own:
        asked = [ask(own, contender.url, contender.model, stream=True) for _ in range(count)]
        found = await asyncio.gather(*asked, return_exceptions=True)
    return time.perf_counter() - began, sum(not isinstance(value, float) for value in found)


def resident_mb(pid: int) -> float:
    """The process's memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def contenders(
    stack: ExitStack, url: str, folder: Path, core: int, notes: list[str], quick: bool
) -> dict[str, Contender]:
    """The endpoint itself and everything in front of it, all running."""
    bundle = make_bundle(folder / "bundle", url)
    serve = [
        sys.executable,
        "-m",
        "duologue",
        "serve",
        f"policy={bundle}",
        "alias=policy",
        "port=8311",
        "limits.max_concurrency=5000",
    ]
    bare = [sys.executable, str(Path(__file__).with_name("bare_proxy.py")), url, "8312"]
    found = {
        "direct": Contender(url, "simulated", None),
        "duologue": stack.enter_context(server(serve, 8311, "policy", core)),
        "bare": stack.enter_context(server(bare, 8312, "simulated", core)),
    }
    if quick:
        return found
    other = environment("litellm-proxy", f"litellm=={LITELLM}", *PROXY.split())
    if other.python is None:
        notes.append(other.reason)
        return found
    config = folder / "litellm.yaml"
    parameters = {"model": "openai/simulated", "api_base": url, "api_key": "none"}
    config.write_text(
        json.dumps({"model_list": [{"model_name": "simulated", "litellm_params": parameters}]}), encoding="utf-8"
    )
    command = [str(other.python.with_name("litellm")), "--config", str(config), "--port", "8313", "--num_workers", "1"]
    try:
        found["litellm"] = stack.enter_context(server(command, 8313, "simulated", core))
    except RuntimeError as error:
        notes.append(f"LiteLLM's proxy {LITELLM}: {error}")
    return found


def main() -> None:
    """Measures and reports."""
    quick = arguments(__doc__ or "").quick
    core = max(os.sched_getaffinity(0))
    others = {min(os.sched_getaffinity(0))}
    os.sched_setaffinity(0, others)
    figures: dict[str, Any] = {}
    notes: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        endpoint = stack.enter_context(start(Behaviour(latency="constant", mean_s=0.05, tokens=40), min(others)))
        running = contenders(stack, endpoint.base_url, folder, core, notes, quick)
        direct = asyncio.run(latencies(running["direct"], 2 if quick else 30))
        for name, contender in running.items():
            if name != "direct":
                own = asyncio.run(latencies(contender, 2 if quick else 30))
                for share in (50, 99):
                    added = 1000 * (np.percentile(own, share) - np.percentile(direct, share))
                    figures[f"proxies/{name}/added_p{share}_ms"] = float(added)
                rate, _ = asyncio.run(closed_loop(contender, 64, 500 if quick else 8000))
                figures[f"proxies/{name}/requests_per_s"] = rate
                took, broken = asyncio.run(streams(contender, 50 if quick else 1000))
                figures[f"proxies/{name}/streams_s"], figures[f"proxies/{name}/streams_broken"] = took, broken
                progress(
                    f"{name}: {json.dumps({k: v for k, v in figures.items() if k.startswith(f'proxies/{name}/')})}"
                )
        pid = running["duologue"].pid
        assert pid is not None
        asyncio.run(closed_loop(running["duologue"], 64, 300 if quick else 10_000))
        before = resident_mb(pid)
        _, lost = asyncio.run(closed_loop(running["duologue"], 64, 500 if quick else 100_000))
        figures["lost_in_100000"], figures["memory_growth_mb"] = lost, resident_mb(pid) - before
    figures["added_p50_ms"] = figures["proxies/duologue/added_p50_ms"]
    figures["streams_broken"] = figures["proxies/duologue/streams_broken"]
    bars = {"max_added_p50_ms": 5.0, "max_lost_in_100000": 0, "max_streams_broken": 0, "max_memory_growth_mb": 20.0}
    report(
        "serving",
        figures,
        bars,
        quick=quick,
        notes=notes,
        others={"litellm": LITELLM} if "litellm" in running else None,
    )


if __name__ == "__main__":
    main()
