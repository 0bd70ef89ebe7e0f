"""The cassette's answers in a SQLite file in WAL mode: for all processes of one machine."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from .errors import CassetteError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
  key BLOB PRIMARY KEY, request BLOB NOT NULL, body BLOB NOT NULL, latency_s REAL NOT NULL, created REAL NOT NULL
) WITHOUT ROWID
"""

_WAIT_S = 30.0
"""For what another process is writing."""

_ROWS = 64
"""Answers in one statement, at most."""

Row = tuple[bytes, bytes, bytes, float, float]
"""Key, request and body as packed, seconds that the answer took, seconds since the epoch when it came."""


class SQLiteAnswers:
    """Answers by key.

    Args:
        path: The file; made, with its folder, when first needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = _Connection(path)
        self._writing = _Connection(path)  # another one, so that no reader waits for a commit

    def find(self, key: bytes) -> tuple[bytes, float] | None:
        """The packed body and its seconds; None if there is none.

        Raises:
            CassetteError: If the file cannot be read.
        """
        try:
            with self._reader as connection:
                found = connection.execute("SELECT body, latency_s FROM answers WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise broken(self._path, "read", error) from error
        return None if found is None else (found[0], found[1])

    def add(self, rows: Sequence[Row]) -> int:
        """Commits the rows whose keys are not there; returns how many those were.

        Raises:
            CassetteError: If the file cannot be written.
        """
        try:
            with self._writing as connection, connection:
                before = connection.total_changes
                # one statement for many: each gives the interpreter's lock away
                for start in range(0, len(rows), _ROWS):
                    some = rows[start : start + _ROWS]
                    values = ", ".join(["(?, ?, ?, ?, ?)"] * len(some))
                    sent = [value for row in some for value in row]
                    connection.execute(f"INSERT OR IGNORE INTO answers VALUES {values}", sent)
                return connection.total_changes - before
        except (sqlite3.Error, OSError) as error:
            raise broken(self._path, "written", error) from error

    def count(self) -> int:
        """The number of answers.

        Raises:
            CassetteError: If the file cannot be read.
        """
        try:
            with self._reader as connection:
                return int(connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0])
        except sqlite3.Error as error:
            raise broken(self._path, "read", error) from error

    def close(self) -> None:
        """Closes the file; using it again opens it again."""
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
            connection = sqlite3.connect(self._path, timeout=_WAIT_S, check_same_thread=False)
            refuse_code(connection)
            use_wal(connection)
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


def refuse_code(connection: sqlite3.Connection) -> None:
    """Refuses a file with views or triggers: in one that somebody else made they would compute or delete anything.

    Raises:
        sqlite3.DatabaseError: If it holds one.
    """
    connection.execute("PRAGMA trusted_schema=OFF")
    found = connection.execute("SELECT type, name FROM sqlite_master WHERE type IN ('view', 'trigger')").fetchone()
    if found is not None:
        raise sqlite3.DatabaseError(f"it holds the {found[0]} {found[1]!r}, and a cassette has tables only")


def use_wal(connection: sqlite3.Connection) -> None:
    """Turns the file to WAL; where two processes do so with a new one at once, SQLite itself does not wait."""
    until = time.monotonic() + _WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(0.01)


def broken(path: Path | str, verb: str, error: Exception) -> CassetteError:
    """The error of a cassette that cannot be ``verb``, with the way out."""
    return CassetteError(
        f"the cassette {path} cannot be {verb}: {error}. Mend or move the file, set "
        "`inference.cassette.path` to another place, or set `inference.cassette.mode=off`"
    )
