"""Operations on a finished cassette: statistics, export, import, pruning, and the lengths of requests and answers."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ...core.errors import ConfigError
from ...core.files import numbered_lines
from ..answers import read_usage
from .cassette import Cassette, pack, unpack
from .database import broken, refuse_code


@dataclass
class ArchiveSource:
    """The answers of one endpoint to one kind of request.

    Attributes:
        endpoint: Address and model.
        path: Such as ``/chat/completions``.
        answers: How many.
        bytes: On disk, compressed.
        prompt_tokens: Sum over the answers, as the server counted.
        completion_tokens: Likewise.
        counted: Answers whose server counted tokens.
        first: Seconds since the epoch, of the oldest.
        last: Likewise, of the newest.
    """

    endpoint: str
    path: str
    answers: int = 0
    bytes: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    counted: int = 0
    first: float = float("inf")
    last: float = float("-inf")


@dataclass
class Stats:
    """A cassette in figures."""

    path: str
    file_bytes: int
    shelves: list[ArchiveSource] = field(default_factory=list)
    damaged: int = 0

    @property
    def answers(self) -> int:
        """All answers that can be read."""
        return sum(shelf.answers for shelf in self.shelves)

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "answers": self.answers}


class _Request(msgspec.Struct):
    endpoint: str = ""
    path: str = ""


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line of an export; ``request`` and ``body`` are exact, because keys are hashes of their bytes."""

    request: str
    body: str
    latency_s: float
    created: float


class PackedRow(NamedTuple):
    """One packed answer, as stored."""

    key: bytes
    request: bytes
    body: bytes
    latency_s: float
    created: float


def stats(path: Path) -> Stats:
    """Counts answers, bytes and tokens by endpoint.

    Args:
        path: The cassette's file.

    Returns:
        The counts.

    Raises:
        ConfigError: If there is no such file.
        CassetteError: If it cannot be read.
    """
    found: dict[tuple[str, str], ArchiveSource] = {}
    with opened(path) as connection:
        files = [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))]
        result = Stats(str(path), sum(file.stat().st_size for file in files if file.exists()))
        for row in rows(connection):
            if (intact := _intact(row)) is None:
                result.damaged += 1
                continue
            request, body = intact
            usage = read_usage(body)
            shelf = found.setdefault((request.endpoint, request.path), ArchiveSource(request.endpoint, request.path))
            shelf.answers += 1
            shelf.bytes += len(row.request) + len(row.body)
            shelf.first, shelf.last = min(shelf.first, row.created), max(shelf.last, row.created)
            if usage is not None and usage.billed is not None:
                shelf.counted += 1
                shelf.prompt_tokens += usage.billed[0]
                shelf.completion_tokens += usage.billed[1]
    result.shelves = sorted(found.values(), key=lambda shelf: -shelf.answers)
    return result


def export(path: Path, to: Path) -> int:
    """Writes every readable answer as one line of JSON; the file is there when it is complete.

    Args:
        path: The cassette's file.
        to: The file to write, JSON lines.

    Returns:
        The number of lines.

    Raises:
        ConfigError: If there is no such cassette, or ``to`` cannot be written.
        CassetteError: If the cassette cannot be read.
    """
    half = to.with_name(to.name + ".partial")
    count = 0
    try:
        with opened(path) as connection, half.open("wb") as file:
            for row in rows(connection):
                try:
                    request, body = unpack(row.request).decode(), unpack(row.body).decode()
                except (zlib.error, UnicodeDecodeError):
                    continue
                file.write(msgspec.json.encode(_Line(request, body, row.latency_s, row.created)) + b"\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        half.replace(to)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise ConfigError(f"{to} cannot be written: {error}") from error
    return count


def import_(path: Path, source: Path) -> tuple[int, int]:
    """Adds the answers of an export, all or none; an answer that is already there stays.

    Args:
        path: The cassette's file.
        source: An export, JSON lines.

    Returns:
        How many were added, and how many lines there were.

    Raises:
        ConfigError: If a line is none of an export.
        CassetteError: If the cassette cannot be written.
    """
    with closing(Cassette(path)) as cassette:
        len(cassette)  # makes the file if there is none
    with opened(path) as connection, connection:
        before, lines = connection.total_changes, 0
        for line in _lines(source):
            lines += 1
            request, body = line.request.encode(), line.body.encode()
            packed = (pack(request), pack(body))
            row = (hashlib.sha256(request).digest(), *packed, line.latency_s, line.created)
            connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)", row)
        return connection.total_changes - before, lines


