"""Rows of named columns, out of csv, tsv, jsonl and parquet files, each plain or gzipped.

Rows are read lazily. In messages they are counted from 1; a header is no row, and neither is a blank line.
"""

import csv
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from embedllm.data.textfile import is_gzipped, open_bytes, read_lines
from embedllm.errors import InputError

Column = str | int
"""A column's name, or its position from 0 in a file without a header."""

Row = Mapping[Column, Any]
"""Values by column. A column may be missing from a row: that is an empty value."""


@dataclass(frozen=True)
class Table:
    """The rows of a file.

    Attributes:
        columns: all its columns; those of the first object where every row names its own (jsonl).
        rows: the wanted columns of each row, in order; can be read once.
    """

    columns: tuple[Column, ...]
    rows: Iterator[Row]


def open_table(path: Path, wanted: Collection[Column], where: str) -> Table:
    """Open a table; the first row is looked at, and the others as they are asked for.

    Args:
        path: a file whose name has a :func:`file_format`.
        wanted: the columns to keep; they may be missing. An integer means that a csv or tsv file has no header.
        where: what messages begin with: the setting and the file as typed (``data.path: 'foo.csv'``).

    Raises:
        InputError: now or while the rows are read, if the file is empty or is not what its name says.
    """
    return _READERS[file_format(path.name)](path, wanted, where)


def plain(value: Any) -> str:
    """Return a value as text without white space around it; that of no value is empty."""
    return "" if value is None else str(value).strip()


def file_format(name: str) -> str:
    """Return the format that a file name ends in, without ``.gz`` (``.csv``), or an empty string for an unknown one."""
    suffix = Path(name.lower().removesuffix(".gz")).suffix
    return suffix if suffix in _READERS else ""


def _csv_table(path: Path, wanted: Collection[Column], where: str, delimiter: str) -> Table:
    first = next(_csv_records(path, where, delimiter), None)
    if first is None:
        raise InputError(f"{where} is empty")
    numbered = any(isinstance(column, int) for column in wanted)
    columns: tuple[Column, ...] = tuple(range(len(first))) if numbered else tuple(first)
    _refuse_twice(columns, wanted, where)
    return Table(columns, _csv_rows(path, wanted, where, delimiter, columns))


def _csv_rows(
    path: Path, wanted: Collection[Column], where: str, delimiter: str, columns: tuple[Column, ...]
) -> Iterator[Row]:
    records = _csv_records(path, where, delimiter)
    if isinstance(columns[0], str):
        next(records)  # the header
    kept = [(index, column) for index, column in enumerate(columns) if column in wanted]
    for number, fields in enumerate(records, start=1):
        if len(fields) != len(columns):
            raise InputError(
                f"{where} has {len(fields)} fields in row {number} and {len(columns)} in its first line; "
                f"put quotes around text that holds a {delimiter!r}"
            )
        yield {column: fields[index] for index, column in kept}


def _csv_records(path: Path, where: str, delimiter: str) -> Iterator[list[str]]:
    """Yield the fields of all lines that are not blank, the header's too."""
    csv.field_size_limit(2**31 - 1)  # the default refuses texts over 128 KiB
    lines = read_lines(path, where, newline="")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)  # else an open quote swallows the rest of the file
    try:
        for fields in reader:
            if len(fields) > 1 or "".join(fields).strip():
                yield fields
    except csv.Error as error:
        raise InputError(f"{where} cannot be read at line {reader.line_num} ({error}); check its quotes") from error


def _jsonl_table(path: Path, wanted: Collection[Column], where: str) -> Table:
    first = next(filter(None, _json_objects(path, where)), None)
    if first is None:
        raise InputError(f"{where} is empty")
    rows = ({name: row[name] for name in row if name in wanted} for row in _json_objects(path, where))
    return Table(tuple(first), rows)


def _json_objects(path: Path, where: str) -> Iterator[dict[Column, Any]]:
    for number, line in enumerate(read_lines(path, where), start=1):
        if line.isspace():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where} has no JSON in line {number} ({error})") from error
        if not isinstance(row, dict):
            raise InputError(f"{where} has {line.strip()[:40]!r} in line {number}; each line must be a JSON object")
        yield row


def _parquet_table(path: Path, wanted: Collection[Column], where: str) -> Table:
    with _parquet_file(path, where) as file:
        columns = tuple(file.schema_arrow.names)
    _refuse_twice(columns, wanted, where)
    return Table(columns, _parquet_rows(path, where, [column for column in columns if column in wanted]))


def _parquet_rows(path: Path, where: str, columns: list[Column]) -> Iterator[Row]:
    with _parquet_file(path, where) as file:
        for batch in file.iter_batches(columns=columns):
            yield from batch.to_pylist()


@contextmanager
def _parquet_file(path: Path, where: str) -> Iterator[Any]:
    from pyarrow import ArrowException, parquet

    with open_bytes(path, where) as file:
        source = io.BytesIO(file.read()) if is_gzipped(path) else path  # parquet is read from its end
        try:
            yield parquet.ParquetFile(source)
        except (ArrowException, OSError) as error:
            raise InputError(f"{where} is not a whole parquet file ({' '.join(str(error).split())})") from error


def _refuse_twice(columns: tuple[Column, ...], wanted: Collection[Column], where: str) -> None:
    twice = [column for column in wanted if columns.count(column) > 1]
    if twice:
        raise InputError(f"{where} has the column {min(map(str, twice))!r} more than once in its header")


_READERS: dict[str, Callable[[Path, Collection[Column], str], Table]] = {
    ".csv": partial(_csv_table, delimiter=","),
    ".tsv": partial(_csv_table, delimiter="\t"),
    ".jsonl": _jsonl_table,
    ".parquet": _parquet_table,
}
SUFFIXES = tuple(_READERS)
"""The known formats, as file names end; each may be followed by ``.gz``."""
