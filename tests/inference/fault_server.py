"""A server that misbehaves on purpose, byte by byte, for what a well-made server never does."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

GOOD = json.dumps({"choices": [{"message": {"content": "Good."}}], "usage": {"total_tokens": 3}}).encode()


def http(status: int = 200, body: bytes = GOOD, *headers: str, length: int | None = None) -> bytes:
    """A whole answer; ``length`` overrides the declared one."""
    lines = [f"HTTP/1.1 {status} Any", "Content-Type: application/json", *headers]
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in headers):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def refuses(style: str, *names: str, answer: Any = "Fine.") -> Any:
    """An answer for `FakeServer` that refuses a request's parameters one at a time, in a server's own words.

    Args:
        style: ``openai``, ``azure`` or ``vllm``.
        names: What it does not take.
        answer: To a request without them.
    """

    def error(name: str) -> tuple[int, Any]:
        hint = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
        said = f"Unsupported parameter: '{name}' is not supported with this model.{hint}"
        full = {"message": said, "type": "invalid_request_error", "param": name, "code": "unsupported_parameter"}
        match style:
            case "openai":
                return 400, {"error": full}
            case "azure":
                return 400, {"error": {"code": "BadRequest", "message": said}}
            case _:
                message = f"[{{'type': 'extra_forbidden', 'loc': ('body', '{name}'), 'msg': 'Extra inputs are not permitted'}}]"
                return 400, {
                    "object": "error",
                    "message": message,
                    "type": "BadRequestError",
                    "param": None,
                    "code": 400,
                }

    def given(body: dict[str, Any]) -> Any:
        refused = next((name for name in names if name in body), None)
        if refused is not None:
            return error(refused)
        return answer(body) if callable(answer) else answer

    return given


@dataclass
class JudgedRecord:
    """One request as it arrived."""

    at: float
    line: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class FaultServer:
    """Answers the n-th request with the n-th step, and those after the last with the last.

    A step is bytes to send, or a coroutine function that is given the writer. ``None`` closes the connection.
    """

    steps: list[Any]
    asked: list[JudgedRecord] = field(default_factory=list)
    connections: int = 0
    idle_s: float | None = None  # closes connections that were idle for so long
    port: int = 0
    _tasks: set[Any] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["FaultServer"]:
        listener = await asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=tls, backlog=2048)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0.01)  # the transports close themselves in the loop's next rounds

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        number = self.connections
        try:
            while True:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.idle_s)
                line, *rest = head.decode("latin-1").strip().split("\r\n")
                pairs = (entry.split(": ", 1) for entry in rest)
                headers = {name.lower(): value for name, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.asked.append(JudgedRecord(asyncio.get_running_loop().time(), line, headers, body, number))
                step = self.steps[min(len(self.asked), len(self.steps)) - 1]
                if step is None:
                    return
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                else:
                    await step(writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
