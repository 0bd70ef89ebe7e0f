"""PostgreSQL, for workers on several machines: one connection, and the cassette's answers in a table.

The address is ``postgresql://user@host:5432/database``. The password is never part of it: libpq finds it in ``PGPASSWORD``
or in ``~/.pgpass``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from .claims import Claims, Execute
from .errors import CassetteError, ConfigError
from .sqlite_answers import Row

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")

SCHEMES = ("postgresql", "postgres")
_LOCK = 0x0D0A106
"""Of all advisory locks of this database, the one under which Duologue makes its tables."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS duologue_answers (
  key bytea PRIMARY KEY, request bytea NOT NULL, body bytea NOT NULL,
  latency_s double precision NOT NULL, created double precision NOT NULL
)
"""

_ADD = "INSERT INTO duologue_answers VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"


def is_address(place: object) -> bool:
    """Whether a place is an address of PostgreSQL, and not a file."""
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
        """Runs an action in a transaction; once more, from its beginning, if the connection was lost.

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
        self._reader = Connection(address, _SCHEMA)
        self._writing = Connection(address, _SCHEMA)  # another one, so that no reader waits for a commit
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
