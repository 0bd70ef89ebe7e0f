"""One budget for many processes, kept in a table of SQLite (one machine) or PostgreSQL (several).

Every worker has rows of its own; a sum over all of them is compared with the limits in the same transaction in which a
worker's row grows, so that no two workers can take what is left for one.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import time
import uuid
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ...core.errors import BudgetSpent, CassetteError
from ...core.settings import construct
from ..cassette.claims import Execute
from ..cassette.database import Connection, is_address, use_wal
from .budget import Amount, Budget, BudgetSettings, Limits

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


class Refusal(NamedTuple):
    """The reason for refusing an amount, and whether a worker may still return the missing part."""

    reason: str
    may_come_back: bool
    total: Amount


class _Database(Protocol):
    def run(self, action: Callable[[Execute], Any]) -> Any: ...

    def close(self) -> None: ...


class SharedBudgetStore:
    """The common account of all workers of a scope. Blocks; used by one thread at a time.

    Args:
        place: A SQLite file, or the address of a PostgreSQL database.
        scope: Name of the sweep, where one database serves several.
    """

    def __init__(self, place: str, scope: str = "") -> None:
        self.place, self._scope = place, scope
        self._worker = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._database: _Database = _Postgres(place, scope) if is_address(place) else _SQLite(Path(place).expanduser())

    def spent(self) -> dict[str, Amount]:
        """The amounts spent by all workers, by role, reserved amounts included.

        Raises:
            CassetteError: If the database cannot be used.
        """
        rows = self._database.run(lambda execute: execute(_READ, [self._scope]))
        return _by_role(rows)

    def take(self, role: str, amount: Amount, over: Callable[[Mapping[str, Amount]], str | None]) -> Refusal | None:
        """Sets an amount aside.

        Args:
            role: Role of the request.
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
        """Replaces a reserved amount by the amount spent, by adding their difference."""
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


_AGAIN_S = 0.2
"""Between two looks whether other workers gave something back."""


class SharedBudget(Budget):
    """Limits that hold for all workers together; `spent` is this worker's own share.

    Args:
        pot: The common account.
        limits: Limits of all workers together.
        roles: Additional limits by role.
    """

    def __init__(
        self, pot: SharedBudgetStore, limits: Limits | None = None, roles: Mapping[str, Limits] | None = None
    ) -> None:
        super().__init__(limits, roles)
        self._store = pot
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="duologue-budget")  # of one thread: in order
        self._beating: asyncio.Task[None] | None = None
        self._broken: BaseException | None = None

    async def reserve(self, role: str, amount: Amount) -> None:
        """Sets an amount aside; waits while this or another worker may give back what is missing.

        Args:
            role: Role of the call.
            amount: What the call may use at most.

        Raises:
            BudgetSpent: If it does not fit, and nothing is set aside that could come back.
            CassetteError: If the common account cannot be used, or could not be when something was settled.
        """
        if self._broken is not None:
            raise CassetteError(str(self._broken)) from self._broken
        while (refusal := await self._take(role, amount)) is not None:
            if not refusal.may_come_back:
                raise BudgetSpent(self._worded(role, refusal.reason, refusal.total, " by all workers"))
            await asyncio.sleep(_AGAIN_S)
        self._open[role] += 1
        self._held[role] = self._held.get(role, Amount()) + amount
        self._book(role, amount)
        if self._beating is None or self._beating.done():
            self._beating = asyncio.create_task(self._beat())

    async def _take(self, role: str, amount: Amount) -> Refusal | None:
        def over(spent: Mapping[str, Amount]) -> str | None:
            return self._over(role, amount, spent)

        def give_back(ended: Future[Refusal | None]) -> None:
            if not ended.cancelled() and ended.exception() is None and ended.result() is None:
                self._submit(role, Amount() - amount)

        taking = self._thread.submit(self._store.take, role, amount, over)
        try:
            return await asyncio.shield(asyncio.wrap_future(taking))
        except asyncio.CancelledError:
            taking.add_done_callback(give_back)  # whoever asked went away: what was set aside must not stay so
            raise

    def settle(self, role: str, reserved: Amount, actual: Amount) -> None:
        """Replaces a reserved amount by the amount spent."""
        super().settle(role, reserved, actual)
        self._submit(role, actual - reserved)

    def _submit(self, role: str, difference: Amount) -> None:
        with suppress(RuntimeError):  # the run is over: what is set aside stays booked, which errs on the safe side
            self._thread.submit(self._store.settle, role, difference).add_done_callback(self._note)

    def _note(self, settled: Future[Any]) -> None:
        """Remembers the first failure to book something; the next request raises it."""
        if self._broken is None and not settled.cancelled():
            self._broken = settled.exception()

    async def _beat(self) -> None:
        """Updates this worker's heartbeat while it holds reservations."""
        while self._open.total():
            await asyncio.sleep(STALE_S / 6)
            self._thread.submit(self._store.beat).add_done_callback(self._note)

    def close(self) -> None:
        """Writes pending amounts and closes the shared store; warns about amounts that could not be written."""
        self._thread.shutdown(wait=True)
        self._store.close()
        if self._broken is not None:
            warnings.warn(f"the shared budget lacks what was spent last: {self._broken}", stacklevel=2)


def budget_from_settings(settings: Mapping[str, Any] | None, where: str = "inference.budget") -> Budget:
    """Builds the budget of a configuration: one for this process, or one that all workers of a sweep share.

    Args:
        settings: YAML values, see `BudgetSettings`; None for no limits.
        where: The setting's full name, for error messages.

    Returns:
        A `SharedBudget` if the settings name a common place and at least one limit.

    Raises:
        ConfigError: If a name is unknown or a value is refused.
    """
    values = construct(BudgetSettings, settings or {}, where)
    limits = {"requests": values.requests, "tokens": values.tokens, "usd": values.usd}
    roles = {role: construct(Limits, own or {}, f"{where}.roles.{role}") for role, own in (values.roles or {}).items()}
    whole = construct(Limits, limits, where)
    if values.shared and (whole.any or any(own.any for own in roles.values())):
        return SharedBudget(SharedBudgetStore(values.shared, values.scope), whole, roles)
    return Budget(whole, roles)
