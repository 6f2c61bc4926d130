"""Turns the columns of a mirrored file into those of mteb's own data set; values that mteb would accept are kept."""

import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

from embedllm.errors import InputError
from embedllm.eval.checks import Columns, finite_score, pair_label

_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]*")


def column_names(task: Any) -> tuple[tuple[str, ...], str]:
    """Return the names of the columns that hold texts, and of the one that holds labels or scores.

    Raises:
        InputError: The task is of a type that a mirror cannot hold.
    """
    kind = task.metadata.type
    if kind == "STS":
        return tuple(task.column_names), "score"
    if kind == "PairClassification":
        return (task.input1_column_name, task.input2_column_name), task.label_column_name
    if kind in ("Clustering", "Classification"):
        return (task.input_column_name,), task.label_column_name
    raise InputError(
        f"eval.mirror: {task.metadata.name!r} is a {kind} task; a mirror holds clustering, classification, STS and "
        "pair classification, so leave the task or the mirror out"
    )


def convert(task: Any, columns: Columns, where: str, *, untyped: bool) -> Columns:
    """Return the columns with the types of mteb's data set.

    Args:
        task: Whose columns they are.
        columns: All columns of :func:`column_names`.
        where: What messages begin with.
        untyped: Whether all values are texts, as in csv; then labels that are all whole numbers become numbers.

    Raises:
        InputError: A text, a label or a score cannot be used.
    """
    from mteb.abstasks import AbsTaskClusteringLegacy

    texts, target = column_names(task)
    kind = task.metadata.type
    packed = all(len(values) == 1 and isinstance(values[0], list) for values in columns.values())
    if kind == "PairClassification" and packed:
        columns = {name: values[0] for name, values in columns.items()}  # as mteb unpacks its older sets
    if isinstance(task, AbsTaskClusteringLegacy):
        return _sets(columns, texts[0], target, where)
    for name in texts:
        _require_texts(columns[name], name, where)
    values = columns[target]
    if kind == "STS":
        return {**columns, target: [finite_score(value, row, where) for row, value in enumerate(values, 1)]}
    if kind == "PairClassification":
        return {**columns, target: [pair_label(value, row, where) for row, value in enumerate(values, 1)]}
    return {**columns, target: _labels(values, target, where, untyped=untyped, listed=kind == "Clustering")}


def count(task: Any, rows: Any) -> tuple[int, int]:
    """Return how many documents (or pairs) and different labels a data set has, lists of them taken apart."""
    texts, target = column_names(task)
    documents = sum(len(value) if isinstance(value, list) else 1 for value in rows[texts[0]])
    labels = (value if isinstance(value, list) else [value] for value in rows[target])
    return documents, len(set(chain.from_iterable(labels)))


def _sets(columns: Columns, texts: str, target: str, where: str) -> Columns:
    """Check the rows of a task of the first MTEB, each of which is a set that is clustered by itself."""
    for row, (documents, labels) in enumerate(zip(columns[texts], columns[target], strict=True), 1):
        if not isinstance(documents, list) or not isinstance(labels, list):
            raise InputError(
                f"{where}: a row of this task is a set, so {texts!r} and {target!r} must hold lists (jsonl or "
                f"parquet); row {row} does not"
            )
        if len(documents) != len(labels) or not documents:
            raise InputError(f"{where} has {len(documents)} texts and {len(labels)} labels in row {row}")
        _require_texts(documents, texts, f"{where}, row {row}")
    return columns


def _require_texts(values: Sequence[Any], name: str, where: str) -> None:
    """Raise for what is no text; an empty one is left to mteb."""
    for row, value in enumerate(values, 1):
        if not isinstance(value, str):
            raise InputError(f"{where} has {value!r} in row {row} of column {name!r}, which is not a text")


def _labels(values: list[Any], name: str, where: str, *, untyped: bool, listed: bool) -> list[Any]:
    if untyped and all(value.startswith("[") and value.endswith("]") for value in values):
        raise InputError(f"{where} has lists in column {name!r}; a list of labels needs jsonl or parquet")
    if untyped and all(_WHOLE_NUMBER.fullmatch(value) for value in values):
        return [int(value) for value in values]
    allowed = (str, int, float, list) if listed else (str, int, float)
    for row, value in enumerate(values, 1):
        no_label = not isinstance(value, allowed) or value != value or (untyped and not value)
        if no_label or type(value) is not type(values[0]):
            lists = ", or all lists of them" if listed else ""
            raise InputError(
                f"{where} has the label {value!r} in row {row}; labels must be all texts or all numbers{lists}"
            )
    return values