def prune(
    path: Path, *, endpoint: str | None = None, older_than_days: float | None = None, dry_run: bool = True
) -> int:
    """Removes answers for good: those that match every condition, and those that are damaged.

    Args:
        path: The cassette.
        endpoint: A part of the address or of the model's name.
        older_than_days: Age in days.
        dry_run: Whether they are only counted.

    Returns:
        How many.

    Raises:
        ConfigError: If there is no such file.
        CassetteError: If it cannot be written.
    """
    limit = None if older_than_days is None else time.time() - 86_400 * older_than_days
    keys = []
    with opened(path) as connection:
        for row in rows(connection):
            if (intact := _intact(row)) is None:
                keys.append((row.key,))
                continue
            request, _ = intact
            asked = endpoint is not None or limit is not None
            named = endpoint is None or endpoint in request.endpoint
            if asked and named and (limit is None or row.created < limit):
                keys.append((row.key,))
        if keys and not dry_run:
            with connection:
                connection.executemany("DELETE FROM answers WHERE key = ?", keys)
            connection.execute("VACUUM")
    return len(keys)


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Opens the file of a cassette.

    Args:
        path: The cassette's file.

    Yields:
        The connection, closed at the end.

    Raises:
        ConfigError: If there is no such file.
        CassetteError: If it cannot be used.
    """
    if not path.is_file():
        raise ConfigError(f"there is no cassette at {path}: give its place by `path=…`")
    try:
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            refuse_code(connection)
            yield connection
    except sqlite3.Error as error:
        raise broken(path, "used", error) from error


def rows(connection: sqlite3.Connection) -> Iterator[PackedRow]:
    """Yields every answer, packed as stored."""
    return map(
        PackedRow._make,
        connection.execute("SELECT key, request, body, CAST(latency_s AS REAL), CAST(created AS REAL) FROM answers"),
    )


def _intact(row: PackedRow) -> tuple[_Request, bytes] | None:
    """The request and the body of an answer; None if it is damaged."""
    try:
        return msgspec.json.decode(unpack(row.request), type=_Request), unpack(row.body)
    except (zlib.error, ValueError, RecursionError):
        return None


def _lines(source: Path) -> Iterator[_Line]:
    for number, text in numbered_lines(source):
        try:
            yield msgspec.json.decode(text, type=_Line)
        except msgspec.MsgspecError as error:
            raise ConfigError(
                f"{source}, line {number}: no line of an exported cassette ({error}); nothing was imported"
            ) from error


class Lengths(NamedTuple):
    """Mean lengths of an endpoint's requests and answers.

    Attributes:
        answers: How many were looked at; 0 if the figures are assumed.
        tokens_per_byte: Prompt tokens for a byte of the messages' contents.
        completion_tokens: Mean tokens of an answer.
    """

    answers: int
    tokens_per_byte: float
    completion_tokens: float


class _Contents(msgspec.Struct):
    messages: list[dict[str, Any]] = []


class _Asked(msgspec.Struct):
    endpoint: str = ""
    body: _Contents = msgspec.field(default_factory=_Contents)


def lengths(path: Path, endpoint: str, most: int = 300) -> Lengths | None:
    """Measures an endpoint's lengths on some of its answers.

    Args:
        path: The cassette.
        endpoint: As `Endpoint.identity` says it.
        most: Answers that are looked at.

    Returns:
        The lengths; None if there is no cassette or no answer whose tokens were counted.
    """
    if not path.is_file():
        return None
    answers = size = prompt = completion = 0
    with opened(path) as connection:
        for row in islice(rows(connection), 20 * most):
            try:
                asked = msgspec.json.decode(unpack(row.request), type=_Asked)
                usage = read_usage(unpack(row.body))
            except (zlib.error, ValueError, RecursionError):
                continue
            if asked.endpoint == endpoint and asked.body.messages and usage is not None and usage.prompt_tokens:
                size += sum(len(str(message.get("content")).encode()) for message in asked.body.messages)
                answers, prompt = answers + 1, prompt + usage.prompt_tokens
                completion += usage.completion_tokens or 0
            if answers == most:
                break
    return Lengths(answers, prompt / max(size, 1), completion / answers) if answers else None
