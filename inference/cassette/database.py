"""The cassette's tables in SQLite (one machine) and PostgreSQL (several machines)."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from ...core.errors import CassetteError, ConfigError
from .claims import Claims, Execute

_SQLITE_SCHEMA = """
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
        self.claims = Claims(self._transact, "", "BLOB")

    def find(self, key: bytes) -> tuple[bytes, float] | None:
        """Looks an answer up.

        Args:
            key: Key of the request.

        Returns:
            The packed body and its latency in seconds; None if there is none.

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
        """Commits the rows whose keys are new.

        Args:
            rows: Keys with their answers.

        Returns:
            How many rows were new.

        Raises:
            CassetteError: If the file cannot be written.
        """
        try:
            with self._writing as connection, connection:
                self.claims.release([row[0] for row in rows], connection.execute)  # type: ignore[arg-type]
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

    def discard(self, key: bytes, body: bytes) -> None:
        """Removes an answer if it is still this packed body.

        Args:
            key: Key of the request.
            body: The packed body to remove.

        Raises:
            CassetteError: If the file cannot be written.
        """
        self._transact(lambda execute: execute("DELETE FROM answers WHERE key = ? AND body = ?", [key, body]))

    def _transact(self, action: Callable[[Execute], Any]) -> Any:
        try:
            with self._writing as connection, connection:
                connection.execute("BEGIN IMMEDIATE")
                return action(lambda statement, values: connection.execute(statement, values).fetchall())
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
            connection.execute(_SQLITE_SCHEMA)
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
    """Refuses a file with views or triggers: somebody else's could compute or delete anything.

    Args:
        connection: An open connection to the file.

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


if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")

SCHEMES = ("postgresql", "postgres")
_LOCK = 0x0D0A106
"""Of all advisory locks of this database, the one under which Duologue makes its tables."""

_POSTGRES_SCHEMA = """
CREATE TABLE IF NOT EXISTS duologue_answers (
  key bytea PRIMARY KEY, request bytea NOT NULL, body bytea NOT NULL,
  latency_s double precision NOT NULL, created double precision NOT NULL
)
"""

_ADD = "INSERT INTO duologue_answers VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"


def is_address(place: object) -> bool:
    """Whether a place is a PostgreSQL address rather than a file."""
    return isinstance(place, str) and urlsplit(place).scheme in SCHEMES


class Connection:
    """A connection that opens when it is first used and once more when it was lost; for one thread at a time.

    Args:
        address: See the module's docstring.
        schema: Statement that makes the table.

    Raises:
        ConfigError: If the address holds a password, or the package is missing.
    """

    def __init__(self, address: str, schema: str) -> None:
        if urlsplit(address).password:
            raise ConfigError(
                "the address of a PostgreSQL database must not hold a password, because run folders keep it: set the "
                "variable `PGPASSWORD`, or write it to ~/.pgpass"
            )
        try:
            import psycopg
        except ImportError as error:
            raise ConfigError(f"{address} needs psycopg: run `pip install 'duologue[postgres]'`") from error
        self._driver = psycopg
        self.address, self._schema = address, schema
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        self._lock = threading.Lock()

    def run(self, action: Callable[[psycopg.Cursor[tuple[object, ...]]], T], verb: str) -> T:
        """Runs an action in a transaction; repeats it once if the connection was lost.

        Args:
            action: Gets a cursor.
            verb: What the action does, for error messages.

        Returns:
            The action's result.

        Raises:
            CassetteError: If the database cannot be ``verb``.
        """
        with self._lock:
            for last in (False, True):
                try:
                    with self._opened().transaction(), self._opened().cursor() as cursor:
                        return action(cursor)
                except self._driver.Error as error:
                    lost = self._connection is None or self._connection.broken
                    if lost:
                        self._close()
                    if last or not lost:
                        raise CassetteError(
                            f"the database {self.address} cannot be {verb}: {' '.join(str(error).split())}. Check that it "
                            "runs and that this user may make tables in it"
                        ) from error
        raise AssertionError("unreachable")

    def _opened(self) -> psycopg.Connection[tuple[object, ...]]:
        if self._connection is None:
            connection = self._driver.connect(self.address, connect_timeout=10, autocommit=True)
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))  # `IF NOT EXISTS` alone races
                connection.execute(self._schema)
            self._connection = connection
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Closes it; using it again opens it again."""
        with self._lock:
            self._close()


class PostgresAnswers:
    """Answers by key, as `SQLiteAnswers` keeps them.

    Args:
        address: See the module's docstring.
    """

    def __init__(self, address: str) -> None:
        self._reader = Connection(address, _POSTGRES_SCHEMA)
        self._writing = Connection(address, _POSTGRES_SCHEMA)  # another one, so that no reader waits for a commit
        self.claims = Claims(self._transact, "duologue_", "bytea")

    def find(self, key: bytes) -> tuple[bytes, float] | None:
        """The packed body and its seconds; None if there is none."""

        def read(cursor: psycopg.Cursor[tuple[object, ...]]) -> tuple[object, ...] | None:
            return cursor.execute("SELECT body, latency_s FROM duologue_answers WHERE key = %s", (key,)).fetchone()

        found = self._reader.run(read, "read")
        return None if found is None else (bytes(found[0]), float(str(found[1])))  # type: ignore[call-overload]

    def add(self, rows: Sequence[Row]) -> int:
        """Commits the rows whose keys are not there; returns how many those were."""

        def write(cursor: psycopg.Cursor[tuple[object, ...]]) -> int:
            self.claims.release([row[0] for row in rows], _executing(cursor))
            cursor.executemany(_ADD, rows)
            return cursor.rowcount

        return self._writing.run(write, "written")

    def discard(self, key: bytes, body: bytes) -> None:
        """Removes an answer if it is still this packed body."""
        statement = "DELETE FROM duologue_answers WHERE key = ? AND body = ?"
        self._transact(lambda execute: execute(statement, [key, body]))

    def _transact(self, action: Callable[[Execute], Any]) -> Any:
        return self._writing.run(lambda cursor: action(_executing(cursor)), "written")

    def count(self) -> int:
        """The number of answers."""
        return self._reader.run(
            lambda cursor: int(str((cursor.execute("SELECT COUNT(*) FROM duologue_answers").fetchone() or (0,))[0])),
            "read",
        )

    def close(self) -> None:
        """Closes the connections."""
        self._reader.close()
        self._writing.close()


def _executing(cursor: psycopg.Cursor[tuple[object, ...]]) -> Execute:
    def execute(statement: str, values: Sequence[Any]) -> list[Any]:
        cursor.execute(statement.replace("?", "%s").encode(), values)
        return cursor.fetchall() if cursor.description else []

    return execute
