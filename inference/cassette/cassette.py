"""A content-addressed store of every request and its answer: nothing is paid for twice."""

from __future__ import annotations

import asyncio
import hashlib
import math
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

import msgspec

from ...core.errors import CassetteError, CassetteMiss, ConfigError
from .claims import Claims
from .database import PostgresAnswers, Row, SQLiteAnswers, broken, is_address

_SMALL = 4096
"""Bytes of a text that is not worth compressing."""

MOST_BYTES = 2**28
"""Bytes of a text that is read, as many as of an answer: in a cassette from somebody else, a small row could unpack to any length."""

_PLAIN = b"{"
"""How a text begins that is stored as it is; nothing compressed begins so."""


def pack(text: bytes) -> bytes:
    """Packs a text for storage: compressed if it is long, always with a checksum."""
    if len(text) < _SMALL and text.startswith(_PLAIN):
        return text + zlib.crc32(text).to_bytes(4, "big")
    return zlib.compress(text, 1)


def unpack(stored: bytes) -> bytes:
    """The inverse of `pack`.

    Args:
        stored: What `pack` returned.

    Returns:
        The original bytes.

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


Mode = Literal["record", "replay", "off"]
"""record: reuse what is there, pay for what is not. replay: a miss is an error. off: neither read nor written."""

KEY_VERSION = 1
"""Raised when the meaning of a key changes, so that old answers are not taken for new ones."""

DEFAULT_PLACE = ".cache/cassette.sqlite"
"""Where answers are kept if nothing else is said."""

_GATHER_S = 0.004
"""Where answers come thick, so long is waited for more that can share a commit and the way to the writer's thread."""


class Answers(Protocol):
    """Storage of packed answers by key. Reading and writing happen in different threads.

    Every method raises `CassetteError` if the place cannot be used.
    """

    claims: Claims

    def find(self, key: bytes) -> tuple[bytes, float] | None:
        """The packed body and its seconds; None if there is none."""
        ...

    def add(self, rows: Sequence[Row]) -> int:
        """Commits the rows whose keys are not there; returns how many those were."""
        ...

    def count(self) -> int:
        """The number of answers."""
        ...

    def discard(self, key: bytes, body: bytes) -> None:
        """Removes an answer if it is still this packed body."""
        ...

    def close(self) -> None:
        """Closes the connections; the next use opens them again."""
        ...


class Recorded(NamedTuple):
    """An answer as the server sent it, and the seconds that it took."""

    body: bytes
    latency_s: float


