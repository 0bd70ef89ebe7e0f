"""What a server says that it counted for one request: the ``usage`` of its answer."""

from __future__ import annotations

import msgspec


class Counted(msgspec.Struct, gc=False):
    """What a server says that it counted for one request; None where it does not say."""

    total_tokens: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.total_tokens is None and self.prompt_tokens is not None:
            self.total_tokens = self.prompt_tokens + (self.completion_tokens or 0)


class _Billed(msgspec.Struct, gc=False):
    usage: Counted | None = None


_BILLED = msgspec.json.Decoder(_Billed)


def read_usage(body: bytes) -> Counted | None:
    """The tokens that a server says it counted; None if it does not say."""
    try:
        return _BILLED.decode(body).usage
    except msgspec.MsgspecError:
        return None
