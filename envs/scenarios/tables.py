"""Rows of other people's data: JSON, JSON lines, Parquet, and datasets of Hugging Face's library saved on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from ...core.errors import ConfigError
from ...core.files import decode_json, numbered_lines, read_json


class Row(NamedTuple):
    """One record of a file, with its place.

    Attributes:
        where: Its place for people: ``data.jsonl line 3``.
        raw: The record; bytes where it is JSON that is still to be decoded.
        split: The split that the file says it is of; None if it says nothing.
    """

    where: str
    raw: object
    split: str | None = None

    def record(self) -> dict[str, Any]:
        """The record, decoded.

        Raises:
            ValueError: If it is no JSON, or no object.
        """
        value = decode_json(self.raw) if isinstance(self.raw, bytes) else self.raw
        if not isinstance(value, dict):
            raise ValueError(f"expected an object, not {type(value).__name__}")
        return value


def read_rows(path: Path) -> Iterator[Row]:
    """Yields the rows of a file, or of a folder that `save_to_disk` of Hugging Face's datasets wrote.

    Args:
        path: ``.jsonl``, ``.json`` (a list of objects) or ``.parquet``; or the folder.

    Yields:
        Rows.

    Raises:
        ConfigError: If it cannot be read, or the package that reads it is missing.
    """
    path = path.expanduser()
    if is_dataset(path):
        yield from _dataset(path)
        return
    if path.suffix not in _READERS:
        raise ConfigError(f"{path}: expected .jsonl, .json, .parquet, or a folder with a Hugging Face dataset")
    try:
        yield from _READERS[path.suffix](path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error


def is_dataset(path: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return any((path / name).is_file() for name in ("dataset_dict.json", "dataset_info.json"))


def _lines(path: Path) -> Iterator[Row]:
    yield from (Row(f"{path} line {number}", line) for number, line in numbered_lines(path))


def _list(path: Path) -> Iterator[Row]:
    for number, value in enumerate(read_json(path, list), 1):
        yield Row(f"{path} record {number}", value)


def _parquet(path: Path) -> Iterator[Row]:
    parquet = _needed("pyarrow.parquet")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(1024):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(f"{path} row {number}", value)
    except _needed("pyarrow").ArrowInvalid as error:
        raise ConfigError(f"{path} is no Parquet: {error}") from error


_READERS = {".jsonl": _lines, ".json": _list, ".parquet": _parquet}


def _dataset(path: Path) -> Iterator[Row]:
    """Rows of a `Dataset`, or of all splits of a `DatasetDict`."""
    try:
        found = _needed("datasets").load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no dataset: {error}") from error
    parts = found.items() if isinstance(found, Mapping) else [(None, found)]
    for split, rows in parts:
        place = path if split is None else f"{path}/{split}"
        for number, value in enumerate(rows, 1):
            yield Row(f"{place} row {number}", value, split)


def write_parquet(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Writes records as a Parquet file; values that are objects become JSON.

    Args:
        path: The file to write.
        records: Rows with the same columns.

    Raises:
        ConfigError: If pyarrow is not installed.
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {name: [_flat(record.get(name)) for record in records] for name in names}
    _needed("pyarrow.parquet").write_table(_needed("pyarrow").table(columns), path)


def _flat(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else value


def _needed(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"this needs the package `{str(error.name).partition('.')[0]}`: run `pip install 'duologue[data]'`"
        ) from error
