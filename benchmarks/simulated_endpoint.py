"""An OpenAI-compatible endpoint in a process of its own that costs almost nothing, so that what is measured is the client.

No two of its answers are equal. Latencies are drawn from a seeded distribution and kept with their arrivals on the clock
that all processes of the machine share, so that the ideal throughput is known exactly. It can fail, drop connections and
limit its rate. `start` runs it for the length of a ``with`` block; it also ends when its parent dies.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

GENERATION, JUDGE, REFUSED = 0.0, 1.0, 2.0
"""The third column of the records: what a request was, or that it met an error on purpose."""


@dataclass(frozen=True)
class Behaviour:
    """How the endpoint answers.

    Attributes:
        latency: ``none``, ``constant`` or ``lognormal``.
        mean_s: Mean latency in seconds; of a stream the pause between two events, of which there are ``tokens``.
        sigma: Standard deviation of the latency's logarithm.
        seed: Decides latencies, errors and the wording of the answers.
        share_429: Share of requests that are told to come back later; likewise the next two.
        share_500: Share that meets a server error.
        share_disconnect: Share whose connection is dropped.
        requests_per_s: Rate above which requests are told when to come back; 0 for no limit.
        tokens: Tokens of an answer.
        text_by: What makes texts differ: a ``counter`` (no two are equal) or the ``request`` (equal ones are).
    """

    latency: Literal["none", "constant", "lognormal"] = "none"
    mean_s: float = 0.2
    sigma: float = 1.0
    seed: int = 0
    share_429: float = 0.0
    share_500: float = 0.0
    share_disconnect: float = 0.0
    requests_per_s: float = 0.0
    tokens: int = 200
    text_by: Literal["counter", "request"] = "counter"


@dataclass(frozen=True)
class SimulatedEndpoint:
    """A running endpoint, seen from the process that started it."""

    port: int
    pid: int

    @property
    def base_url(self) -> str:
        """What a client is given."""
        return f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> dict[str, float]:
        """``arrivals``, ``connections`` and ``cpu_s`` since the start."""
        return dict(json.loads(self._get("stats")))

    def records(self) -> npt.NDArray[np.float64]:
        """Arrival on the monotonic clock, latency and kind of every request since the last reset; shape (n, 3)."""
        return np.frombuffer(self._get("records")).reshape(-1, 3)

    def reset(self) -> None:
        """Forgets the records."""
        self._get("reset")

    def _get(self, path: str) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.port}/{path}", timeout=60) as response:
            return bytes(response.read())


@contextmanager
def start(behaviour: Behaviour | None = None, core: int | None = None) -> Iterator[SimulatedEndpoint]:
    """Runs an endpoint in a child process.

    Args:
        behaviour: How it answers.
        core: The core that it is bound to; None for any.
    """
    settings = json.dumps(asdict(behaviour or Behaviour()))
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("simulated_server.py")), settings],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        if core is not None:
            os.sched_setaffinity(child.pid, {core})
        assert child.stdout is not None
        yield SimulatedEndpoint(json.loads(child.stdout.readline())["port"], child.pid)
    finally:
        child.kill()
        child.communicate()


def utilisation(records: npt.NDArray[np.float64], windows: Sequence[tuple[float, float]], slots: int) -> float:
    """The share of ``slots`` that were waiting for the endpoint rather than for the client.

    Args:
        records: See `SimulatedEndpoint.records`.
        windows: Starts and ends on the monotonic clock, in seconds.
        slots: Calls or dialogues that could be under way at once.

    Returns:
        The sum of the drawn latencies, as far as they fall into the windows, over windows times slots.
    """
    arrived, done = records[:, 0], records[:, 0] + records[:, 1]
    inside = sum(
        float(np.clip(np.minimum(done, end) - np.maximum(arrived, start), 0, None).sum()) for start, end in windows
    )
    return inside / (slots * sum(end - start for start, end in windows))
