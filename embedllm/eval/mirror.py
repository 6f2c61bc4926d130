"""Reads the data of mteb's own tasks from a folder (``eval.mirror``) instead of the Hub.

The layout is ``DIR/<task>/<split>.<format>``, as in ``DIR/STS12/test.csv``: csv, tsv, jsonl or parquet, each plain or
with ``.gz``. Classification has its training split beside those that are scored. A task of several subsets that are
all scored has a folder for each, ``DIR/ClusTREC-Covid/title/test.jsonl``; with one subset it may be left out.

A file holds the columns of mteb's own data set as its ``dataset_transform`` leaves it: ``sentences`` and ``labels``
(clustering), ``text`` and ``label`` (classification), ``sentence1``, ``sentence2`` and ``score`` (STS) or ``labels``
(pair classification); others are ignored. On a machine with a network, a task is written with

    task = mteb.get_task("STS12")
    task.load_data()
    task.dataset["test"].to_parquet("DIR/STS12/test.parquet")

How a task samples, evaluates and scores stays mteb's own.
"""

import logging
from itertools import chain
from pathlib import Path
from typing import Any

from embedllm.data.formats import Table, file_format, open_table
from embedllm.errors import InputError
from embedllm.eval.checks import Columns
from embedllm.eval.mirror_columns import column_names, convert, count
from embedllm.eval.mirror_files import task_files, where

logger = logging.getLogger(__name__)


def check_mirror(task: Any, mirror: Path) -> None:
    """Look whether the files of a task are there and have its columns, without reading them whole.

    Raises:
        InputError: A folder, a split, a column or the rows of a file are missing, or no mirror holds such tasks.
    """
    column_names(task)
    for _, _, path in task_files(task, mirror):
        _open(task, path)


def load_mirror(task: Any, mirror: Path) -> None:
    """Put the mirror's data into ``task``, which then needs no ``load_data``.

    Raises:
        InputError: As for :func:`check_mirror`, or a value cannot be used.
    """
    from datasets import DatasetDict

    splits: dict[str, Any] = {}
    for subset, split, path in task_files(task, mirror):
        rows = _read(task, path)
        _warn_of_other_data(task, subset, split, rows)
        splits.setdefault(subset, DatasetDict())[split] = rows
    task.dataset = splits["default"] if list(splits) == ["default"] else splits  # the two shapes that mteb itself has
    task.data_loaded = True


def _open(task: Any, path: Path) -> Table:
    """Open a file that has all columns of the task and a row."""
    texts, target = column_names(task)
    table = open_table(path, (*texts, target), where(path))
    missing = [name for name in (*texts, target) if name not in table.columns]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise InputError(
            f"{where(path)} lacks the column{plural} {', '.join(missing)} of {task.metadata.name}; "
            f"it has {[str(name) for name in table.columns]!r}"
        )
    first = next(table.rows, None)
    if first is None:
        raise InputError(f"{where(path)} has no rows")
    return Table(table.columns, chain([first], table.rows))


def _read(task: Any, path: Path) -> Any:
    from datasets import Dataset
    from pyarrow import ArrowException

    rows = list(_open(task, path).rows)
    texts, target = column_names(task)
    columns: Columns = {name: [row.get(name) for row in rows] for name in (*texts, target)}
    untyped = file_format(path.name) in (".csv", ".tsv")
    try:
        return Dataset.from_dict(convert(task, columns, where(path), untyped=untyped))
    except (ArrowException, UnicodeEncodeError) as error:
        raise InputError(f"{where(path)} holds values that are no table ({' '.join(str(error).split())})") from error


def _warn_of_other_data(task: Any, subset: str, split: str, rows: Any) -> None:
    """Hold the data against mteb's statistics of its own: a score under a task's name should be that task's."""
    known = (task.metadata.descriptive_stats or {}).get(split) or {}
    subsets = known.get("hf_subset_descriptive_stats")
    known = subsets.get(subset, {}) if subsets else known
    labels = known.get("labels_statistics") or known.get("label_statistics") or {}
    expected = known.get("num_samples"), labels.get("unique_labels")
    found = count(task, rows)
    for noun, ours, theirs in zip(("documents", "labels"), found, expected, strict=True):
        if theirs is not None and ours != theirs:
            logger.warning(
                "eval.mirror: %s has %d %s in %r, and mteb's own data %d; the scores are not comparable",
                task.metadata.name,
                ours,
                noun,
                split,
                theirs,
            )
