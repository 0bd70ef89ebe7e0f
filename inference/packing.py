"""Texts as the cassette stores them: compressed if they are long, and with a checksum in either case."""

from __future__ import annotations

import zlib

_SMALL = 4096
"""Bytes of a text that is not worth compressing."""

MOST_BYTES = 2**28
"""Bytes of a text that is read, as many as of an answer: in a cassette from somebody else, a small row could unpack to any length."""

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
        zlib.error: If it is damaged, no bytes at all, or longer than any answer.
    """
    if not isinstance(stored, bytes):  # SQLite's columns take values of every type
        raise zlib.error(f"it is a {type(stored).__name__}")
    if not stored.startswith(_PLAIN):
        unpacking = zlib.decompressobj()
        text = unpacking.decompress(stored, MOST_BYTES)
        if not unpacking.eof:
            long = unpacking.unconsumed_tail or len(text) == MOST_BYTES
            raise zlib.error(f"it is longer than {MOST_BYTES:,} bytes" if long else "its end is missing")
        return text
    if zlib.crc32(stored[:-4]).to_bytes(4, "big") != stored[-4:]:
        raise zlib.error("the checksum does not fit")
    return stored[:-4]
