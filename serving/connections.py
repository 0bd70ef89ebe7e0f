"""The HTTP server beneath the application: connections with bounds on bytes, time and number.

A client needs no key to open a connection. So whatever happens before the application sees a request is bounded here: the bytes
of a request's head, the seconds that a request may take to arrive, the seconds that a client may leave its answer unread, and
the number of connections.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from .app import Limits
from .monitoring import Metrics
from .requests import Problem

_KEEP_ALIVE_S = 75
"""Idle seconds before a connection is closed: longer than clients keep theirs, so that none is closed while they send on it."""

_LOOKS = 4
"""How often a connection is looked at while `Limits.client_timeout_s` passes."""


class Config(uvicorn.Config):
    """The configuration of `Server`, with the limits of its connections.

    Args:
        app: The application.
        limits: Limits of the server.
        metrics: Metrics that count connections closed for their limits.
        drain_s: Seconds for requests under way after SIGTERM.
    """

    def __init__(self, app: Starlette, limits: Limits, metrics: Metrics, drain_s: int = 30) -> None:
        super().__init__(
            app,
            port=0,
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=drain_s,
        )
        self.limits, self.metrics = limits, metrics
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # a request needs a second one, to the frozen model
        self.max_connections = max(8, min(limits.max_connections, files // 2))


class Server(uvicorn.Server):
    """A server that reports when it accepts connections. A second signal ends it at once.

    Args:
        config: See `Config`.
        started: Called once connections are accepted.
    """

    def __init__(self, config: Config, started: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self._report = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen."""
        await super().startup(sockets=sockets)
        if self.started:
            self._report()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends after the running requests; the second signal ends at once."""
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)


class Connection(HttpToolsProtocol):
    """One client's connection, see `Limits`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits, self._metrics, self._most = config.limits, config.metrics, config.max_connections
        self._pending = 0  # bytes since the parser last found the end of a head, or a piece of a body
        self._ignored = 0  # bytes of a body that came after the answer
        self._receiving = True  # a request is awaited for the first time, or has begun and is not whole
        self._begun = False  # a request has begun and is not whole
        self._mark = self.loop.time()  # since when it is so
        self._unread_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        cycle = self.cycle
        return bool(self.pipeline) or (cycle is not None and not cycle.response_complete and not cycle.more_body)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Makes room where there are too many connections: the one that has kept the server waiting longest is closed."""
        super().connection_made(transport)
        self._look_later()
        if len(self.connections) > self._most:
            waiting = [one for one in self.connections if isinstance(one, Connection) and not one.busy]
            oldest = min(waiting, key=lambda one: one._mark, default=self)
            self._metrics.refused_connections.labels("too many").inc()
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clock."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses what came, at most ``max_header_bytes`` of a head."""
        if not self._receiving:
            self._receiving, self._mark = True, self.loop.time()
        most = self._limits.max_header_bytes
        while len(data) > most - self._pending:
            piece, data = data[: most - self._pending], data[most - self._pending :]
            self._pending += len(piece)
            super().data_received(piece)
            if self.transport.is_closing():
                return
            if self._pending >= most:
                self._refuse(431, f"The request's head is longer than {most:,} bytes", "head too long")
                return
        self._pending += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """The head of a request begins."""
        self._ignored = 0
        self._receiving = self._begun = True
        self._mark = self.loop.time()
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """A piece of the body; what comes after the answer is ignored, but not for ever."""
        self._pending = 0
        if self.cycle.response_complete:
            self._ignored += len(body)
            if self._ignored > self._limits.max_body_bytes:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._pending = 0
        self._receiving = self._begun = False
        self._mark = self.loop.time()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """From here on the connection is idle."""
        if not self._receiving:
            self._mark = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Called when the client reads too slowly."""
        self._unread_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client has read."""
        self._unread_since = None
        super().resume_writing()

    def _look_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self._limits.client_timeout_s / _LOOKS, self._look)

    def _look(self) -> None:
        """Closes the connection if the client is late. One timer for all requests: it costs nothing while they come and go."""
        late = self.loop.time() - self._limits.client_timeout_s
        if self._unread_since is not None and self._unread_since <= late:
            self._metrics.refused_connections.labels("answer not read").inc()
            self.transport.abort()
        elif self.transport.is_closing():
            if self._closing and self._mark <= late:
                self.transport.abort()
            elif not self._closing:
                self._closing, self._mark = True, self.loop.time()
            self._look_later()
        elif self._receiving and self._mark <= late and not self.busy:
            self._refuse(408, f"The request was not whole after {self._limits.client_timeout_s:g} s", "too slow")
        else:
            self._look_later()

    def _refuse(self, status: int, message: str, reason: str) -> None:
        """Closes the connection; a client with an unanswered request gets an error."""
        self._metrics.refused_connections.labels(reason).inc()
        cycle = self.cycle
        answered = cycle is not None and cycle.response_started and (cycle.more_body or not cycle.response_complete)
        if self._begun and not answered:
            response = Problem(status, message).response()
            headers = [*response.raw_headers, (b"connection", b"close")]
            lines = [b"HTTP/1.1 %d \r\n" % status, *(name + b": " + value + b"\r\n" for name, value in headers)]
            self.transport.write(b"".join([*lines, b"\r\n", bytes(response.body)]))
        self.transport.close()
        self._look_later()  # in case that the client does not read this, either
