"""Shared fixtures: a hand-written OpenAI-compatible server on loopback, and tasks that talk to it.

Nothing of Duologue is mocked: requests go over HTTP through the real client. The server answers exactly what a test
asks for, or a text that depends only on the request, so that runs can be compared.
"""

import asyncio
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from duologue.envs import Scenario, Task
from duologue.inference import Cassette, Endpoint, InferenceClient, Sampling
from duologue.plugins import plugins
from duologue.plugins.publish import publish
from duologue.tests.postgres_server import postgres_server, programs

SHRUNK = [
    "inference.assistant.model=fake",
    "inference.assistant.max_retries=0",
    "env.limit=4",
    "evaluation.limit=3",
    "evaluation.repeats=2",
    "evaluation.baseline_repeats=1",
    "interface.n=3",
    "encoder=hashing",
    "encoder.dim=16",
    "~judges.reference",
    "judge@evaluation.judge=length",
    "agent.total_timesteps=16",
    "agent.n_envs=4",
    "agent.n_steps=2",
    "agent.batch_size=4",
    "agent.n_epochs=1",
]

WORDS = [
    "red",
    "green",
    "blue",
    "small",
    "large",
    "quick",
    "slow",
    "warm",
    "cold",
    "bright",
    "dark",
    "old",
    "new",
    "round",
    "flat",
]


def spoken(body: dict[str, Any]) -> str:
    """A sentence that depends only on the request."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
    return " ".join(WORDS[b % len(WORDS)] for b in digest[: 4 + digest[0] % 6]) + "."


def chat_body(text: str, *, logprobs: bool = False, finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    tokens = text.split() or [""]
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": finish_reason,
    }
    if logprobs:
        choice["logprobs"] = {
            "content": [
                {"token": token, "logprob": -0.1 * (i + 1), "top_logprobs": []} for i, token in enumerate(tokens)
            ]
        }
    usage = {"prompt_tokens": 7, "completion_tokens": len(tokens)}
    return {"id": "x", "object": "chat.completion", "model": "fake", "choices": [choice], "usage": usage}


class FakeServer:
    """An OpenAI-compatible server in a thread of its own.

    Attributes:
        requests: Bodies of the chat requests, in order of arrival.
        answer: Replaceable: request body to answer: a text, a body as a dict, or an (HTTP status, body) pair.
        delay_s: Replaceable: request body to seconds before the answer.
        headers: Headers of the latest request.
        others: Answers of further endpoints by their path: request body to answer, or to an (HTTP status, body) pair.
    """

    handler_cancellation = False  # whether a client that hangs up ends what answers it

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.others: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self.answer: Callable[[dict[str, Any]], Any] = spoken
        self.delay_s: Callable[[dict[str, Any]], float] = lambda body: 0.0
        self.logprobs = True
        self.in_flight = self.most_in_flight = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self._started.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_post("/v1/{path}", self._other)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=self.handler_cancellation)

        async def start() -> None:
            await self._runner.setup()
            site = web.TCPSite(self._runner, "127.0.0.1", 0)
            await site.start()
            self.port = site._server.sockets[0].getsockname()[1]

        self._loop.run_until_complete(start())
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        self.headers = dict(request.headers)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if delay := self.delay_s(body):
            await asyncio.sleep(delay)
        self.in_flight -= 1
        answer = self.answer(body)
        status = 200
        if isinstance(answer, tuple):
            status, answer = answer
        if isinstance(answer, str) and status == 200:
            answer = chat_body(answer, logprobs=self.logprobs and bool(body.get("logprobs")))
        if isinstance(answer, bytes):
            return web.Response(body=answer, status=status, content_type="text/html")
        return web.json_response(answer, status=status, headers={"retry-after-ms": "1"} if status >= 400 else {})

    async def _embeddings(self, request: web.Request) -> web.Response:
        body = await request.json()
        vectors = [[float(len(text)), 1.0, float(text.count("a"))] for text in body["input"]]
        data = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)]
        return web.json_response({"data": data, "model": "fake", "usage": {"prompt_tokens": 3, "total_tokens": 3}})

    async def _other(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        answer = self.others[request.match_info["path"]](body)
        status, answer = answer if isinstance(answer, tuple) else (200, answer)
        return web.json_response(answer, status=status)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server's database; skips where neither the server nor the driver is installed."""
    pytest.importorskip("psycopg")
    if programs() is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    with postgres_server() as address:
        yield address


