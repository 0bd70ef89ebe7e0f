"""Errors as OpenAI's API words them."""

from __future__ import annotations

import msgspec
from starlette.responses import Response


class Problem(Exception):
    """A request that cannot be served.

    Attributes:
        status: The HTTP status.
        kind: OpenAI's error ``type``.
        code: OpenAI's error ``code``, if there is one.
        param: Which field of the request is meant, if one is.
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
        """The answer that says so."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        headers = {"Retry-After": "1"} if self.status in (429, 503) else {}
        return Response(msgspec.json.encode({"error": error}), self.status, headers, "application/json")


class ClientGone(Exception):
    """Whoever asked has hung up."""
