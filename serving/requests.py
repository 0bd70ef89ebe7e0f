"""Requests to the server: bounded bodies, their check, and errors in OpenAI's words."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response


class Problem(Exception):
    """A request that cannot be served.

    Attributes:
        status: The HTTP status.
        kind: OpenAI's error ``type``.
        code: OpenAI's error ``code``, if there is one.
        param: Field of the request that the error concerns.
    """

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.code, self.param = status, kind, code, param

    def response(self) -> Response:
        """The response with the error."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        headers = {"Retry-After": "1"} if self.status in (429, 503) else {}
        return Response(msgspec.json.encode({"error": error}), self.status, headers, "application/json")


class ClientGone(Exception):
    """The client has hung up."""


class TooLarge(Exception):
    """A body is longer than its bound."""


class Inflater:
    """Decompresses gzip and deflate piece by piece.

    Args:
        most: Bytes that may come out, in all.
    """

    ENCODINGS = ("gzip", "x-gzip", "deflate")
    """Values of the header ``Content-Encoding`` that it understands."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._stream = _stream()

    @property
    def complete(self) -> bool:
        """Whether the compressed data is complete."""
        return self._stream.eof

    def feed(self, data: bytes) -> bytes:
        """Decompresses the next piece.

        Args:
            data: Compressed bytes.

        Returns:
            Decompressed bytes.

        Raises:
            TooLarge: If more comes out than the bound allows; at most one byte more is made.
            zlib.error: If the data are damaged.
        """
        made = []
        while data:
            if self._stream.eof:  # gzip allows several members, one after the other
                self._stream = _stream()
            piece = self._stream.decompress(data, self._left + 1)
            if len(piece) > self._left:
                raise TooLarge
            self._left -= len(piece)
            made.append(piece)
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        return b"".join(made)


def inflated(content: bytes, most: int) -> bytes:
    """Decompresses a whole body.

    Args:
        content: Compressed body.
        most: Decompressed bytes, at most.

    Returns:
        The decompressed body.

    Raises:
        TooLarge: If it is longer than ``most`` bytes.
        zlib.error: If the data are damaged or cut off.
    """
    inflater = Inflater(most)
    made = inflater.feed(content)
    if content and not inflater.complete:
        raise zlib.error("the data end too early")
    return made


def _stream() -> zlib._Decompress:
    return zlib.decompressobj(zlib.MAX_WBITS | 32)  # reads the header of either format


_KINDS: Mapping[str, tuple[type, str]] = {
    "stream": (bool, "true or false"),
    "stream_options": (dict, "an object"),
    "logprobs": (bool, "true or false"),
    "top_logprobs": (int, "a whole number"),
    "max_tokens": (int, "a whole number"),
    "max_completion_tokens": (int, "a whole number"),
    "seed": (int, "a whole number"),
}
"""What is read here of a request whose answer is made of several of the frozen model's: it must fit before they are paid for."""


def checked(body: object, max_messages: int, max_choices: int) -> dict[str, Any]:
    """Checks the fields that this server reads; the frozen model's server checks all others.

    Args:
        body: The request, decoded.
        max_messages: Messages, at most.
        max_choices: ``n``, at most.

    Returns:
        The request.

    Raises:
        Problem: If one is missing or is of the wrong kind.
    """
    if not isinstance(body, dict):
        raise Problem(400, f"The body must be a JSON object, not {type(body).__name__}")
    if not isinstance(body.get("model"), str):
        raise Problem(400, "`model` must be a text", param="model")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Problem(400, "`messages` must be a list of at least one message", param="messages")
    if len(messages) > max_messages:
        raise Problem(400, f"`messages` holds {len(messages)}, and at most {max_messages} are taken", param="messages")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise Problem(400, f"`messages[{number}]` must be an object with a `role`", param="messages")
    n = body.get("n")
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= max_choices):
        raise Problem(400, f"`n` must be a whole number from 1 to {max_choices}, not {n!r}", param="n")
    for name, (kind, worded) in _KINDS.items():
        value = body.get(name)
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise Problem(400, f"`{name}` must be {worded}, not {str(value)[:100]}", param=name)
    if abs(body.get("seed") or 0) >= 2**63:
        raise Problem(400, "`seed` must be a whole number of 64 bits", param="seed")
    return body
