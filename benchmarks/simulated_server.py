"""The child process of `simulated_endpoint`: a hand-written protocol on uvloop that parses just enough of HTTP/1.1.

Bodies are rendered once, with gaps for the tag that makes every answer's text its own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import random
import re
import sys
import threading
import time
import zlib
from array import array
from typing import Any

from simulated_endpoint import GENERATION, JUDGE, REFUSED, Behaviour

_VARIANTS = 16
_WORDS = "time year people way day man thing woman life child world school state family group hand part place case week"
_TOP = re.compile(rb'"top_logprobs": ?(\d+)')
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class _Bodies:
    """Rendered answers with gaps for the tag, by model, number of alternatives and variant."""

    def __init__(self, tokens: int, seed: int) -> None:
        self._tokens = tokens
        self._seed = seed
        self._known: dict[tuple[int, int], list[bytes]] = {}

    def chat(self, top: int, tag: int) -> bytes:
        """An answer; ``top`` is the number of alternatives per token, or -1 for no logprobs at all."""
        key = (top, tag % _VARIANTS)
        if key not in self._known:
            self._known[key] = self._render(*key)
        return (b"%08x" % tag).join(self._known[key])

    @staticmethod
    def judge(tag: int) -> bytes:
        """A grade that the `llm` judge can read."""
        return json.dumps(_completion(f"The reply {tag:08x} is considered.\nScore: {tag % 11}", None, 14)).encode()

    def _render(self, top: int, variant: int) -> list[bytes]:
        rng = random.Random(self._seed * _VARIANTS + variant)
        tokens = ["@TAG@", *(f" {rng.choice(_WORDS.split())}" for _ in range(self._tokens - 2)), "."]
        entries = None
        if top >= 0:
            entries = [{**_entry(t, rng), "top_logprobs": [_entry(t, rng) for _ in range(top)]} for t in tokens]
        body = json.dumps(_completion("".join(tokens), entries, self._tokens), separators=(",", ":"))
        return body.encode().split(b"@TAG@")


def _entry(token: str, rng: random.Random) -> dict[str, Any]:
    return {"token": token, "logprob": -round(rng.expovariate(1), 10), "bytes": list(token.encode())}


def _completion(text: str, entries: list[dict[str, Any]] | None, tokens: int) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text, "refusal": None}}
    choice |= {"logprobs": None if entries is None else {"content": entries, "refusal": None}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 300, "completion_tokens": tokens, "total_tokens": 300 + tokens}
    top = {"id": "chatcmpl-simulated", "object": "chat.completion", "created": 1750000000, "model": "simulated"}
    return {**top, "choices": [choice], "usage": usage}


class _Server:
    """What all connections share."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.records = array("d")  # arrival, latency, kind; three numbers a request
        self.count = self.connections = 0
        self._rng = random.Random(behaviour.seed)
        self._bodies = _Bodies(behaviour.tokens, behaviour.seed)
        self._mu = math.log(behaviour.mean_s) - behaviour.sigma**2 / 2  # of a log-normal distribution with this mean
        self._free_at = 0.0  # when the rate limit lets the next request in

    def answer(self, body: bytes) -> tuple[float, bytes | None]:
        """Latency in seconds, and the bytes to send; None drops the connection."""
        b, now = self.behaviour, time.monotonic()
        self.count += 1
        tag = self.count if b.text_by == "counter" else zlib.crc32(body)
        if error := self._error(now):
            self.records.extend((now, 0.0, REFUSED))
            return 0.0, error if error != b"drop" else None
        delay = 0.0
        if b.latency != "none":
            delay = b.mean_s if b.latency == "constant" else self._rng.lognormvariate(self._mu, b.sigma)
        if b'"model":"judge"' in body or b'"model": "judge"' in body:
            self.records.extend((now, delay, JUDGE))
            return delay, _http(200, self._bodies.judge(tag))
        self.records.extend((now, delay, GENERATION))
        top = -1
        if b'"logprobs":true' in body or b'"logprobs": true' in body:
            found = _TOP.search(body)
            top = int(found[1]) if found else 0
        return delay, _http(200, self._bodies.chat(top, tag))

    def _error(self, now: float) -> bytes | None:
        b = self.behaviour
        if b.requests_per_s:
            if self._free_at > now + 1 / b.requests_per_s:
                wait_ms = int(1000 * (self._free_at - now)) + 1
                return _http(429, b'{"error":{"message":"rate limit"}}', b"retry-after-ms: %d\r\n" % wait_ms)
            self._free_at = max(now, self._free_at) + 1 / b.requests_per_s
        if not b.share_429 + b.share_500 + b.share_disconnect:
            return None
        u = self._rng.random()
        if u < b.share_429:
            return _http(429, b'{"error":{"message":"slow down"}}', b"retry-after-ms: 50\r\n")
        if u < b.share_429 + b.share_500:
            return _http(500, b'{"error":{"message":"on purpose"}}')
        return b"drop" if u < b.share_429 + b.share_500 + b.share_disconnect else None

    def plain(self, method: bytes, path: bytes) -> bytes:
        """The endpoints that are not the model's: ``/stats``, ``/records``, ``/reset``."""
        if path == b"/records":
            return _http(200, self.records.tobytes())
        if path == b"/reset":
            self.records = array("d")
        stats = {"arrivals": self.count, "connections": self.connections, "cpu_s": time.process_time()}
        return _http(200 if path in (b"/stats", b"/reset") else 404, json.dumps(stats).encode())