class _Batch:
    """Answers that share one commit, and its failure, which all of their askers must hear of."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.rows: list[Row] = []
        self.earlier: dict[bytes, Recorded] = {}
        self.error: CassetteError | None = None
        self.over = asyncio.Event()


class Cassette:
    """Requests and answers by content.

    Args:
        path: The SQLite file; made, with its folder, when first needed. Or a PostgreSQL database that workers on several
            machines share, as ``postgresql://user@host/database``.
        mode: See `Mode`.

    Raises:
        ConfigError: If ``mode`` is unknown.
    """

    def __init__(self, path: str | Path = DEFAULT_PLACE, mode: Mode = "record") -> None:
        if mode not in get_args(Mode):
            raise ConfigError(f"`inference.cassette.mode` must be one of {', '.join(get_args(Mode))}, not `{mode}`")
        self.mode: Mode = mode
        self.path = Path(path).expanduser()
        self.place: Path | str = str(path) if is_address(path) else self.path
        self._answers: Answers = PostgresAnswers(str(path)) if is_address(path) else SQLiteAnswers(self.path)
        self._gather = threading.Lock()
        self._pending: _Batch | None = None
        self._crowded = False
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="duologue-cassette")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="duologue-cassette-reader")

    @staticmethod
    def key(request: Mapping[str, Any]) -> tuple[bytes, bytes]:
        """The address of a request.

        Args:
            request: Everything that decides the answer: kind, endpoint identity, body and sample index.

        Returns:
            The SHA-256 digest and the canonical JSON that it was taken of.
        """
        canonical = msgspec.json.encode({"version": KEY_VERSION, **request}, order="deterministic")
        return hashlib.sha256(canonical).digest(), canonical

    def find(self, key: bytes) -> Recorded | None:
        """Looks an answer up.

        Args:
            key: Key of the request.

        Returns:
            The answer, or None if it must be asked for.

        Raises:
            CassetteMiss: In replay mode, if it was never recorded.
            CassetteError: If the file cannot be read.
        """
        if self.mode == "off":
            return None
        if (found := self._answers.find(key)) is not None:
            body, seconds = found
            try:
                if not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
                    raise zlib.error(f"the seconds of an answer are {seconds!r}")
                return Recorded(unpack(body), seconds)
            except zlib.error as error:
                raise broken(self.place, "read", error) from error
        if self.mode == "replay":
            raise CassetteMiss(
                f"{self.place} holds no answer for a request of this run, and `inference.cassette.mode=replay` forbids "
                "asking. Set `inference.cassette.mode=record` to pay for what is missing"
            )
        return None

    async def look_up(self, key: bytes) -> Recorded | None:
        """Does what `find` does without blocking the event loop: a database elsewhere is asked on another thread."""
        if self.mode == "off" or isinstance(self._answers, SQLiteAnswers):
            return self.find(key)
        return await asyncio.get_running_loop().run_in_executor(self._reader, self.find, key)

    async def claim(self, keys: Sequence[bytes]) -> list[bool]:
        """Claims requests, so that no other process makes them at the same time; see `claims`.

        Args:
            keys: Keys of the requests.

        Returns:
            For each whether it is ours to make; if not, another process makes it, or its answer has come.

        Raises:
            CassetteError: If the file cannot be written.
        """
        if self.mode != "record":
            return [True] * len(keys)
        granted = await asyncio.get_running_loop().run_in_executor(self._writer, self._answers.claims.claim, keys)
        return [key in granted for key in keys]

    def release(self, key: bytes) -> None:
        """Gives a claim up, because its request failed."""
        self._later(self._answers.claims.release, [key])

    def renew(self) -> None:
        """Renews the claims of running requests."""
        self._later(self._answers.claims.renew)

    def _later(self, action: Callable[..., None], *values: Any) -> None:
        """Does something in the writer's thread; a failure costs no more than that others wait for a lease's end."""

        def act() -> None:
            with suppress(CassetteError):
                action(*values)

        if self.mode == "record":
            with suppress(RuntimeError):  # the cassette is closed
                self._writer.submit(act)

    async def discard(self, key: bytes, body: bytes) -> None:
        """Removes an unusable answer, so that a better one can take its place.

        Args:
            key: Key of the request.
            body: The answer to remove
            any other answer stays.:

        Raises:
            CassetteError: If the file cannot be written.
        """
        if self.mode == "record":
            await asyncio.get_running_loop().run_in_executor(self._writer, self._answers.discard, key, pack(body))

    async def keep(self, key: bytes, request: bytes, body: bytes, latency_s: float) -> Recorded | None:
        """Stores an answer; returns when it is committed. Answers that arrive together share one commit.

        Args:
            key: Key of the request.
            request: The request as the key was computed from it.
            body: The answer's bytes.
            latency_s: Seconds that the request took.

        Returns:
            The answer that another process had stored before, which stays; None if this one was stored.

        Raises:
            CassetteError: If the file cannot be written.
        """
        if self.mode == "off":
            return None
        loop = asyncio.get_running_loop()
        with self._gather:
            batch = self._pending
            if batch is None or batch.loop is not loop:
                batch = self._pending = _Batch(loop)
                self._writer.submit(self._flush, batch)
            batch.rows.append((key, request, body, latency_s, time.time()))
        await batch.over.wait()
        if batch.error is not None:
            raise batch.error
        return batch.earlier.get(key)

    def _flush(self, batch: _Batch) -> None:
        """Writes a batch; runs in the writer's thread, while the next batch gathers."""
        if self._crowded:
            time.sleep(_GATHER_S)
        with self._gather:
            if self._pending is batch:
                self._pending = None
        self._crowded = len(batch.rows) > 1
        try:
            self._write(batch)
        except CassetteError as error:
            batch.error = error
        except BaseException as error:  # noqa: BLE001  (whoever waits must not take it for kept)
            batch.error = CassetteError(f"the cassette {self.place} cannot be written: {type(error).__name__}: {error}")
        finally:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                batch.loop.call_soon_threadsafe(batch.over.set)

    def _write(self, batch: _Batch) -> None:
        rows = [(key, pack(request), pack(body), latency_s, at) for key, request, body, latency_s, at in batch.rows]
        stored = self._answers.add(rows)
        if stored < len(rows):
            for key, _, body, *_ in batch.rows:
                if (first := self.find(key)) is not None and first.body != body:
                    batch.earlier[key] = first

    def __len__(self) -> int:
        """The number of answers kept."""
        if self.mode == "off":
            return 0
        return self._answers.count()

    def close(self) -> None:
        """Writes pending answers and closes the file."""
        self._later(self._answers.claims.release_all)
        self._writer.shutdown(wait=True)
        self._reader.shutdown(wait=True)
        self._answers.close()
