"""The transport against the stock client: same attempts, same pauses, same errors, on a server that misbehaves in every way.

Every scenario is played by the stock `openai` client, by a transport at its first call and by one that has its template.
"""

import asyncio
import email.utils
import gzip
import json
import random
import time
import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise

import httpx2
import msgspec
import openai
import pytest

from duologue.inference import Endpoint, InferenceError
from duologue.inference.transport.transport import Transport
from duologue.tests.inference.fault_server import GOOD, FaultServer, http

PATH, FIELDS = "/chat/completions", {"model": "m", "messages": []}
BODY = msgspec.json.encode(FIELDS)
TIMEOUT_S = 1.0
SHORT = "retry-after-ms: 20"


@dataclass
class Seen:
    """How a call ended, and what the server saw of it."""

    ended: object
    attempts: int
    gaps: list[float]


def chunked(*parts):
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return http(200, framed, "Transfer-Encoding: chunked")


async def hang(writer):
    await asyncio.sleep(4)


async def trickle(writer):
    """A head, then nothing."""
    writer.write(http(200, b"", length=50))
    await writer.drain()
    await asyncio.sleep(4)


async def drop_inside(writer):
    writer.write(http(200, GOOD[:10], length=len(GOOD)))
    await writer.drain()
    writer.close()


async def reset(writer):
    writer.transport.abort()


async def in_pieces(writer):
    """The answer arrives a few bytes at a time."""
    whole = http()
    for start in range(0, len(whole), 7):
        writer.write(whole[start : start + 7])
        await writer.drain()
        await asyncio.sleep(0)


def in_a_second():
    return email.utils.formatdate(time.time() + 2, usegmt=True)  # whole seconds: 1 to 2 from now


