"""What one chat completion costs the client, and how near its throughput comes to what the endpoint allows.

Six messages are sent, 200 tokens come back, with five alternatives per token (92 kB) or without logprobs (1.5 kB).
`duologue` is `InferenceClient.chat` as training and evaluation call it (within `calm_collection`, which lets Python's garbage
collector run less often), without the cassette, `recording` the same with a fresh one; `openai` is the stock
asynchronous client, `aiohttp` a bare `session.post` and `r.json()`, `litellm` its `acompletion` (in an environment of its
own, measured in one round because it is slow). CPU is the client process's, all threads; the endpoint runs in another.
The cost is measured without latency, each concurrency in processes that know no other, since a pool keeps its connections;
the share of the ideal at 256 concurrent calls with log-normal latencies of mean 200 ms and sigma 1: the sum of the latencies
that fall into the window over 256 times the window. Rounds of the contenders are interleaved; ratios are taken within each
round. `endpoint_busy` is the part of one core that the endpoint's process used where it had the most to do: near 1,
requests per second are the endpoint's limit and not the client's.

    python benchmarks/client.py            # about six minutes on two cores
    python benchmarks/client.py --quick
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from statistics import median
from typing import Any

from harness import arguments, progress, report, spread
from other_environments import Environment, environment
from simulated_endpoint import Behaviour, SimulatedEndpoint, start, utilisation
from worker_process import WorkerProcess

ROUNDS = {"duologue": 5, "openai": 5, "aiohttp": 2, "recording": 2, "litellm": 1}
"""How often each contender is measured; those that a bar compares most often."""

KINDS = {"logprobs": True, "plain": False}
STREAMS = 256
BARS = {
    **{f"stock_over_duologue_cpu_{n}_{kind}": 20 for n in (64, 512) for kind in KINDS},
    "share_of_ideal_logprobs": 0.93,
    "share_of_ideal_plain": 0.97,
}

Cells = dict[tuple[str, int, str], list[float]]
"""Measurements by contender, concurrency and kind, one per round."""


def main() -> None:
    """Runs both parts."""
    quick = arguments(__doc__ or "").quick
    other = environment("litellm", "litellm==1.110.2")
    figures = costs(quick, other) | shares(quick)
    report("client", figures, BARS, quick=quick, notes=[other.reason] if other.reason else [], others=other.versions)


def costs(quick: bool, other: Environment) -> dict[str, Any]:
    """CPU and requests per second of every contender at every concurrency, in processes of its own for each."""
    cpu_ms: Cells = defaultdict(list)
    per_s: Cells = defaultdict(list)
    busy: list[float] = []
    for concurrency in (64,) if quick else (1, 64, 512):
        with ExitStack() as stack:
            endpoint = stack.enter_context(start())
            names = [name for name in ROUNDS if name != "litellm" or other.python]
            workers = {name: _worker(stack, name, endpoint, other if name == "litellm" else None) for name in names}
            for turn in range(1 if quick else 2 if concurrency == 1 else max(ROUNDS.values())):
                for kind, logprobs in KINDS.items():
                    for name, worker in workers.items():
                        if turn >= ROUNDS[name]:
                            continue
                        seconds = 0.3 if quick else 1.5 if concurrency == 1 else 2.0
                        case = {"concurrency": concurrency, "logprobs": logprobs, "seconds": seconds}
                        cost = _measured(worker, endpoint, case)
                        wall_s, cell = cost["end"] - cost["start"], (name, concurrency, kind)
                        cpu_ms[cell].append(1000 * cost["cpu_s"] / cost["requests"])
                        per_s[cell].append(cost["requests"] / wall_s)
                        busy.append(cost["endpoint_cpu_s"] / wall_s)
                        progress(f"round {turn}: {name} {concurrency} {kind}: {cpu_ms[cell][-1]:.3f} ms")
                        endpoint.reset()
    figures: dict[str, Any] = {}
    for (name, concurrency, kind), values in cpu_ms.items():
        if name == "openai" and concurrency > 1:
            own = cpu_ms["duologue", concurrency, kind]
            ratios = [stock / ours for stock, ours in zip(values, own, strict=True)]
            figures |= spread(f"stock_over_duologue_cpu_{concurrency}_{kind}", ratios)
    figures["endpoint_busy"] = max(busy)
    for table, cells in (("CPU ms per request", cpu_ms), ("requests per s", per_s)):
        for (name, concurrency, kind), values in cells.items():
            figures |= spread(f"{table}/{name}/{concurrency} {kind}", values)
    if other.python is None:
        figures["CPU ms per request/litellm/64 plain"] = None
    return figures


def shares(quick: bool) -> dict[str, Any]:
    """Throughput as a share of what 256 streams that never wait for the client would reach."""
    figures: dict[str, Any] = {}
    found: Cells = defaultdict(list)
    for turn in range(1 if quick else 3):
        for kind, logprobs in KINDS.items():
            for name in ("duologue", "openai", "aiohttp") if not quick and turn == 0 else ("duologue",):
                with ExitStack() as stack:
                    behaviour = Behaviour(latency="lognormal", mean_s=0.2, sigma=1.0, seed=turn)
                    endpoint = stack.enter_context(start(behaviour))
                    seconds = 4 if quick else 12 if name == "duologue" else 8
                    case = {"concurrency": STREAMS, "logprobs": logprobs, "seconds": seconds, "ramp": 3}
                    worker = _worker(stack, name, endpoint)
                    window = _measured(worker, endpoint, case)
                    share = utilisation(endpoint.records(), [(window["start"], window["end"])], STREAMS)
                    found[name, STREAMS, kind].append(share)
                    progress(f"round {turn}: {name} {kind}: {share:.3f} of the ideal")
    for kind in KINDS:
        figures |= spread(f"share_of_ideal_{kind}", found["duologue", STREAMS, kind])
    for (name, _, kind), values in found.items():
        figures[f"share of the ideal at {STREAMS}/{name}/{kind}"] = median(values)
    return figures


def _worker(
    stack: ExitStack, name: str, endpoint: SimulatedEndpoint, other: Environment | None = None
) -> WorkerProcess:
    python = other.python if other else None
    return stack.enter_context(WorkerProcess("client_worker.py", name, endpoint.base_url, python=python))


def _measured(worker: WorkerProcess, endpoint: SimulatedEndpoint, case: dict[str, Any]) -> dict[str, float]:
    """The worker's measurement of one case."""
    cost: dict[str, float] = worker.ask(case | {"endpoint_pid": endpoint.pid})
    return cost


if __name__ == "__main__":
    main()
