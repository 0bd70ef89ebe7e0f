"""A bundle, a frozen model that can also stream, and the policy's server between them: all over HTTP on loopback."""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch as th
from aiohttp import web

from duologue.agents import DialoguePPO, DialogueVecEnv, load_bundle, save_bundle
from duologue.agents.policies import NETWORKS, network_name
from duologue.serving import Alias, Limits, build_app
from duologue.serving.completions import Service
from duologue.serving.connections import Config, Server
from duologue.serving.upstream import Upstream
from duologue.tests.conftest import FakeServer, spoken


class StreamingServer(FakeServer):
    """Streams what it says a word at a time where that is asked for.

    Attributes:
        pause_s: Seconds between two words.
        hung_up: Streams, and plain requests, whose client went away.
        embedding_requests: Bodies of requests for embeddings.
    """

    handler_cancellation = True

    def __init__(self) -> None:
        self.pause_s = 0.0
        self.hung_up = 0
        self.break_after: int | None = None
        self.embedding_requests: list[dict[str, Any]] = []
        super().__init__()
        self.answer = lambda body: spoken({k: v for k, v in body.items() if not k.startswith("stream")})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        try:
            return await (self._stream(request, body) if body.get("stream") else super()._chat(request))
        except (asyncio.CancelledError, ConnectionError):
            self.hung_up += 1
            raise

    async def _embeddings(self, request: web.Request) -> web.Response:
        self.embedding_requests.append(await request.json())
        return await super()._embeddings(request)

    async def _stream(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self.requests.append(body)
        answer = self.answer(body)
        if isinstance(answer, tuple):
            return web.json_response(answer[1], status=answer[0])
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        for number, word in enumerate(answer.split()):
            if number == self.break_after:
                request.transport.abort()
                return response
            choice = {"index": 0, "delta": {"content": ("" if number == 0 else " ") + word}, "finish_reason": None}
            await response.write(f"data: {json.dumps({**head, 'choices': [choice]})}\n\n".encode())
            await asyncio.sleep(self.pause_s)
        choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
        await response.write(f"data: {json.dumps({**head, 'choices': [choice]})}\n\n".encode())
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 7, "completion_tokens": len(answer.split()), "total_tokens": 0}
            await response.write(f"data: {json.dumps({**head, 'choices': [], 'usage': usage})}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response


@pytest.fixture
def server() -> Iterator[StreamingServer]:
    fake = StreamingServer()
    yield fake
    fake.stop()


class Watched:
    """A policy that notes what it saw and did."""

    def __init__(self, policy: Any) -> None:
        self.policy, self.seen = policy, []

    def act(self, observation: Any, key: tuple[int, ...] = ()) -> Any:
        action = self.policy.act(observation, key)
        self.seen.append(({name: rows.tobytes() for name, rows in observation.items()}, np.asarray(action).tolist()))
        return action


@pytest.fixture
def bundled(make_task, tmp_path, client) -> Callable[..., Any]:
    """An untrained policy's bundle: `bundled("select")`; its task asks the fake server."""

    def make(interface: Any = "strategy", system: str = "Answer briefly.") -> Any:
        task = make_task(interface=interface, system=system)
        name = network_name(task.interface)
        agent = DialoguePPO(NETWORKS[name], DialogueVecEnv(2, task), n_steps=4, batch_size=4, seed=3, device="cpu")
        th.manual_seed(5)
        for parameter in agent.policy.parameters():  # an untrained scorer finds all candidates equal
            parameter.data += 0.5 * th.randn_like(parameter)
        settings = {
            "model": task.assistant.model,
            "assistant": task.assistant.to_settings(),
            "task": {"system": system, "max_turns": 8},
        }
        folder = tmp_path / f"bundle-{task.interface.name}"
        save_bundle(folder, agent.policy, name, {}, task.interface, task.encoder, settings)
        bundle = load_bundle(folder, client)
        return replace(bundle, policy=Watched(bundle.policy))

    return make


class Running:
    """The policy's server, in a thread of its own."""

    def __init__(self, service: Service, limits: Limits | None = None, feedback: Any = None) -> None:
        self.service = service
        limits = limits or Limits()
        self._server = Server(Config(build_app(service, limits, feedback), limits, service.metrics))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


@pytest.fixture
def serving(bundled, client) -> Iterator[Callable[..., Running]]:
    """Serves a bundle as `my-model`: `serving("select", limits=…)`."""
    running: list[Running] = []

    def make(interface: Any = "strategy", limits: Limits | None = None, bundle: Any = None, **options: Any) -> Running:
        bundle = bundle or bundled(interface)
        endpoint = bundle.interface and _endpoint(bundle)
        alias = Alias.of("my-model", bundle, endpoint, client, **options)
        routes = {("my-model", route): Upstream(other) for route, other in alias.routes.items()}
        running.append(Running(Service({"my-model": alias}, {"my-model": Upstream(endpoint)}, routes), limits))
        return running[-1]

    yield make
    for one in running:
        one.stop()


def _endpoint(bundle: Any) -> Any:
    from duologue.inference import Endpoint

    return Endpoint.from_settings(bundle.settings["assistant"], "upstream")


@pytest.fixture
def started(bundled, tmp_path):
    """`duologue serve` as a process: its address once it is ready."""
    children = []

    def start(*overrides, keys=""):
        command = [
            sys.executable,
            "-m",
            "duologue",
            "serve",
            f"policy={bundled('strategy').folder}",
            "trusted=true",
            "port=0",
            *overrides,
        ]
        environment = {**os.environ, "DUOLOGUE_KEYS": keys, "PYTHONUNBUFFERED": "1"}
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
        )
        children.append(child)
        line = child.stdout.readline()
        found = re.search(r"http://\S+/v1", line)
        assert found, line + child.stderr.read()
        return child, found[0]

    yield start
    for child in children:
        child.kill()
        child.communicate()
