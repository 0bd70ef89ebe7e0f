"""Texts as the cassette stores them: compressed if they are long, and with a checksum in either case."""

from __future__ import annotations

import zlib

_SMALL = 4096
"""Bytes of a text that is not worth compressing."""

_PLAIN = b"{"
"""How a text begins that is stored as it is; nothing compressed begins so."""


def pack(text: bytes) -> bytes:
    """A text as it is stored: compressed if it is long, with a checksum in either case."""
    if len(text) < _SMALL and text.startswith(_PLAIN):
        return text + zlib.crc32(text).to_bytes(4, "big")
    return zlib.compress(text, 1)


def unpack(stored: bytes) -> bytes:
    """The inverse of `pack`.

    Raises:
        zlib.error: If it is damaged.
    """
    if not stored.startswith(_PLAIN):
        return zlib.decompress(stored)
    if zlib.crc32(stored[:-4]).to_bytes(4, "big") != stored[-4:]:
        raise zlib.error("the checksum does not fit")
    return stored[:-4]
