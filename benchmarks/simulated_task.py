"""The dialogues that benchmarks play on the simulated endpoint, and what they observe of the process that plays them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from duologue.envs import Scenario, Task
from duologue.inference import Endpoint, InferenceClient, Sampling

MOST = 1024
"""Requests under way at once, above anything that a benchmark asks for."""


def scenarios(count: int, turns: int) -> list[Scenario]:
    """Scripted dialogues of so many user turns, no two alike."""
    asked = "What should I keep in mind about this, and what would you do first?"
    return [
        Scenario(f"simulated-{i}", "train", tuple(f"Matter {i}, part {t}: {asked}" for t in range(turns)))
        for i in range(count)
    ]


def simulated_task(
    client: InferenceClient, base_url: str, *, turns: int, judges: Mapping[str, Any], **parts: Any
) -> Task:
    """Interface `strategy`, the default encoder, one generation a turn; no request is ever made twice.

    Args:
        client: Asks the endpoint.
        base_url: The endpoint's address.
        turns: Turns of every dialogue.
        judges: As for `Task.build`.
        **parts: Others of its arguments.
    """
    options: dict[str, Any] = {"api_key_env": None, "max_concurrency": MOST, "sampling": Sampling(max_tokens=200)}
    endpoints = {role: Endpoint(base_url, role, **options) for role in ("assistant", "judge")}
    defaults: dict[str, Any] = {
        "interface": "strategy",
        "scenarios": scenarios(64, turns),
        "max_turns": turns,
        "draws": None,
    }
    return Task.build(client=client, endpoints=endpoints, judges=judges, **(defaults | parts))


def rss_mb() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def pss_mb(pid: int | None = None) -> tuple[float, int]:
    """Proportional memory of a process and all its descendants, and their number; shared pages count once."""
    pid = pid or os.getpid()
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    total, count = sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) * 1024 / 1e6, 1
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="utf-8").split():
            more, further = pss_mb(int(child))
            total, count = total + more, count + further
    return total, count


class Windows:
    """Starts and ends of something that happens again and again, on the clock that processes share."""

    def __init__(self) -> None:
        self.closed: list[tuple[float, float]] = []
        self._opened = 0.0

    def open(self) -> None:
        """Begins a window."""
        self._opened = time.monotonic()

    def close(self) -> None:
        """Ends it."""
        self.closed.append((self._opened, time.monotonic()))

    @staticmethod
    def seconds(windows: Sequence[tuple[float, float]]) -> float:
        """Their total length."""
        return sum(end - start for start, end in windows)