def _http(status: int, body: bytes, headers: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n"
    return head % (status, headers, len(body)) + body


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = _chunk(
    b'data: {"id":"chatcmpl-simulated","object":"chat.completion.chunk","created":1750000000,"model":"simulated",'
    b'"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
)


class _Connection(asyncio.Protocol):
    """One request at a time; what is sent ahead waits in the buffer, so that answers keep their order."""

    def __init__(self, server: _Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server, self._loop = server, loop
        self._buffer, self._busy = b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._server.connections += 1

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        while self._buffer and not self._busy and self._take():
            pass

    def _take(self) -> bool:
        """Takes one whole request out of the buffer; false if there is none yet."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return False
        found = _LENGTH.search(buffer, 0, end)
        stop = end + (int(found[1]) if found else 0)
        if len(buffer) < stop:
            return False
        self._buffer = buffer[stop:]
        method, path, _ = buffer.split(b" ", 2)
        if not path.endswith(b"/chat/completions"):
            self._transport.write(self._server.plain(method, path))
            return True
        if b'"stream":true' in buffer[end:stop] or b'"stream": true' in buffer[end:stop]:
            self._busy = True
            self._server.count += 1
            self._transport.write(_STREAM_HEAD)
            self._stream(0)
            return True
        delay, answer = self._server.answer(buffer[end:stop])
        if delay > 0:
            self._busy = True
            self._loop.call_later(delay, self._send_late, answer)
        else:
            self._send(answer)
        return True

    def _stream(self, sent: int) -> None:
        """One event after another; the last one ends the stream."""
        if self._transport.is_closing():
            return
        if sent == self._server.behaviour.tokens:
            self._transport.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            self._busy = False
            self.data_received(b"")
            return
        self._transport.write(_EVENT)
        self._loop.call_later(self._server.behaviour.mean_s, self._stream, sent + 1)

    def _send_late(self, answer: bytes | None) -> None:
        self._busy = False
        self._send(answer)
        self.data_received(b"")

    def _send(self, answer: bytes | None) -> None:
        if answer is None:
            self._transport.abort()
        elif not self._transport.is_closing():
            self._transport.write(answer)


async def _serve(behaviour: Behaviour) -> None:
    loop = asyncio.get_running_loop()
    server = _Server(behaviour)
    listener = await loop.create_server(lambda: _Connection(server, loop), "127.0.0.1", 0, backlog=4096)
    print(json.dumps({"port": listener.sockets[0].getsockname()[1]}), flush=True)
    await listener.serve_forever()


def main() -> None:
    """Serves until standard input closes."""
    import uvloop

    def follow_parent() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=follow_parent, daemon=True).start()
    gc.disable()  # nothing here makes cycles worth collecting, and a pause would be blamed on the client
    uvloop.run(_serve(Behaviour(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