@pytest.fixture
def endpoint(server: FakeServer) -> Endpoint:
    return Endpoint(
        server.url, "fake", sampling=Sampling(seed=0, max_tokens=20), max_retries=1, timeout_s=5, deadline_s=10
    )


@pytest.fixture
def client(tmp_path) -> Iterator[InferenceClient]:
    made = InferenceClient(Cassette(tmp_path / "cassette.sqlite"))
    yield made
    made.close()


@pytest.fixture
def scenarios() -> list[Scenario]:
    """Six single-turn scenarios and two scripted ones of three user turns."""
    single = [
        Scenario(f"one-{i}", "train", (f"Question number {i}, please?",), reference=f"The answer is {WORDS[i]}.")
        for i in range(6)
    ]
    scripted = [
        Scenario(f"three-{i}", "train", (f"Hello {i}.", "Go on.", "And then?"), reference="A story.") for i in range(2)
    ]
    return [*single, *scripted]


@pytest.fixture
def make_task(client: InferenceClient, endpoint: Endpoint, scenarios: list[Scenario]) -> Callable[..., Task]:
    """Builds a task on the fake server: `make_task(interface="strategy", judges={…}, …)`; hashing encoder of width 16."""

    def make(**parts: Any) -> Task:
        defaults: dict[str, Any] = {
            "client": client,
            "endpoints": {"assistant": endpoint},
            "encoder": {"name": "hashing", "dim": 16},
            "judges": {"rules": "rules", "length": "length"},
            "scenarios": scenarios,
        }
        return Task.build(**(defaults | parts))

    return make


def shipped(command: str, url: str, folder: Path, *overrides: str) -> dict[str, Any]:
    publish(plugins())
    where = [f"inference.assistant.base_url={url}", f"inference.cassette.path={folder / 'cassette.sqlite'}"]
    with initialize_config_module("duologue.conf", version_base="1.3"):
        config = compose(command, [*SHRUNK, *where, *overrides])
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


@pytest.fixture
def configured(server, tmp_path) -> Callable[..., dict[str, Any]]:
    """The shipped configuration of a command, shrunk, for this test's server: `configured("run", "seed=1")`."""
    return lambda command, *overrides: shipped(command, server.url, tmp_path, *overrides)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Lists what did not run, and why, in the last lines of the run."""
    skipped = _skipped(terminalreporter)
    if skipped:
        terminalreporter.section("tests that did not run")
        for reason, where in sorted(skipped.items()):
            terminalreporter.write_line(f"{len(where)} skipped: {reason} ({', '.join(sorted({*where}))})")
        for reason in _promised(skipped):
            terminalreporter.write_line(f"FAILED: `DUOLOGUE_CI_SETS_UP` promises what was missing: {reason}", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails a run in which a test was skipped for want of what CI says that it sets up."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")  # none in the processes of pytest-xdist
    if reporter is not None and session.exitstatus == pytest.ExitCode.OK and _promised(_skipped(reporter)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _skipped(reporter: Any) -> dict[str, list[str]]:
    """The reason of every skip, and the files in which it occurred."""
    found: dict[str, list[str]] = {}
    for report in reporter.stats.get("skipped", []):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        found.setdefault(reason.removeprefix("Skipped: "), []).append(report.nodeid.partition("::")[0])
    return found


def _promised(skipped: Iterable[str]) -> list[str]:
    """The reasons that name a program of ``DUOLOGUE_CI_SETS_UP``, a list of words."""
    promised = {*os.environ.get("DUOLOGUE_CI_SETS_UP", "").lower().split()}
    return sorted(reason for reason in skipped if promised & {*re.findall(r"[\w-]+", reason.lower())})
