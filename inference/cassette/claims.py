"""Claims on requests: of several processes that need the same answer one asks, and the others wait for it.

A claim is a lease. Its owner renews it while the request is under way; a process that dies loses it, at once on the same machine
and after `LEASE_S` on another one.
"""

from __future__ import annotations

import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

Execute = Callable[[str, Sequence[Any]], list[Any]]
"""Runs one statement with ``?`` for its values, and returns its rows."""

Transact = Callable[[Callable[[Execute], Any]], Any]
"""Runs an action in a transaction that no other writer can enter."""

LEASE_S = 15.0
"""Seconds after which a claim that is not renewed is void."""

_CLOCKS_S = 60.0
"""By how much the clocks of two machines may differ; a lease that is longer than anybody grants is void."""

MOST = 256
"""Claims in one transaction, at most."""


class Claims:
    """The claims of one process on the answers of a cassette. Blocks; used by one thread at a time.

    Args:
        transact: Runs an action in a transaction of the database.
        prefix: Prefix of the tables' names.
        binary: Its type of binary values.
    """

    def __init__(self, transact: Transact, prefix: str, binary: str) -> None:
        self._transact = transact
        self._table, self._answers = f"{prefix}claims", f"{prefix}answers"
        self._schema = (
            f"CREATE TABLE IF NOT EXISTS {self._table} "
            f"(key {binary} PRIMARY KEY, owner TEXT NOT NULL, until DOUBLE PRECISION NOT NULL)"
        )
        self._made = False
        self.owner = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"

    def claim(self, keys: Iterable[bytes]) -> set[bytes]:
        """Claims requests that are neither claimed nor answered; returns the claimed keys."""
        wanted = sorted(set(keys))  # in order, so that two processes never wait for each other

        def act(execute: Execute) -> set[bytes]:
            if not self._made:
                execute(self._schema, [])
            marks, now = ", ".join("?" * len(wanted)), time.time()
            found = execute(f"SELECT key, owner, until FROM {self._table} WHERE key IN ({marks})", wanted)
            for key, owner, until in found:
                valid = isinstance(until, int | float) and now <= until <= now + LEASE_S + _CLOCKS_S
                if not valid or _is_gone(str(owner)):
                    execute(f"DELETE FROM {self._table} WHERE key = ? AND owner = ?", [key, owner])
            values = [value for key in wanted for value in (key, self.owner, now + LEASE_S)]
            rows = ", ".join(["(?, ?, ?)"] * len(wanted))
            execute(f"INSERT INTO {self._table} VALUES {rows} ON CONFLICT (key) DO NOTHING", values)
            own = execute(f"SELECT key FROM {self._table} WHERE owner = ? AND key IN ({marks})", [self.owner, *wanted])
            # only now: an answer and the end of its claim come in one transaction, which may have ended meanwhile
            answered = execute(f"SELECT key FROM {self._answers} WHERE key IN ({marks})", wanted)
            done = {bytes(row[0]) for row in answered}
            if done:
                gone = ", ".join("?" * len(done))
                execute(f"DELETE FROM {self._table} WHERE owner = ? AND key IN ({gone})", [self.owner, *done])
            return {bytes(row[0]) for row in own} - done

        granted: set[bytes] = self._transact(act)
        self._made = True
        return granted

    def release(self, keys: Sequence[bytes], execute: Execute | None = None) -> None:
        """Releases claims, in a new transaction or in that of ``execute``."""
        if self._made and keys:
            marks = ", ".join("?" * len(keys))
            self._run(execute, f"DELETE FROM {self._table} WHERE owner = ? AND key IN ({marks})", [self.owner, *keys])

    def renew(self) -> None:
        """Extends all claims by the time of a lease."""
        self._run(None, f"UPDATE {self._table} SET until = ? WHERE owner = ?", [time.time() + LEASE_S, self.owner])

    def release_all(self) -> None:
        """Gives all claims up."""
        if self._made:
            self._run(None, f"DELETE FROM {self._table} WHERE owner = ?", [self.owner])

    def _run(self, execute: Execute | None, statement: str, values: Sequence[Any]) -> None:
        if execute is not None:
            execute(statement, values)
        else:
            self._transact(lambda run: run(statement, values))


def _is_gone(owner: str) -> bool:
    """Whether the owner is a process of this machine that has ended, or is malformed."""
    found = re.fullmatch(r"(.+)/([0-9]{1,9})/[^/]*", owner)
    if found is None or not int(found[2]):
        return True
    if os.name != "posix" or found[1] != socket.gethostname():
        return False
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