SCENARIOS = {
    "good": [http()],
    "created": [http(201)],
    "in pieces": [in_pieces],
    "gzip": [http(200, gzip.compress(GOOD), "Content-Encoding: gzip")],
    "deflate": [http(200, zlib.compress(GOOD), "Content-Encoding: deflate")],
    "chunked": [chunked(GOOD[:5], GOOD[5:])],
    "connection closed by rule": [http(200, GOOD, "Connection: close")],
    "large header": [http(200, GOOD, "X-Large: " + "a" * 20_000)],
    "html": [http(200, b"<html>Maintenance</html>")],
    "error in a 200": [http(200, b'{"error":{"message":"quota"}}')],
    "429 in milliseconds": [http(429, b"{}", SHORT), http()],
    "429 in seconds": [http(429, b"{}", "Retry-After: 1"), http()],
    "429 by date": [lambda writer: by_date(writer), http()],  # noqa: PLW0108  (it is defined below)
    "429 for too long": [http(429, b"{}", "Retry-After: 3600")],
    "429 for ever": [http(429, b'{"error":{"message":"slow down"}}', SHORT)],
    "429 not to be retried": [http(429, b"{}", SHORT, "x-should-retry: false")],
    "400 to be retried": [http(400, b"{}", SHORT, "x-should-retry: true"), http()],
    "500": [http(500, b"{}", SHORT), http()],
    "503 with gzip": [http(503, gzip.compress(b"{}"), SHORT, "Content-Encoding: gzip"), http()],
    "409": [http(409, b"{}", SHORT), http()],
    "408": [http(408, b"{}", SHORT), http()],
    "529": [http(529, b"{}", SHORT), http()],
    "400": [http(400, b'{"error":{"message":"bad","code":"x"}}')],
    "401": [http(401, b'{"error":{"message":"bad key"}}')],
    "403": [http(403, b"not json")],
    "404": [http(404, b"{}")],
    "422": [http(422, b"")],
    "304": [http(304, b"")],
    "dropped": [None, http()],
    "dropped for ever": [None],
    "reset": [reset, http()],
    "dropped inside": [drop_inside, http()],
    "hangs once": [hang, http()],
    "hangs for ever": [hang],
    "hangs inside": [trickle, http()],
    "no http": [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", http()],
    "redirect": [http(307, b"", "Location: /v1/elsewhere"), http()],
    "redirect for good": [http(308, b"", "Location: /v1/elsewhere"), http()],
}
BETTER = {"hangs inside"}  # the stock client's timeout is for every read


async def by_date(writer):
    writer.write(http(429, b"{}", f"Retry-After: {in_a_second()}"))


async def watched(server, call):
    try:
        ended = await call()
    except openai.APIStatusError as error:
        ended = error.status_code
    except openai.APIError:
        ended = "no answer"
    except InferenceError as error:
        ended = error.status or "no answer"
    times = [asked.at for asked in server.asked]
    return Seen(ended, len(times), [b - a for a, b in pairwise(times)])


async def stock(steps):
    async with (
        FaultServer(steps).serving() as server,
        openai.AsyncOpenAI(api_key="none", base_url=server.url) as client,
    ):

        async def call():
            options = {"timeout": httpx2.Timeout(TIMEOUT_S), "max_retries": 1}
            options["headers"] = {"Content-Type": "application/json"}
            return (await client.post(PATH, content=BODY, cast_to=httpx2.Response, options=options)).content

        return await watched(server, call), server


@asynccontextmanager
async def calling(server, **options):
    """Calls through one transport: `await call(body)` returns the bytes of the answer."""
    transport = Transport()
    endpoint = Endpoint(server.url, "m", **({"api_key_env": None, "max_retries": 1, "deadline_s": 30.0} | options))

    async def call(body=FIELDS):
        content = msgspec.json.encode(body)
        return (await transport.post(endpoint, PATH, body, content, lambda raw, *_: raw, "assistant"))[0]

    call.gate = transport.gate(endpoint)
    try:
        yield call
    finally:
        await transport.aclose()


async def by_transport(steps, warm):
    async with (
        FaultServer([http(), *steps] if warm else steps).serving() as server,
        calling(server, timeout_s=TIMEOUT_S) as call,
    ):
        if warm:
            await call()
            server.asked.clear()
            server.steps = steps
        return await watched(server, call), server


@pytest.fixture(scope="module")
def played():
    """All scenarios, three ways, many at once."""

    async def play():
        ways = {"stock": stock, "cold": lambda s: by_transport(s, False), "warm": lambda s: by_transport(s, True)}
        keys = [(name, way) for name in SCENARIOS for way in ways]
        few = asyncio.Semaphore(16)  # more, and the clients' own work would look like a slow server

        async def one(name, way):
            async with few:
                return await ways[way](SCENARIOS[name])

        results = await asyncio.gather(*(one(*key) for key in keys))
        return dict(zip(keys, results, strict=True))

    return asyncio.run(play())


@pytest.mark.parametrize("way", ["cold", "warm"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_it_ends_as_with_the_stock_client(played, name, way):
    (expected, _), (seen, _) = played[name, "stock"], played[name, way]
    assert (seen.ended, seen.attempts) == (expected.ended, expected.attempts)
    for own, theirs in zip(seen.gaps, expected.gaps, strict=True):
        assert own == pytest.approx(theirs, rel=0.35, abs=0.5)  # jitter of a quarter, and a busy machine


def test_the_scenarios_are_what_they_say(played):
    """So that the comparison cannot hold because nothing happened."""
    stock_seen = {name: played[name, "stock"][0] for name in SCENARIOS}
    assert stock_seen["gzip"].ended == stock_seen["chunked"].ended == stock_seen["redirect"].ended == GOOD
    assert stock_seen["429 for ever"].ended == 429
    assert stock_seen["hangs for ever"].ended == stock_seen["dropped for ever"].ended == "no answer"
    assert [stock_seen[name].attempts for name in ("429 in seconds", "429 for too long", "401", "redirect")] == [
        2,
        1,
        1,
        2,
    ]
    assert stock_seen["429 in seconds"].gaps[0] >= 1.0


@pytest.mark.parametrize("way", ["cold", "warm"])
def test_it_sends_what_the_stock_client_sends(played, way):
    own, theirs = (played["500", key][1].asked for key in (way, "stock"))
    connection = {"host", "connection", "accept-encoding"}
    for sent, expected in zip(own, theirs, strict=True):
        assert (sent.line, sent.body) == (expected.line, expected.body)
        keep = lambda headers: {k: v for k, v in headers.items() if k not in connection}
        assert keep(sent.headers) == keep(expected.headers)
    assert [asked.headers["x-stainless-retry-count"] for asked in own] == ["0", "1"]


def run(steps, scene, **server_options):
    async def main():
        server = FaultServer(list(steps), **server_options)
        async with server.serving():
            return await scene(server)

    return asyncio.run(main())


def test_a_key_that_rotates_is_used_at_once_and_the_connection_kept(monkeypatch):
    async def scene(server):
        async with calling(server, api_key_env="ROTATING_KEY") as call:
            for key in ["first", "first", "second", "second"]:
                monkeypatch.setenv("ROTATING_KEY", key)
                await call()
        return server

    server = run([http()], scene)
    assert [asked.headers["authorization"] for asked in server.asked] == [
        "Bearer first",
        "Bearer first",
        "Bearer second",
        "Bearer second",
    ]
    assert server.connections == 1


def test_a_query_of_the_address_comes_after_the_path():
    """As Azure's `api-version` does."""

    async def scene(server):
        endpoint = Endpoint(f"{server.url}/?api-version=2024-10-21&empty=", "m", api_key_env=None)
        transport = Transport()
        for _ in range(2):
            await transport.post(endpoint, PATH, FIELDS, BODY, lambda raw, *_: raw, "assistant")
        await transport.aclose()
        return {asked.line for asked in server.asked}

    assert run([http()], scene) == {"POST /v1/chat/completions?api-version=2024-10-21&empty= HTTP/1.1"}


def test_a_connection_that_the_server_closed_while_idle_costs_no_attempt():
    async def scene(server):
        async with calling(server, max_retries=0) as call:
            for _ in range(3):
                await asyncio.gather(*(call() for _ in range(5)))
                await asyncio.sleep(0.2)
        return len(server.asked)

    assert run([http()], scene, idle_s=0.1) == 15


def test_more_connections_than_any_default_cap_are_open_at_once():
    waiting = []

    async def together(writer):
        waiting.append(writer)
        if len(waiting) == 150:
            for each in waiting:
                each.write(http())

    async def scene(server):
        async with calling(server, max_retries=0, max_concurrency=500) as call:
            await call()
            server.steps = [together]
            return await asyncio.gather(*(call() for _ in range(150)))

    assert run([http()], scene) == [GOOD] * 150


def test_a_redirect_to_another_origin_does_not_get_the_key():
    async def scene(server):
        async with FaultServer([http()]).serving() as other:
            server.steps = [http(307, b"", f"Location: {other.url.replace('127.0.0.1', 'localhost')}/chat/completions")]
            async with calling(server) as call:
                results = [await call(), await call()]
            return results, [asked.headers.get("authorization") for asked in other.asked]

    assert run([http()], scene) == ([GOOD, GOOD], [None, None])


def test_a_cancelled_call_leaves_no_place_and_no_connection_to_others():
    async def slow(writer):
        await asyncio.sleep(0.05)
        writer.write(http(200, b'{"late":1}'))

    async def scene(server):
        async with calling(server, max_retries=0, max_concurrency=1) as call:
            await call()
            server.steps = [http(), slow, http()]
            task = asyncio.create_task(call())
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await call(), sum(call.gate.under_way.values())

    assert run([http()], scene) == (GOOD, 0)


@pytest.mark.parametrize("seed", [0, 1])
def test_no_answer_ever_reaches_another_caller(seed):
    """1,500 calls over shared connections, with delays, refusals, drops and a fifth of the callers going away."""
    rng = random.Random(seed)

    async def scene(server):
        async def echo(writer):
            asked = json.loads(server.asked[-1].body)["id"]
            fate = rng.random()
            await asyncio.sleep(rng.expovariate(1000))
            if fate < 0.05:
                writer.close()
            elif fate < 0.1:
                writer.write(http(rng.choice([429, 500]), b"{}", "retry-after-ms: 1"))
            elif fate < 0.15:
                whole = http(200, json.dumps({"id": asked}).encode())
                writer.write(whole[:40])
                await asyncio.sleep(0.002)
                writer.write(whole[40:])
            else:
                writer.write(http(200, json.dumps({"id": asked, "fill": "x" * rng.randrange(30_000)}).encode()))

        server.steps = [echo]
        async with calling(server, max_retries=3, max_concurrency=64) as call:

            async def ask(number):
                task = asyncio.create_task(call({"id": number}))
                if rng.random() < 0.2:
                    await asyncio.sleep(rng.expovariate(300))
                    task.cancel()
                try:
                    return json.loads(await task)["id"] == number
                except (InferenceError, asyncio.CancelledError):
                    return None

            results = []
            for start in range(0, 1500, 500):
                results += await asyncio.gather(*(ask(start + i) for i in range(500)))
        return results, sum(call.gate.under_way.values())

    results, left = run([http()], scene)
    assert results.count(False) == 0
    assert results.count(True) > 1000
    assert left == 0
