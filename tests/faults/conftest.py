"""A server that fails in every known way, in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "unreliable_server.py"


class Unreliable:
    """The server's address and its log."""

    def __init__(self, url: str) -> None:
        self.url = url

    def log(self) -> dict[str, Any]:
        with urlopen(self.url.removesuffix("/v1") + "/log") as answer:
            return json.load(answer)


@contextmanager
def serving(share: float, seed: int, *kinds: str) -> Iterator[Unreliable]:
    command = [sys.executable, str(SCRIPT), str(share), str(seed), *kinds]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Unreliable(process.stdout.readline().strip())
        finally:
            process.stdin.close()
            process.wait(10)


@pytest.fixture
def unreliable() -> Iterator[Callable[..., Unreliable]]:
    """Starts one: `unreliable(share, seed, "hangs", …)`; all kinds of faults by default."""
    with ExitStack() as stack:
        yield lambda share, seed, *kinds: stack.enter_context(serving(share, seed, *kinds))
