"""What many processes spend together, in one table: a SQLite file on one machine, PostgreSQL for several.

Every worker has rows of its own; a sum over all of them is compared with the limits in the same transaction in which a
worker's row grows, so that no two workers can take what is left for one.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from .budget import Amount
from .errors import CassetteError
from .postgres import Connection, is_address
from .sqlite_answers import use_wal

STALE_S = 120.0
"""What a worker set aside counts as coming back as long as it was heard of in so many seconds."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS duologue_spent (
  scope TEXT, worker TEXT, role TEXT, requests BIGINT NOT NULL, tokens BIGINT NOT NULL, usd DOUBLE PRECISION NOT NULL,
  under_way BIGINT NOT NULL, seen DOUBLE PRECISION NOT NULL, PRIMARY KEY (scope, worker, role)
)
"""

_READ = "SELECT role, requests, tokens, usd, under_way, seen FROM duologue_spent WHERE scope = ?"
_BOOK = """
INSERT INTO duologue_spent VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (scope, worker, role) DO UPDATE SET
  requests = duologue_spent.requests + excluded.requests, tokens = duologue_spent.tokens + excluded.tokens,
  usd = duologue_spent.usd + excluded.usd, under_way = duologue_spent.under_way + excluded.under_way, seen = excluded.seen
"""
_SEEN = "UPDATE duologue_spent SET seen = ? WHERE scope = ? AND worker = ?"

Execute = Callable[[str, Sequence[Any]], list[Any]]
"""Runs one statement with ``?`` for its values, and returns its rows."""


class Refusal(NamedTuple):
    """Why an amount could not be taken; and whether some worker may still give back what is missing."""

    reason: str
    may_come_back: bool
    total: Amount


class _Database(Protocol):
    def run(self, action: Callable[[Execute], Any]) -> Any: ...

    def close(self) -> None: ...


class Pot:
    """The common account of all workers of a scope. Blocks; used by one thread at a time.

    Args:
        place: A SQLite file, or the address of a PostgreSQL database.
        scope: Whose account it is, where one database serves several sweeps.
    """

    def __init__(self, place: str, scope: str = "") -> None:
        self.place, self._scope = place, scope
        self._worker = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._database: _Database = _Postgres(place, scope) if is_address(place) else _SQLite(Path(place).expanduser())

    def spent(self) -> dict[str, Amount]:
        """What all workers spent, by role; what is set aside is part of it.

        Raises:
            CassetteError: If the database cannot be used.
        """
        rows = self._database.run(lambda execute: execute(_READ, [self._scope]))
        return _by_role(rows)

    def take(self, role: str, amount: Amount, over: Callable[[Mapping[str, Amount]], str | None]) -> Refusal | None:
        """Sets an amount aside.

        Args:
            role: Who asks.
            amount: How much.
            over: Given what all workers spent by role, which limit the amount would exceed.

        Returns:
            None if it was set aside.

        Raises:
            CassetteError: If the database cannot be used.
        """

        def act(execute: Execute) -> Refusal | None:
            rows = execute(_READ, [self._scope])
            spent = _by_role(rows)
            if (reason := over(spent)) is not None:
                alive = time.time() - STALE_S
                fresh = [row for row in rows if row[4] > 0 and row[5] > alive]
                idle = {name: own for name, own in spent.items() if name not in {row[0] for row in fresh}}
                waiting = bool(fresh) and over(idle) is None  # else it would not fit if all of that came back
                return Refusal(reason, waiting, sum(spent.values(), Amount()))
            self._book(execute, role, amount, 1)
            return None

        refusal: Refusal | None = self._database.run(act)
        return refusal

    def settle(self, role: str, difference: Amount) -> None:
        """Books what was spent in place of what was set aside, as the difference of the two."""
        self._database.run(lambda execute: self._book(execute, role, difference, -1))

    def beat(self) -> None:
        """Says that this worker is alive."""
        self._database.run(lambda execute: execute(_SEEN, [time.time(), self._scope, self._worker]))

    def _book(self, execute: Execute, role: str, amount: Amount, under_way: int) -> None:
        place = [self._scope, self._worker, role]
        execute(_BOOK, [*place, amount.requests, amount.tokens, amount.usd, under_way, time.time()])

    def close(self) -> None:
        """Closes the database."""
        self._database.close()


def _by_role(rows: Sequence[Any]) -> dict[str, Amount]:
    spent: dict[str, Amount] = {}
    for role, requests, tokens, usd, *_ in rows:
        spent[role] = spent.get(role, Amount()) + Amount(requests, tokens, usd)
    return spent


class _SQLite:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def run(self, action: Callable[[Execute], Any]) -> Any:
        try:
            if self._connection is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                options: dict[str, Any] = {"timeout": 60, "check_same_thread": False, "isolation_level": None}
                self._connection = sqlite3.connect(self._path, **options)
                use_wal(self._connection)
                self._connection.execute("PRAGMA synchronous=NORMAL")
                self._connection.execute(_SCHEMA)
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = action(lambda sql, values: connection.execute(sql, values).fetchall())
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
            return result
        except (OSError, sqlite3.Error) as error:
            raise CassetteError(
                f"the shared budget {self._path} cannot be used: {error}. Set `inference.budget.shared` to another place"
            ) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Postgres:
    def __init__(self, address: str, scope: str) -> None:
        self._connection = Connection(address, _SCHEMA)
        self._lock = zlib.crc32(scope.encode())

    def run(self, action: Callable[[Execute], Any]) -> Any:
        def act(cursor: Any) -> Any:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (self._lock,))  # workers of one scope, one by one

            def execute(sql: str, values: Sequence[Any]) -> list[Any]:
                cursor.execute(sql.replace("?", "%s"), values)
                return cursor.fetchall() if cursor.description else []

            return action(execute)

        return self._connection.run(act, "used for the shared budget")

    def close(self) -> None:
        self._connection.close()
