"""Read a source of training pairs, and say in one sentence why it cannot be trained on."""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from embedllm.data.formats import Column, Row, Table, plain
from embedllm.data.sources import fingerprint, open_source
from embedllm.data.tables import LabelTable, Pair, PairSummary, PairTable
from embedllm.errors import InputError

__all__ = ["LabelTable", "Pair", "PairSummary", "PairTable", "fingerprint", "read_pairs"]

logger = logging.getLogger(__name__)

DEFAULT_POSITIVE = "positive"
"""The one column that a source may lack: it then holds single texts."""


def read_pairs(
    path: str,
    *,
    anchor: Column = "anchor",
    positive: Column | None = DEFAULT_POSITIVE,
    label: Column | None = None,
    negative: Column | Sequence[Column] | None = None,
    max_pairs: int | None = None,
    augmented: bool = False,
) -> PairTable:
    """Read the pairs of ``data.path``. Columns are never guessed; white space around a text does not count.

    A source without the column ``positive`` holds single texts. With ``label``, another text of the same label is the
    positive; else anchor and positive are the same text, which only makes sense when ``augmented``.

    Args:
        path: csv, tsv, jsonl, parquet or txt (one text a line), each also as .gz; ``embedded:NAME``;
            ``hub:owner/name[:config][:split]``.
        anchor: column of the anchors. An integer is a position, from 0, in a csv or tsv file without a header.
        positive: column of the positives; None: there is none.
        label: column of the classes; pairs of one class are no negatives of each other.
        negative: one or more columns of hard negatives; a value may be a list of texts.
        max_pairs: keep the first so many pairs (or texts), and read no further.
        augmented: whether an augmenter will change the positives.

    Raises:
        InputError: naming ``data.path`` or the column's setting, if nothing can be trained on.
    """
    if max_pairs is not None and max_pairs < 1:
        raise InputError(f"data.max_pairs: {max_pairs!r} is not a positive number; null reads all")
    negatives = () if negative is None else (negative,) if isinstance(negative, str | int) else tuple(negative)
    wanted = [column for column in (anchor, positive, label, *negatives) if column is not None]
    name = str(path)
    table = open_source(name, wanted)
    columns = _Columns(
        anchor, _find_positive(name, table, anchor, positive, label is not None or augmented), label, negatives
    )
    _require(name, table, columns)
    if columns.positive is None and label is None:
        _tell_of_other_columns(name, table, anchor)
    pairs, summary = _collect(name, table, columns, max_pairs)
    _check_views(name, columns, pairs, augmented)
    if label is not None and columns.positive is None:
        result: PairTable = _pair_by_label(name, pairs, summary)
    else:
        result = PairTable(pairs, summary)
    logger.info("%s: %s", name, result.summary)
    return result


class _Columns(NamedTuple):
    anchor: Column
    positive: Column | None
    label: Column | None
    negatives: tuple[Column, ...]


def _find_positive(name: str, table: Table, anchor: Column, positive: Column | None, optional: bool) -> Column | None:
    """Return the column of positives, or None for a source of single texts."""
    if positive in table.columns:
        return positive
    if positive not in (None, DEFAULT_POSITIVE):
        raise _missing(name, table, "data.positive", positive)
    if positive is not None and isinstance(anchor, int) and len(table.columns) > 1:
        raise InputError(
            f"data.positive: {positive!r} is a name, but data.anchor={anchor} is a position, as there is no header; "
            "give a position, or null if there are no positives"
        )
    if not optional:
        raise InputError(
            f"data.positive: no column {positive or DEFAULT_POSITIVE!r} in {name!r} (it has {_listed(table)}), "
            "and single texts need data.augment or data.label to make positives"
        )
    return None


def _tell_of_other_columns(name: str, table: Table, anchor: Column) -> None:
    """Say that positives are made of the anchors, if another column might hold them."""
    others = [str(column) for column in table.columns if column != anchor]
    if others:
        logger.info(
            "%s: no column %r (data.positive), so positives are made of the anchors; it also has %s",
            name,
            DEFAULT_POSITIVE,
            ", ".join(others),
        )


def _require(name: str, table: Table, columns: _Columns) -> None:
    settings = [("data.anchor", columns.anchor), ("data.label", columns.label)]
    settings += [("data.negative", column) for column in columns.negatives]
    for setting, column in settings:
        if column is not None and column not in table.columns:
            raise _missing(name, table, setting, column)


def _missing(name: str, table: Table, setting: str, column: Column | None) -> InputError:
    return InputError(f"{setting}: no column {column!r} in {name!r}; it has {_listed(table)}")


def _listed(table: Table) -> str:
    return ", ".join(str(column) for column in table.columns) or "none"


def _collect(name: str, table: Table, columns: _Columns, max_pairs: int | None) -> tuple[list[Pair], PairSummary]:
    """Return the distinct pairs in order, and what was dropped."""
    kept: dict[Pair, None] = {}
    rows = empty = 0
    for rows, row in enumerate(table.rows, start=1):
        pair = _to_pair(row, columns, rows)
        if pair is None:
            empty += 1
        else:
            kept.setdefault(pair)
        if len(kept) == max_pairs:
            break
    if not kept:
        what = f"{rows} rows, all of them empty" if rows else "no rows"
        raise InputError(f"data.path: {name!r} has {what}")
    identical = sum(pair.anchor == pair.positive for pair in kept)
    return list(kept), PairSummary(rows, len(kept), empty, rows - empty - len(kept), identical=identical)


def _to_pair(row: Row, columns: _Columns, number: int) -> Pair | None:
    """Return the pair of a row, or None where something it needs is empty."""
    anchor = _text(row.get(columns.anchor), columns.anchor, number)
    positive = anchor if columns.positive is None else _text(row.get(columns.positive), columns.positive, number)
    label = None if columns.label is None else plain(row.get(columns.label))
    if not anchor or not positive or label == "":
        return None
    negatives: list[str] = []
    for column in columns.negatives:
        value = row.get(column)
        negatives += [_text(text, column, number) for text in (value if isinstance(value, list) else [value])]
    return Pair(anchor, positive, tuple(filter(None, negatives)), label)


def _text(value: Any, column: Column, number: int) -> str:
    if value is not None and not isinstance(value, str):
        raise InputError(f"data.path: row {number} has {str(value)[:40]!r} in column {column!r}, which is not text")
    return (value or "").strip()


def _check_views(name: str, columns: _Columns, pairs: Sequence[Pair], augmented: bool) -> None:
    """Raise if the loss could learn nothing: no two texts that differ, or no two pairs of different classes."""
    if columns.positive is not None and not augmented and all(pair.anchor == pair.positive for pair in pairs):
        raise InputError(
            f"data.positive: column {columns.positive!r} of {name!r} repeats {columns.anchor!r} in every row; "
            "name another column or set data.augment"
        )
    if columns.label is not None and len({pair.label for pair in pairs}) == 1:
        raise InputError(
            f"data.label: every row of {name!r} has the label {pairs[0].label!r}, so there are no negatives"
        )


def _pair_by_label(name: str, texts: Sequence[Pair], summary: PairSummary) -> LabelTable:
    sizes = Counter(text.label for text in texts)
    pairs = [text for text in texts if sizes[text.label] > 1]
    if not pairs:
        raise InputError(f"data.label: no two texts of {name!r} have the same label")
    groups: dict[str | None, list[int]] = defaultdict(list)
    for index, pair in enumerate(pairs):
        groups[pair.label].append(index)
    summary = replace(summary, pairs=len(pairs), singletons=len(texts) - len(pairs), identical=0)
    return LabelTable(pairs, summary, groups)
