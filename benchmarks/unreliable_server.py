"""An OpenAI-compatible server that fails in every way that servers are known to fail in, a share of the time.

    python benchmarks/unreliable_server.py SHARE SEED [KIND …]

Prints its address, then answers until its standard input is closed. ``GET /log`` gives what it did: requests, faults by kind,
and how many good answers it gave to each request. A good answer depends on its request alone, and says so: its text ends
with a number that `expected` computes from the messages.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import Any

HANG_S = 30.0
"""Longer than any client of these tests waits."""


def expected(messages: Sequence[dict[str, str]]) -> str:
    """The last word of a good answer to these messages."""
    return hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()[:12]


def completion(body: dict[str, Any], **choice: Any) -> dict[str, Any]:
    """A good answer; ``choice`` replaces parts of it."""
    number = body.get("seed") or 0
    text = f"Here is answer {number} of a few words, and its mark is {expected(body['messages'])}"
    content = [{"token": word, "logprob": -0.1 * (i + 1), "top_logprobs": []} for i, word in enumerate(text.split())]
    first = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if body.get("logprobs"):
        first["logprobs"] = {"content": content}
    usage = {"prompt_tokens": 9, "completion_tokens": len(content), "total_tokens": 9 + len(content)}
    return {"id": "the-same-for-all", "object": "chat.completion", "choices": [first | choice], "usage": usage}


def http(status: int, body: bytes, *headers: str, length: int | None = None, kind: str = "application/json") -> bytes:
    """A whole answer; ``length`` replaces the declared one."""
    declared = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status} Any", f"Content-Type: {kind}", f"Content-Length: {declared}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def said(message: str) -> bytes:
    """An error in OpenAI's shape."""
    return json.dumps({"error": {"message": message, "type": "server_error"}}).encode()


class Server:
    """Answers requests, some of them badly.

    Args:
        share: Of requests that meet a fault.
        seed: Decides which.
        kinds: The faults that are played; all by default.
    """

    def __init__(self, share: float, seed: int, kinds: Sequence[str] = ()) -> None:
        self._share = share
        self._random = random.Random(seed)
        self._kinds = list(kinds) or list(FAULTS)
        self.requests = 0
        self.faults: Counter[str] = Counter()
        self.good: Counter[str] = Counter()

    async def serve(self) -> None:
        """Listens on a free port of this machine until standard input ends."""
        listener = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=2048)
        print(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                if head.startswith("GET /log"):
                    log = {"requests": self.requests, "faults": self.faults, "good": self.good}
                    writer.write(http(200, json.dumps(log).encode()))
                    continue
                headers = dict(line.lower().split(": ", 1) for line in head.strip().split("\r\n")[1:])
                content = await reader.readexactly(int(headers["content-length"]))
                await self._answer(content, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError, _Closed):
            pass  # they hang up, or we, or the server ends
        finally:
            writer.close()

    async def _answer(self, content: bytes, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        body = json.loads(content)
        if self._random.random() < self._share:
            kind = self._random.choice(self._kinds)
            self.faults[kind] += 1
            await FAULTS[kind](body, writer)
            return
        self.good[hashlib.sha256(content).hexdigest()] += 1
        odd = self._random.random()
        message = {"role": "assistant", "content": completion(body)["choices"][0]["message"]["content"]}
        if odd < 0.1:
            message["content"] = f"<think>Let me see.\nScore: 0</think>\n\n{message['content']}"
        elif odd < 0.2:
            message["reasoning_content"] = "Let me see. Score: 0"
        elif odd < 0.25:
            message = {"role": "assistant", "refusal": message["content"]}
        writer.write(http(200, json.dumps(completion(body, message=message)).encode()))
        await writer.drain()


class _Closed(Exception):
    """The server hangs up."""


def _status(
    status: int, *headers: str | Callable[[], str], body: bytes | None = None, kind: str = "application/json"
) -> Any:
    async def fault(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        made = [header if isinstance(header, str) else header() for header in headers]
        writer.write(http(status, said(f"status {status}") if body is None else body, *made, kind=kind))

    return fault


def _ok(body: bytes, kind: str = "application/json") -> Any:
    return _status(200, body=body, kind=kind)


def _altered(**choice: Any) -> Any:
    async def fault(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        writer.write(http(200, json.dumps(completion(request, **choice)).encode()))

    return fault


async def _hang(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(HANG_S)
    raise _Closed


async def _hang_up(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    raise _Closed


async def _close_in_the_middle(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    body = json.dumps(completion(request)).encode()
    writer.write(http(200, body[: len(body) // 2], length=len(body)))
    await writer.drain()
    raise _Closed


async def _truncate(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    body = json.dumps(completion(request)).encode()
    writer.write(http(200, body[: len(body) * 2 // 3]))


async def _drip(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    answer = http(200, json.dumps(completion(request)).encode())
    for i in range(len(answer)):
        writer.write(answer[i : i + 1])
        await writer.drain()
        await asyncio.sleep(0.05)


async def _huge(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(http(200, b"{", length=2**40))
    await writer.drain()
    raise _Closed


async def _not_a_number(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    body = json.dumps(completion(request | {"logprobs": True})).encode()
    writer.write(http(200, body.replace(b"-0.1,", b"NaN,")))


FAULTS: dict[str, Any] = {
    "429": _status(429),
    "429, Retry-After in seconds": _status(429, "Retry-After: 0.1"),
    "429, Retry-After as a date": _status(429, lambda: f"Retry-After: {formatdate(time.time() + 1, usegmt=True)}"),
    "500": _status(500),
    "502 in HTML": _status(502, body=b"<html>Bad gateway</html>", kind="text/html"),
    "503": _status(503, "retry-after-ms: 20"),
    "hangs": _hang,
    "hangs up": _hang_up,
    "closes in the middle": _close_in_the_middle,
    "truncated JSON": _truncate,
    "invalid JSON": _ok(b'{"choices": [oops]}'),
    "empty choices": _ok(b'{"choices": []}'),
    "null content": _altered(message={"role": "assistant", "content": None}),
    "HTML with status 200": _ok(b"<html>Please sign in</html>", kind="text/html"),
    "an error with status 200": _ok(said("overloaded")),
    "huge body": _huge,
    "slow drip": _drip,
    "logprobs that are no numbers": _not_a_number,
}


if __name__ == "__main__":
    asyncio.run(Server(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]).serve())
