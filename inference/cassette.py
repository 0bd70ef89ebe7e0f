"""A content-addressed store of every request and its answer: what was paid for once is never paid for again.

SQLite in WAL mode, append-only, safe for many processes. An answer counts as kept once its commit has returned, and
`Cassette.keep` returns no sooner, so a process killed at any point loses nothing that its caller had seen.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import threading
import time
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from .errors import CassetteError, CassetteMiss, ConfigError

Mode = Literal["record", "replay", "off"]
"""record: reuse what is there, pay for what is not. replay: a miss is an error. off: neither read nor written."""

KEY_VERSION = 1
"""Raised when the meaning of a key changes, so that old answers are not taken for new ones."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
  key BLOB PRIMARY KEY, request BLOB NOT NULL, body BLOB NOT NULL, latency_s REAL NOT NULL, created REAL NOT NULL
) WITHOUT ROWID
"""


_GATHER_S = 0.004
"""Where answers come thick, so long is waited for more that can share a commit and the way to the writer's thread."""

_ROWS = 64
"""Answers in one statement, at most."""

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


class Recorded(NamedTuple):
    """An answer as the server sent it, and the seconds that it took."""

    body: bytes
    latency_s: float


class _Batch:
    """Answers that share one commit, and its failure, which all of their askers must hear of."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.rows: list[tuple[bytes, bytes, bytes, float, float]] = []
        self.earlier: dict[bytes, Recorded] = {}
        self.error: CassetteError | None = None
        self.over = asyncio.Event()


class Cassette:
    """Requests and answers by content.

    Args:
        path: The SQLite file; made, with its folder, when first needed.
        mode: See `Mode`.

    Raises:
        ConfigError: If ``mode`` is unknown.
    """

    def __init__(self, path: str | Path = ".cache/cassette.sqlite", mode: Mode = "record") -> None:
        if mode not in get_args(Mode):
            raise ConfigError(f"`inference.cassette.mode` must be one of {', '.join(get_args(Mode))}, not `{mode}`")
        self.path = Path(path).expanduser()
        self.mode: Mode = mode
        self._reader = _Connection(self.path)
        self._writing = _Connection(self.path)  # another one, so that no reader waits for a commit
        self._gather = threading.Lock()
        self._pending: _Batch | None = None
        self._crowded = False
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="duologue-cassette")

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

        Returns:
            The answer, or None if it must be asked for.

        Raises:
            CassetteMiss: In replay mode, if it was never recorded.
            CassetteError: If the file cannot be read.
        """
        if self.mode == "off":
            return None
        try:
            with self._reader as connection:
                row = connection.execute("SELECT body, latency_s FROM answers WHERE key = ?", (key,)).fetchone()
            if row is not None:
                return Recorded(unpack(row[0]), row[1])
        except (sqlite3.Error, zlib.error) as error:
            raise broken(self.path, "read", error) from error
        if self.mode == "replay":
            raise CassetteMiss(
                f"{self.path} holds no answer for a request of this run, and `inference.cassette.mode=replay` forbids "
                "asking. Set `inference.cassette.mode=record` to pay for what is missing"
            )
        return None

    async def keep(self, key: bytes, request: bytes, body: bytes, latency_s: float) -> Recorded | None:
        """Stores an answer; returns when it is committed. Answers that arrive together share one commit.

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
        except (sqlite3.Error, OSError) as error:
            batch.error = broken(self.path, "written", error)
            batch.error.__cause__ = error
        except CassetteError as error:
            batch.error = error
        finally:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                batch.loop.call_soon_threadsafe(batch.over.set)

    def _write(self, batch: _Batch) -> None:
        rows = [(key, pack(request), pack(body), *rest) for key, request, body, *rest in batch.rows]
        with self._writing as connection, connection:
            before = connection.total_changes
            for start in range(0, len(rows), _ROWS):  # one statement for many: each gives the interpreter's lock away
                some = rows[start : start + _ROWS]
                values = ", ".join(["(?, ?, ?, ?, ?)"] * len(some))
                connection.execute(f"INSERT OR IGNORE INTO answers VALUES {values}", [v for row in some for v in row])
            stored = connection.total_changes - before
        if stored < len(rows):
            for key, _, body, *_ in batch.rows:
                if (first := self.find(key)) is not None and first.body != body:
                    batch.earlier[key] = first

    def __len__(self) -> int:
        """The number of answers kept."""
        if self.mode == "off":
            return 0
        try:
            with self._reader as connection:
                return int(connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0])
        except sqlite3.Error as error:
            raise broken(self.path, "read", error) from error

    def close(self) -> None:
        """Writes what is pending and closes the file."""
        self._writer.shutdown(wait=True)
        self._reader.close()
        self._writing.close()


class _Connection:
    """A connection that opens when it is first entered, for one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> sqlite3.Connection:
        self._lock.acquire()
        try:
            return self._connection or self._open()
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def _open(self) -> sqlite3.Connection:
        connection = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=30, check_same_thread=False)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(_SCHEMA)
            connection.commit()
        except (OSError, sqlite3.Error) as error:
            if connection is not None:
                connection.close()
            raise broken(self._path, "opened", error) from error
        self._connection = connection
        return connection

    def close(self) -> None:
        """Closes it; entering it again opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def broken(path: Path, verb: str, error: Exception) -> CassetteError:
    """The error of a file that cannot be ``verb``, with the way out."""
    return CassetteError(
        f"the cassette {path} cannot be {verb}: {error}. Mend or move the file, set "
        "`inference.cassette.path` to another place, or set `inference.cassette.mode=off`"
    )
