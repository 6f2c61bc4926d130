"""Checks the columns of a task file: what a score can be computed from, and nothing else, gets past them."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from embedllm.errors import InputError

Columns = dict[str, list[Any]]
"""Values by column name; all columns have the same number of rows."""


def check_clustering(columns: Columns, where: str) -> Columns:
    """Return ``text`` and ``label`` as strings; a label may occur once, but there must be two labels or more.

    Raises:
        InputError: A text or a label is missing or empty, or there is one label only.
    """
    labels = _labels(columns["label"], where)
    if len(set(labels)) < 2:
        raise InputError(f"{where} has the one label {labels[0]!r} in all {len(labels)} rows; it needs two or more")
    return {"text": _texts(columns, "text", where), "label": labels}


def check_classification(columns: Columns, where: str) -> Columns:
    """Return ``text`` and ``label`` as strings; each label must occur twice: once to train on and once to test.

    Raises:
        InputError: As for clustering, or a label occurs once.
    """
    checked = check_clustering(columns, where)
    single = [label for label, count in Counter(checked["label"]).items() if count < 2]
    if single:
        raise InputError(
            f"{where} has {_count(len(single), 'label')} that occur{'s' if len(single) == 1 else ''} once "
            f"(such as {single[0]!r}); one half of a label is trained on and one tested, so each needs two"
        )
    return checked


def check_sts(columns: Columns, where: str) -> Columns:
    """Return ``sentence1`` and ``sentence2`` as strings and ``score`` as floats, of which there must be two different.

    Raises:
        InputError: A sentence is missing or empty, a score is not a finite number, or all scores are equal.
    """
    scores = [finite_score(value, row, where) for row, value in enumerate(columns["score"], 1)]
    if len(set(scores)) < 2:
        raise InputError(f"{where} has the one score {scores[0]} in all {len(scores)} rows; it needs two or more")
    sentences = {name: _texts(columns, name, where) for name in ("sentence1", "sentence2")}
    return {**sentences, "score": scores}


def check_pairs(columns: Columns, where: str) -> Columns:
    """Return ``sentence1`` and ``sentence2`` as strings and ``label`` as integers, of which there must be both 0 and 1.

    Raises:
        InputError: A sentence is missing or empty, a label is not 0 or 1, or all labels are equal.
    """
    labels = [pair_label(value, row, where) for row, value in enumerate(columns["label"], 1)]
    if len(set(labels)) < 2:
        raise InputError(f"{where} has the one label {labels[0]} in all {len(labels)} rows; it needs both 0 and 1")
    sentences = {name: _texts(columns, name, where) for name in ("sentence1", "sentence2")}
    return {**sentences, "label": labels}


def finite_score(value: Any, row: int, where: str) -> float:
    """Return the score of a pair as a float.

    Raises:
        InputError: It is not a finite number; the message names the row.
    """
    number = _number(value)
    if not math.isfinite(number):
        raise InputError(f"{where} has the score {value!r} in row {row}; a score must be a finite number")
    return number


def pair_label(value: Any, row: int, where: str) -> int:
    """Return the label of a pair, 0 or 1.

    Raises:
        InputError: It is anything else; the message names the row.
    """
    number = _number(value)
    if number not in (0.0, 1.0):
        raise InputError(f"{where} has the label {value!r} in row {row}; the label of a pair must be 0 or 1")
    return int(number)


def _texts(columns: Columns, name: str, where: str) -> list[str]:
    values = columns[name]
    _refuse(values, _is_blank, f"empty text in column {name!r}", where)
    _refuse(values, lambda value: not isinstance(value, str), f"value in column {name!r} that is not a text", where)
    _refuse(values, _is_broken, f"text in column {name!r} with half of a surrogate pair", where)
    return values


def _labels(values: Sequence[Any], where: str) -> list[str]:
    _refuse(values, _is_blank, "empty label", where)
    _refuse(values, lambda value: not isinstance(value, str | int | float), "label that is no text or number", where)
    return [str(value) for value in values]


def _number(value: Any) -> float:
    """Return a number, or a text that spells one, as a float; NaN for anything else."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def _is_broken(value: str) -> bool:
    """Tell a text that UTF-8 cannot spell; JSON can, by half of a surrogate pair."""
    return any("\ud800" <= character <= "\udfff" for character in value)


def _is_blank(value: Any) -> bool:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return missing or (isinstance(value, str) and not value.strip())


def _refuse(values: Sequence[Any], is_bad: Callable[[Any], bool], what: str, where: str) -> None:
    """Raise if any value is bad, with how many are and where the first one is."""
    bad = [row for row, value in enumerate(values, 1) if is_bad(value)]
    if bad:
        raise InputError(f"{where}: {what} in {len(bad)} of {_count(len(values), 'row')} (the first is row {bad[0]})")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
