"""MTEB tasks by name: finds them, loads their data, and cuts it down to ``eval.max_documents``."""

import difflib
import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from embedllm.errors import InputError
from embedllm.eval.hub_access import local_copies_only
from embedllm.eval.mirror import load_mirror
from embedllm.eval.sampling import sample_rows
from embedllm.eval.suites import suite_names

_ENGLISH = "eng-Latn"

logger = logging.getLogger(__name__)


def find_hub_task(name: str, setting: str = "eval.tasks") -> Any:
    """Return a fresh mteb task, its data not yet loaded.

    A task of the benchmark ``MTEB(eng, v2)`` is taken with that benchmark's languages and splits. Any other is taken
    with its English-only parts and its test split where it has such, and whole where it has none.

    Args:
        name: of the task.
        setting: where it was typed.

    Raises:
        InputError: No task has this name, or it is not about text alone.
    """
    import mteb

    try:
        task = mteb.get_task(name)
    except KeyError:
        raise InputError(_unknown_name(name, setting)) from None
    if task.modalities != ["text"]:
        raise InputError(f"{setting}: {name!r} is about {', '.join(task.modalities)}; only text can be embedded")
    for listed in mteb.get_benchmark("MTEB(eng, v2)").tasks:
        if listed.metadata.name == task.metadata.name:
            return mteb.get_task(listed.metadata.name, hf_subsets=listed.hf_subsets, eval_splits=listed.eval_splits)
    languages = task.metadata.hf_subsets_to_langscripts
    english = [subset for subset, scripts in languages.items() if set(scripts) == {_ENGLISH}]
    splits = ["test"] if "test" in task.metadata.eval_splits else None
    return mteb.get_task(task.metadata.name, hf_subsets=english or None, eval_splits=splits)


def load_hub_task(task: Any, max_documents: int | None, *, online: bool, mirror: Path | None = None) -> Any:
    """Return ``task`` with its data in it, of which at most ``max_documents`` are embedded where that is meaningful.

    A task made of other tasks (``CQADupstackRetrieval``) loads its parts later, whole.

    Args:
        task: As :func:`find_hub_task` returned it; it is changed.
        max_documents: Bounds each evaluated split. Documents of clustering, pairs, test documents of classification.
        online: If False, only data already on this machine are used.
        mirror: Read the data from this folder, whatever ``online`` says; see :mod:`embedllm.eval.mirror`.

    Raises:
        InputError: The mirror lacks something.
        OSError: The data are not to be had (and whatever else the loading raises).
    """
    if mirror is not None:
        load_mirror(task, mirror)
    elif not task.is_aggregate:
        with nullcontext() if online else local_copies_only():
            task.load_data()
    if max_documents is not None:
        _limit(task, max_documents)
    _check_size(task)
    return task


def _check_size(task: Any) -> None:
    """Warn of a clustering of which mteb draws fewer documents than there are labels, as of a small mirror."""
    from mteb.abstasks import AbsTaskClustering

    if not isinstance(task, AbsTaskClustering):
        return
    for rows in (splits[split] for split, splits in _parts(task)):
        labels = {str(label[0] if isinstance(label, list) else label) for label in rows[task.label_column_name]}
        if (drawn := _documents(task, rows)) < len(labels):
            logger.warning(
                "%s: of %d documents mteb draws %d, fewer than the %d labels, so its score says nothing",
                task.metadata.name,
                len(rows),
                drawn,
                len(labels),
            )


def _limit(task: Any, max_documents: int) -> None:
    from mteb import abstasks

    by_row = (
        abstasks.AbsTaskClustering,
        abstasks.AbsTaskClassification,
        abstasks.AbsTaskPairClassification,
        abstasks.AbsTaskSTS,
    )
    if not isinstance(task, by_row):
        kind = task.metadata.type.lower()
        logger.warning(
            "eval.max_documents: %s is scored whole, since a part of a %s task is another task",
            task.metadata.name,
            kind,
        )
        return
    parts = _parts(task)
    embedded = [_documents(task, splits[split]) for split, splits in parts]
    if max(embedded) <= max_documents:
        return  # mteb draws as few by itself: the score stays exactly its own
    for split, splits in parts:
        rows = _unpacked(task, splits[split])
        splits[split] = rows.select(sample_rows(len(rows), min(max_documents, _documents(task, rows))))
    if isinstance(task, abstasks.AbsTaskClustering):
        task.max_fraction_of_documents_to_embed = task.max_document_to_embed = None


def _parts(task: Any) -> list[tuple[str, Any]]:
    """Return each split that is evaluated, with the splits of its subset."""
    return [(split, splits_of(task, subset)) for subset in task.hf_subsets for split in task.eval_splits]


def splits_of(task: Any, subset: str) -> Any:
    """Return the splits of a subset by name, found as mteb itself finds them."""
    return task.dataset if subset not in task.dataset and subset == "default" else task.dataset[subset]


def _documents(task: Any, rows: Any) -> int:
    """Return how many rows mteb would embed (clustering tasks draw a part of theirs)."""
    fraction = getattr(task, "max_fraction_of_documents_to_embed", None)
    bound = int(fraction * len(rows)) if fraction is not None else getattr(task, "max_document_to_embed", None)
    rows = _unpacked(task, rows)
    return len(rows) if bound is None else min(bound, len(rows))


def _unpacked(task: Any, rows: Any) -> Any:
    """Return one pair a row: old pair classification sets hold one row of lists."""
    from datasets import Dataset
    from mteb.abstasks import AbsTaskPairClassification

    packed = isinstance(task, AbsTaskPairClassification) and len(rows) == 1
    return Dataset.from_dict(rows[0]) if packed else rows


def _unknown_name(name: str, setting: str) -> str:
    import mteb

    names = [task.metadata.name for task in mteb.get_tasks(modalities=["text"], exclusive_modality_filter=True)]
    close = difflib.get_close_matches(name, [*names, *suite_names()], n=3)
    hint = f"; the nearest are {', '.join(close)}" if close else ""
    return f"{setting}: {name!r} is no MTEB task{hint} (write a local file with its suffix or as ./{name})"
