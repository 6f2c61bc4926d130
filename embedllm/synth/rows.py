"""Read the texts that pairs are made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from embedllm.data.formats import Column
from embedllm.data.sources import fingerprint, open_source
from embedllm.errors import InputError
from embedllm.synth.draft import Item

SETTING = "FILE"
"""What messages call the source."""


@dataclass(frozen=True)
class SourceRows:
    """The rows of a file, ``embedded:NAME`` or ``hub:NAME``, read once and held in memory.

    Attributes:
        items: one for each row, empty texts included, so that the number of a row is its place in the file.
        digest: SHA-256 of the file.
    """

    items: Sequence[Item]
    digest: str

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


def read_rows(
    source: str, *, column: Column, fields: Sequence[str] = (), seed: int = 0, limit: int | None = None
) -> SourceRows:
    """Read a source.

    Args:
        source: as for ``data.path``.
        column: of the texts.
        fields: other columns to keep.
        seed: of the run.
        limit: read the first so many rows only; None: all.

    Raises:
        InputError: it cannot be read, lacks a column, or has no text at all.
    """
    table = open_source(source, [column, *fields], SETTING)
    for name, setting in [(column, "column"), *((name, "the generator") for name in fields)]:
        if name not in table.columns:
            listed = ", ".join(map(str, table.columns))
            raise InputError(f"{setting}: no column {name!r} in {source!r}; it has {listed}")
    items: list[Item] = []
    for number, row in enumerate(table.rows):
        if number == limit:
            break
        text = row.get(column)
        if text is not None and not isinstance(text, str):
            raise InputError(f"{SETTING}: row {number + 1} of {source!r} has {str(text)[:40]!r}, which is not text")
        text = whole_characters(text or "").strip()
        items.append(Item(number, text, seed, fields={name: whole_characters(row.get(name)) for name in fields}))
    if not any(item.text for item in items):
        raise InputError(f"{SETTING}: {source!r} has no text in column {column!r} ({len(items)} rows)")
    return SourceRows(items, fingerprint(source, SETTING))


def whole_characters(value: Any) -> Any:
    """Return a text with U+FFFD for each half of a character, which JSON can hold and a file in UTF-8 cannot."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else value
