"""Bodies of requests and of answers, decompressed within a bound: a few kilobytes of gzip can hold gigabytes."""

from __future__ import annotations

import zlib


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
        """Whether the data ended where the format says that they end."""
        return self._stream.eof

    def feed(self, data: bytes) -> bytes:
        """Decompresses the next piece.

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
    """A whole body, decompressed.

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
